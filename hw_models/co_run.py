"""Kernels of unlike kinds side by side on one device: what a product leaves to what reads memory and to a collective.

Kernels that run together share cores, caches and bandwidth. What was measured is an exchange: a kernel that takes the
share R of a product's rate runs at P of its own best rate (`co_run.toml`, with sources). Time is divided among settings
of these shares, so that all three kinds of work end together: a linear programme, whose optimum is the least time.
"""

import functools
import itertools
import pathlib
import tomllib

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

from kernels.errors import InputError

Floats = npt.NDArray[np.float64]
DATA = pathlib.Path(__file__).with_suffix(".toml")


@functools.cache
def exchange(kind: str) -> tuple[Floats, Floats]:
    """Shares R that a kernel of `kind` takes of a product's rate, and its own rates P at them; 0 at 0 is the first.

    >>> share, rate = exchange("network")
    >>> float(share[0]), float(rate[0]), float(rate[-1])
    (0.0, 0.0, 1.0)
    """
    found = tomllib.loads(DATA.read_text(encoding="utf-8"))["kind"]
    if kind not in found:
        raise InputError("unknown", field="kind", value=kind, allowed=sorted(found))
    return np.array([0.0, *found[kind]["share"]]), np.array([0.0, *found[kind]["rate"]])


def beside_s(compute_s: float, memory_s: float = 0.0, network_s: float = 0.0) -> float:
    """Least seconds of work of three kinds side by side, each given by its seconds alone on the device.

    Never below the longest of them, never above their sum: work may also run alone.

    >>> beside_s(1.0), beside_s(0.0, 2.0)
    (1.0, 2.0)
    >>> 1.0 < beside_s(1.0, 0.2, 0.2) < 1.4
    True
    """
    works = {"compute": compute_s, "memory": memory_s, "network": network_s}
    for field, value in works.items():
        if not value >= 0:
            raise InputError("out of range", field=f"{field}_s", value=value, allowed="0 or more")
    (memory_share, memory_rate), (network_share, network_rate) = exchange("memory"), exchange("network")
    settings = [
        (1 - memory_share[i] - network_share[j], memory_rate[i], network_rate[j])
        for i, j in itertools.product(range(len(memory_share)), range(len(network_share)))
        if memory_share[i] + network_share[j] <= 1
    ]
    rate = np.array(settings).T
    total = sum(works.values())
    if total == 0:
        return 0.0
    found = linprog(np.ones(len(settings)), A_ub=-rate, b_ub=-np.array(list(works.values())) / total)
    assert found.x is not None  # each kind may run alone
    return total * float(found.x.sum())
