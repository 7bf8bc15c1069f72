"""Each request to a replica drawn at random."""

from kernels.engine.routing import draw, num_replica, seed
from kernels.engine.types import Fleet

HELP = "each request to a replica drawn at random"


def route(f: Fleet, i: int) -> int:
    return draw(seed(f), i, 0, num_replica(f))
