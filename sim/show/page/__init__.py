"""A run, a sweep or a recommendation as one HTML page that needs no network: `run_page`, `points_page`."""
