"""What operators draw: never less than awake, never more than the cap, more for more work."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw_models import catalog
from hw_models.device import rate
from kernels.machine import DYNAMIC_W, IDLE_W, MEM_BYTE_PER_S, PRODUCT_W
from kernels.optable import BOUND_MEMORY, BOUND_PIM_MEMORY
from kernels.power import copy_j, dynamic_j, link_j, operator_j

SHARE = st.floats(0.0, 1.0)


@given(st.sampled_from(catalog.names("device")), st.floats(1e-6, 1.0), SHARE, SHARE, SHARE)
def test_watts_lie_between_awake_and_the_cap_and_grow_with_work(
    name: str, seconds: float, work: float, read: float, more: float
) -> None:
    rates = rate(catalog.device(name))
    byte = read * seconds * rates[MEM_BYTE_PER_S]

    def watt(work_share: float) -> float:
        return operator_j(seconds, 0.0, BOUND_MEMORY, work_share * seconds, byte, rates[PRODUCT_W], rates) / seconds

    idle, cap = rates[IDLE_W], rates[IDLE_W] + rates[DYNAMIC_W]
    assert idle * (1 - 1e-12) <= watt(work) <= watt(max(work, more)) <= cap * (1 + 1e-12)
    for drawn in (link_j(seconds, byte, rates), copy_j(seconds, byte, rates)):
        assert idle * (1 - 1e-12) <= drawn / seconds <= cap * (1 + 1e-12)


def test_units_in_the_memory_draw_what_they_state() -> None:
    rates = rate(catalog.device("h100_sxm"))
    found = operator_j(2.0, 0.25, BOUND_PIM_MEMORY, 1.0, 1e12, 500.0, rates)
    assert found == pytest.approx(2.0 * rates[IDLE_W] + 0.25 * rates[DYNAMIC_W])


def test_joules_of_parts_add_up_below_the_cap() -> None:
    """Two kernels one after the other draw what one that does both would, where neither is held at the cap."""
    rates = rate(catalog.device("h100_sxm"))
    parts = [dynamic_j(1e-3, 1e-4, 1e9, rates[PRODUCT_W], rates), dynamic_j(2e-3, 2e-4, 5e8, rates[PRODUCT_W], rates)]
    whole = dynamic_j(3e-3, 3e-4, 1.5e9, rates[PRODUCT_W], rates)
    assert np.sum(parts) == pytest.approx(whole)
