"""Each request to the replica with the fewest requests not yet ended; the first of equals."""

from kernels.serving.layout import OUTSTANDING, Fleet

HELP = "to the replica with the fewest requests waiting or running"


def route(f: Fleet, i: int) -> int:
    best = 0
    for k in range(1, len(f.reg)):
        if f.reg[k, OUTSTANDING] < f.reg[best, OUTSTANDING]:
            best = k
    return best
