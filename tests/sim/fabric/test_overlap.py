"""Slowdown by a collective: the shares, and the range that was measured."""

import numpy as np
import pytest

from hw_models import catalog
from kernels.errors import InputError
from kernels.optable import ALL_GATHER, ALL_REDUCE, BOUND_COMPUTE, BOUND_MEMORY, COST_DTYPE, GEMM
from sim.fabric.overlap import core_share, memory_share, slowdown


def test_shares() -> None:
    h100 = catalog.device("h100_sxm")
    assert core_share(h100) == 24 / 132
    assert core_share(catalog.device("l40s")) == 0.182  # not listed
    assert memory_share(h100, ALL_GATHER, 335.2e9) == pytest.approx(0.2)  # 2 x 335.2 of 3,352 GB/s
    assert memory_share(h100, ALL_GATHER, 3e12) == 0.5  # a full memory is shared by halves
    with pytest.raises(InputError, match="not a collective"):
        memory_share(h100, GEMM, 1e9)


@pytest.mark.parametrize("name", ["a100_sxm_80gb", "h100_sxm", "mi300x"])
def test_within_what_was_measured(name: str) -> None:
    cost = np.zeros(2, COST_DTYPE)
    cost["bound"] = BOUND_COMPUTE, BOUND_MEMORY
    device = catalog.device(name)
    factor = slowdown(device, cost, ALL_REDUCE, 230e9)  # about what an A100's ring all-reduce sends
    assert (factor > 1).all()
    assert (factor <= 1.40).all()  # 40 % at most (arXiv 2507.03114)
