"""The serving engine: records, stores, verbs, steps and parties; state is record arrays, compiled functions work on them."""
