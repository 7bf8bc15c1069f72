"""The power of two choices: of two different replicas drawn at random, the one with fewer requests
(Mitzenmacher, 2001)."""

from kernels.engine.records import Fleet
from kernels.engine.routing import draw, num_replica, outstanding, seed

HELP = "of two replicas drawn at random, the one with fewer requests"


def route(f: Fleet, i: int) -> int:
    num = num_replica(f)
    first = draw(seed(f), i, 1, num)
    if num == 1:
        return first
    second = (first + 1 + draw(seed(f), i, 2, num - 1)) % num
    if outstanding(f, second) < outstanding(f, first):
        return second
    return first
