"""A model larger than its device: tensors shared out over device, host and disk, a layer at a time for many batches."""
