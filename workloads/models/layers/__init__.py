"""One file a kind of layer that keeps a state instead of keys and values, or that only some families have."""
