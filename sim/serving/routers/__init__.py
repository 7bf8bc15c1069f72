"""Routers, one file each: `HELP`, `OPTIONS` and `route(fleet, request) -> replica`."""
