"""The very first run: compiled kernels are not on disk yet, so two processes compile them side by side.

A child compiles the parts that price and repeat a step and then what fills the price table, while this process compiles
the policy and the parts that end a step, waits for the child's first half, and compiles the loop of all these parts;
both leave what they compiled in the cache folder. Later runs find marks there and start nothing.
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hw_models.process import child_environment, end_with_parent
from kernels import cache
from kernels.jit import PLAIN

STEPS = (cache.ROOT / "engine" / "advance.py", "steps_compiled")
PRICE = (cache.ROOT / "price.py", "price_compiled")
LINKS = (cache.ROOT / "price.py", "links_compiled")
WITH_LINKS = "links"
WAIT_S = 0.05

Child = subprocess.Popen[bytes]


def start(has_links: bool) -> Child | None:
    """A child that compiles its half, that of collectives too where there are links to price, or None where all is
    compiled already, nothing can be kept, or nothing is."""
    needed = (STEPS, PRICE, LINKS) if has_links else (STEPS, PRICE)
    if PLAIN or cache.base() is None or all(cache.is_marked(*mark) for mark in needed):
        return None
    return subprocess.Popen(
        [sys.executable, "-m", "sim.run.warm", *([WITH_LINKS] if has_links else [])],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=child_environment(),
    )  # fmt: skip


def compile_ends(child: Child | None) -> None:
    """With a child: compile what ends a step, and wait until the child has compiled what prices one. Where it failed,
    this process compiles for itself."""
    if child is None:
        return
    from numba import int64

    from kernels.engine.advance import open_lane
    from kernels.engine.commit import commit
    from kernels.engine.party import place
    from kernels.engine.types import ENGINE_TYPE, WORLD_TYPE

    _compile(commit, ENGINE_TYPE)
    _compile(open_lane, ENGINE_TYPE, int64, int64)
    _compile(place, WORLD_TYPE, int64, int64)
    while not cache.is_marked(*STEPS) and child.poll() is None:
        time.sleep(WAIT_S)


def wait(child: Child | None) -> None:
    """Until the child has ended."""
    if child is not None:
        child.wait()


def compile_steps() -> None:
    """Compile what prices a step and what repeats one, for the loop's types, and leave the mark."""
    from numba import int64

    from kernels.engine.begin import begin, begin_repeat
    from kernels.engine.price import PRICE_TYPE
    from kernels.engine.repeat import repeat_ahead
    from kernels.engine.types import ENGINE_TYPE

    for function, num_integer in ((begin, 3), (begin_repeat, 2), (repeat_ahead, 3)):
        _compile(function, ENGINE_TYPE, PRICE_TYPE, *(int64,) * num_integer)
    cache.mark(*STEPS)


def _compile(function: Any, *types: Any) -> None:
    """As a part of the loop (`kernels.parts`)."""
    function.part.compile(types)


def compile_price(classes: tuple[int, ...], mark: tuple[Path, str]) -> None:
    """Price no rows of these classes of operators: compiles their kernels, and leaves the mark."""
    import numpy as np

    from kernels.machine import blank
    from kernels.optable import COST_DTYPE, empty
    from kernels.price import price_class, price_table

    machine, (ops, work) = blank(), empty(0)
    price_table(ops, work, machine)
    for c in classes:
        price_class(c, ops, np.zeros(0, np.int64), work, machine, np.zeros(0, COST_DTYPE))
    cache.mark(*mark)


if __name__ == "__main__":
    end_with_parent()
    from kernels.price import LINK, MULTIPLY, STREAM

    compile_steps()
    compile_price((MULTIPLY, STREAM), PRICE)
    if WITH_LINKS in sys.argv[1:]:
        compile_price((LINK,), LINKS)
