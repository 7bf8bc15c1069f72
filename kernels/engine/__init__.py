"""The serving engine: records, stores, verbs, steps and parties, as compiled functions over record arrays."""
