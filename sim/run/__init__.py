"""What is run: scenarios, set-up, one simulation, capacity, comparisons."""
