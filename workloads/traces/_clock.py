"""Times of a trace in picoseconds, in a unit that is known: the published one where the readings bear it out, else the
one that `time_unit=` names. A unit is never guessed."""

import pathlib
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.errors import InputError
from workloads.parameters import Parameter
from workloads.requests import MAX_TIME_S

UNIT_PS = {"s": 10**12, "ms": 10**9, "us": 10**6, "ns": 10**3}
TIME_UNIT = {"time_unit": Parameter("of its times: s, ms, us or ns, where the file leaves it open", "text")}
RATE = (1e-3, 1e3)  # requests a second that a published trace may have in the mean; beyond, its unit is doubtful
ENOUGH = 8  # readings of milliseconds that by chance have no fraction of a second: one in 10^24


def unit_ps(
    path: pathlib.Path, given: Any, published: str, times: npt.NDArray[np.float64], fraction: bool | None = None
) -> int:
    """Picoseconds of the unit of `times`. `fraction`: whether published readings have one (None: either).

    Raises `InputError` where nothing is given and the readings do not look as the published unit has them.
    """
    if given is not None:
        if given not in UNIT_PS:
            raise InputError("no such unit", field="time_unit", value=given, allowed=UNIT_PS)
        return UNIT_PS[given]
    scale = UNIT_PS[published]
    span_s = float(times.max() - times.min()) * scale * 1e-12 if len(times) else 0.0
    rate = (len(times) - 1) / span_s if span_s > 0 else 1.0
    has = bool((times != np.floor(times)).any())
    looks = has == fraction or (fraction is True and len(times) < ENOUGH) or fraction is None
    if looks and RATE[0] <= rate <= RATE[1]:
        return scale
    shown = ", ".join(f"{rate * scale / ps:.3g} in {name}" for name, ps in UNIT_PS.items())
    raise InputError(f"the unit of its times cannot be told: requests a second would be {shown}", file=path,
                     field="time_unit", value="", allowed=UNIT_PS)  # fmt: skip


def since_ps(
    times: npt.NDArray[np.float64], scale: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:  # fmt: skip
    """Sorted picoseconds since the earliest reading, and the order that sorts them."""
    since = times - times.min()
    order = np.argsort(since, kind="stable")
    return np.rint(since[order] * scale).astype(np.int64), order


def first_late(times: npt.NDArray[np.float64], scale: int) -> int:
    """The first reading more than 104 days after the earliest; -1: none."""
    late = (times - times.min()) * (scale * 1e-12) > MAX_TIME_S
    return int(np.argmax(late)) if late.any() else -1
