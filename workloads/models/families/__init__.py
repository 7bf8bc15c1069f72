"""One file a family of architectures: `MODEL_TYPES` and `read(fields, name) -> ModelSpec`."""
