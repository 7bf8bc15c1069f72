"""One question a file: `run(...) -> DataFrame`, `plot(df) -> Figure`, and the claim that it checks."""
