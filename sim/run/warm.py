"""The very first run: compiled kernels are not on disk yet, so two processes compile them side by side.

A child compiles what prices and repeats a step and then the price table, while this process compiles the policy and
what ends a step, waits for the child's first half, and compiles the loop around all of it; both leave what they
compiled in the cache folder. Later runs find a mark there and start nothing.
"""

import subprocess
import sys
import time
from typing import Any

from hw_models.process import child_environment, end_with_parent
from kernels import cache
from kernels.jit import PLAIN

STEPS = (cache.ROOT / "engine" / "advance.py", "steps_compiled")
PRICE = (cache.ROOT / "price.py", "price_compiled")
WAIT_S = 0.05

Child = subprocess.Popen[bytes]


def start() -> Child | None:
    """A child that compiles its half, or None where all is compiled already, nothing can be kept, or nothing is."""
    if PLAIN or cache.base() is None or (cache.is_marked(*STEPS) and cache.is_marked(*PRICE)):
        return None
    return subprocess.Popen(
        [sys.executable, "-m", "sim.run.warm"],
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
    from kernels.engine.types import ENGINE_TYPE

    _compile(commit, ENGINE_TYPE)
    _compile(open_lane, ENGINE_TYPE, int64, int64)
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
    function.compile(types)


def compile_price() -> None:
    """Price an empty table: compiles for the types that every table has, and leaves the mark."""
    from kernels.machine import blank
    from kernels.optable import empty
    from kernels.price import price_table

    price_table(*empty(0), blank())
    cache.mark(*PRICE)


if __name__ == "__main__":
    end_with_parent()
    compile_steps()
    compile_price()
