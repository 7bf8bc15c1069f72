"""Training as it was priced by constants fitted to published step times, for the studies that still rest on it."""
