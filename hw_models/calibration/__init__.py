"""Constants from measurements: few physical parameters a kernel, fitted on log error, checked on shapes held out."""
