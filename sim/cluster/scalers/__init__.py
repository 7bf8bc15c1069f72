"""Rules that say how many engines a pool should have, a file each: `HELP`, `OPTIONS` and `scaler(option)`, which
returns a function from what is seen (`sim.cluster.scaler_files.Seen`) to a number of engines."""
