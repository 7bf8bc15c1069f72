"""Clocks that fill bubbles: ranks that wait run slower and save energy, ranks with more work run faster and save time.

Compute time goes with 1 / clock, the part that waits for memory or links does not; dynamic power goes with the cube of
the clock where voltage follows it, so that energy of the same work goes with its square.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kernels.errors import InputError

CUBE = 3.0  # dynamic power ~ clock x voltage^2, and voltage ~ clock in the usual range


def stretch(clock: float, compute_share: float) -> float:
    """Time relative to clock 1 of work whose share `compute_share` goes with the clock.

    >>> stretch(0.5, 0.8)  # 0.8 / 0.5 + 0.2
    1.8
    """
    return compute_share / clock + 1 - compute_share


def fill_bubbles(
    busy_s: Sequence[float],
    span_s: float,
    *,
    compute_share: float = 1.0,
    min_clock: float = 0.5,
    idle_w: float = 0.0,
    dynamic_w: float = 1.0,
) -> pd.DataFrame:
    """A clock for every rank that is busy for `busy_s` of `span_s`: the lowest (down to `min_clock`) at which its work
    still fits. Columns clock, busy_s, energy_j, saved_j (against clock 1 and idling).

    An upper bound of the saving: it holds where a rank's waiting can be filled by what runs before it.
    """
    busy = np.asarray(busy_s, np.float64)
    _check(compute_share, min_clock)
    if (busy > span_s * (1 + 1e-12)).any() or (busy < 0).any():
        raise InputError("no rank is busy for longer than the span", field="busy_s", value=float(busy.max()))
    room = np.divide(span_s, busy, out=np.full(busy.size, np.inf), where=busy > 0)  # stretch that just fits
    floor = 1 - compute_share
    clock = np.clip(compute_share / np.maximum(room - floor, 1e-12), min_clock, 1.0)
    slow = busy * (compute_share / clock + floor)
    energy = idle_w * span_s + dynamic_w * clock**CUBE * slow
    return pd.DataFrame(
        {"clock": clock, "busy_s": slow, "energy_j": energy, "saved_j": idle_w * span_s + dynamic_w * busy - energy}
    )


def make_up(load: Sequence[float], *, compute_share: float = 1.0, max_clock: float = 1.2) -> pd.DataFrame:
    """Clocks (up to `max_clock`) for ranks with `load` times their usual work, as after a neighbour failed: each as
    fast as it needs to be to end with the usual load, or as fast as it can. Columns load, clock, time (relative)."""
    work = np.asarray(load, np.float64)
    _check(compute_share, 1.0)
    if max_clock < 1 or (work <= 0).any():
        raise InputError("loads above 0, a clock of 1 or more", field="max_clock", value=max_clock)
    floor = 1 - compute_share
    need = np.divide(compute_share, 1 / work - floor, out=np.full(work.size, np.inf), where=1 / work > floor)
    clock = np.clip(need, 1.0, max_clock)
    return pd.DataFrame({"load": work, "clock": clock, "time": work * (compute_share / clock + floor)})


def _check(compute_share: float, min_clock: float) -> None:
    if not 0 < compute_share <= 1:
        raise InputError("out of range", field="compute_share", value=compute_share, allowed="above 0 to 1")
    if not 0 < min_clock <= 1:
        raise InputError("out of range", field="min_clock", value=min_clock, allowed="above 0 to 1")
