"""Each request to the replica with the fewest tokens: prompts and what was produced of all that wait or run."""

from kernels.engine.records import Fleet
from kernels.engine.routing import load_token, num_replica

HELP = "to the replica with the fewest tokens waiting or running"


def route(f: Fleet, i: int) -> int:
    best = 0
    for k in range(1, num_replica(f)):
        if load_token(f, k) < load_token(f, best):
            best = k
    return best
