"""Each request to a replica drawn at random."""

from kernels.serving.draw import draw
from kernels.serving.layout import Fleet

HELP = "each request to a replica drawn at random"


def route(f: Fleet, i: int) -> int:
    return draw(f.memory[0], i, 0, len(f.reg))
