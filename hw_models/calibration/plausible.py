"""What cannot have been measured: rows that beat the speed of light tenfold, or took a hundred times their price."""

import pathlib

import numpy as np
import numpy.typing as npt

from kernels import optable as op
from kernels.errors import InputError
from kernels.machine import L2_BYTE, L2_BYTE_PER_S, LINK_BYTE_PER_S, LINK_UP, MEM_BYTE_PER_S, Machine
from kernels.optable import OpTable

Floats = npt.NDArray[np.float64]

TOO_FAST = 10.0  # times the speed of light: not a measurement
TOO_SLOW = 100.0  # times its price; of the measured sets no row is above 23, prices of the wrong machine among them
SLOWEST_START_S = 1e-5  # an operator that starts so late is still one
LEAST_S = 5e-7  # the start of an operator, shorter than on any device measured (a GPU's kernels take 1 us and more)


def light_s(ops: OpTable, machine: Machine) -> Floats:
    """Seconds that no measurement of these operators can beat: FLOPs at peak; bytes through the second-level cache, or
    through device memory where they are many times what it holds; a message through the device's links; and the
    start of a kernel. Of experts one must have work, and have two matrices; how many do depends on a draw.
    """
    peak = machine.peak_flop_per_s[ops["fmt"]]
    least = np.divide(ops["flop"], peak, out=np.zeros(len(ops)), where=peak > 0)
    expert = np.maximum(np.minimum(ops["num_expert"] / ops["ep"], ops["m"].astype(float) * ops["topk"]), 1.0)
    byte = np.where(ops["kind"] == op.MOE, ops["weight_byte"] / expert * 2 / 3, op.mem_byte(ops))
    for rate, held in ((machine.rate[L2_BYTE_PER_S], 0.0), (machine.rate[MEM_BYTE_PER_S], 8 * machine.rate[L2_BYTE])):
        if rate > 0:
            least = np.maximum(least, np.where(byte >= held, byte / rate, 0.0))
    up = machine.link[LINK_UP, LINK_BYTE_PER_S]
    if up > 0:
        group = np.maximum(ops["group_size"].astype(float), 1.0)
        least = np.maximum(least, ops["link_byte"] * (group - 1.0) / group / up)
    return np.maximum(least, LEAST_S)


def check_light(ops: OpTable, seconds: Floats, machine: Machine, file: pathlib.Path, column: str) -> None:
    """`InputError` with the first row of `file` whose `seconds` (from a `column` of milliseconds; 0 where the timer
    showed nothing) beat the speed of light tenfold."""
    least = light_s(ops, machine)
    bad = (seconds > 0) & (seconds * TOO_FAST < least)
    if bad.any():
        row = int(np.argmax(bad))
        why = f"beats the speed of light of the machine {least[row] / seconds[row]:.0f} times"
        raise _implausible(why, seconds, row, f"at least {least[row] * 1e3 / TOO_FAST:.4g}", file, column)


def slow_rows(seconds: Floats, price_s: Floats) -> npt.NDArray[np.bool_]:
    """Rows that took a hundred times their price; none of those without one."""
    return np.asarray(seconds > TOO_SLOW * np.maximum(price_s, SLOWEST_START_S))


def check_slow(seconds: Floats, price_s: Floats, file: pathlib.Path, column: str) -> None:
    """`InputError` with the first row of `file` whose `seconds` (from a `column` of milliseconds) are a hundred times
    its calibrated price (NaN: not priced): they were counted in a smaller unit."""
    bad = slow_rows(seconds, price_s)
    if bad.any():
        row = int(np.argmax(bad))
        why = f"{TOO_SLOW:.0f} times slower than the machine is"
        raise _implausible(why, seconds, row, f"about {price_s[row] * 1e3:.4g}", file, column)


def _implausible(why: str, seconds: Floats, row: int, near: str, file: pathlib.Path, column: str) -> InputError:
    return InputError(why, file=file, line=row + 2, field=column, value=float(f"{seconds[row] * 1e3:.6g}"),
                      allowed=f"{near} (are these milliseconds?)")  # fmt: skip
