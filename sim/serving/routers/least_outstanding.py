"""Each request to the replica with the fewest requests not yet ended; the first of equals."""

from kernels.engine.records import Fleet
from kernels.engine.routing import num_replica, outstanding

HELP = "to the replica with the fewest requests waiting or running"


def route(f: Fleet, i: int) -> int:
    best = 0
    for k in range(1, num_replica(f)):
        if outstanding(f, k) < outstanding(f, best):
            best = k
    return best
