"""Pipeline schedules: run, drawn, replayed on links."""
