"""Each request to the next replica in turn."""

from kernels.engine.records import Fleet
from kernels.engine.routing import num_replica

HELP = "each request to the next replica in turn"


def route(f: Fleet, i: int) -> int:
    k = f.memory[1]
    f.memory[1] = (k + 1) % num_replica(f)
    return k
