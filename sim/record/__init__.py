"""What came out: records, metrics, energy, export, provenance."""
