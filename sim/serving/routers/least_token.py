"""Each request to the replica with the fewest tokens: prompts and what was produced of all that wait or run."""

from kernels.serving.layout import LOAD_TOKEN, Fleet

HELP = "to the replica with the fewest tokens waiting or running"


def route(f: Fleet, i: int) -> int:
    best = 0
    for k in range(1, len(f.reg)):
        if f.reg[k, LOAD_TOKEN] < f.reg[best, LOAD_TOKEN]:
            best = k
    return best
