"""The power of two choices: of two different replicas drawn at random, the one with fewer requests
(Mitzenmacher, 2001)."""

from kernels.serving.draw import draw
from kernels.serving.layout import OUTSTANDING, Fleet

HELP = "of two replicas drawn at random, the one with fewer requests"


def route(f: Fleet, i: int) -> int:
    num = len(f.reg)
    first = draw(f.memory[0], i, 1, num)
    if num == 1:
        return first
    second = (first + 1 + draw(f.memory[0], i, 2, num - 1)) % num
    if f.reg[second, OUTSTANDING] < f.reg[first, OUTSTANDING]:
        return second
    return first
