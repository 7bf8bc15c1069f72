"""Routers, one file each: `HELP`, `OPTIONS` and `route(fleet, request) -> replica`, with what `kernels.engine.routing`
lets it look at."""
