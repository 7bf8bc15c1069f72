"""How much a running collective slows the compute beside it on the same device.

The library's kernel holds some cores and moves bytes through device memory. What is bound by compute is left with the
other cores, what is bound by memory with the rest of the bandwidth: the classical shares, without the tail effect of a
GEMM whose last wave no longer fits. Measured over GPT and LLaMA training on A100, H100, MI210 and MI250 the slowdown of
compute is 18.9 % on average and 40 % at most ("Characterizing Compute-Communication Overlap in GPU-Accelerated
Distributed Deep Learning", arXiv 2507.03114).
"""

import functools
import pathlib
import tomllib
from typing import Any

import numpy as np

from hw_models.spec import Device
from kernels.collective_layout import memory_byte, ring_byte
from kernels.errors import InputError
from kernels.fairness import Floats
from kernels.optable import ALL_REDUCE, BOUND_COMPUTE, BOUND_MEMORY, KINDS, P2P, CostTable

DATA = pathlib.Path(__file__).with_suffix(".toml")


@functools.cache
def _data() -> dict[str, Any]:
    return tomllib.loads(DATA.read_text(encoding="utf-8"))


def core_share(device: Device) -> float:
    """Share of a device's cores that a collective holds.

    >>> from hw_models import catalog
    >>> round(core_share(catalog.device("h100_sxm")), 4)  # 24 of 132
    0.1818
    """
    known = _data()["num_core"]
    if device.name in known:
        return float(known[device.name]["value"]) / device.num_core
    return float(_data()["share"]["core"]["value"])


def memory_share(device: Device, kind: int, link_byte_per_s: float) -> float:
    """Share of a device's memory bandwidth that a collective of `kind` takes while it sends `link_byte_per_s`."""
    if not ALL_REDUCE <= kind <= P2P:
        raise InputError("not a collective", field="kind", value=KINDS[kind], allowed=KINDS[ALL_REDUCE : P2P + 1])
    share = memory_byte(kind, 1.0, 2) / ring_byte(kind, 1.0, 2) * link_byte_per_s / device.mem_byte_per_s
    return min(share, 0.5)  # two parties at a memory that is full get half each


def slowdown(device: Device, cost: CostTable, kind: int, link_byte_per_s: float) -> Floats:
    """`[op]` factors of 1 or more by which priced operators take longer while the collective runs: by what bounds them.

    Operators bound by launch, latency, links or the host are not slowed.

    >>> from hw_models import catalog
    >>> from kernels.optable import ALL_GATHER, BOUND_LAUNCH, COST_DTYPE
    >>> cost = np.zeros(3, COST_DTYPE); cost["bound"] = BOUND_COMPUTE, BOUND_MEMORY, BOUND_LAUNCH
    >>> slowdown(catalog.device("h100_sxm"), cost, ALL_GATHER, 370e9).round(3).tolist()
    [1.222, 1.283, 1.0]
    """
    factor = np.ones(len(cost))
    factor[cost["bound"] == BOUND_COMPUTE] = 1 / (1 - core_share(device))
    factor[cost["bound"] == BOUND_MEMORY] = 1 / (1 - memory_share(device, kind, link_byte_per_s))
    return factor
