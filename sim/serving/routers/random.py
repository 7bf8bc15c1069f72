"""Each request to a replica drawn at random."""

from kernels.engine.records import Fleet
from kernels.engine.routing import draw, num_replica, seed

HELP = "each request to a replica drawn at random"


def route(f: Fleet, i: int) -> int:
    return draw(seed(f), i, 0, num_replica(f))
