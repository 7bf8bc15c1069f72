"""Against real hardware: calibration, real runs, fits of engine profiles."""
