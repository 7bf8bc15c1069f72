"""SimPy engines on shared channels against the closed form, and the rules of devices."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_models import catalog
from hw_models.pim import OVERLAPS
from studies._interleave import pair
from tests.oracles.channel_engines import fast_cycle, run_engines

DUAL = catalog.device("neupims").pim
assert DUAL is not None
LISTS = st.lists(st.lists(st.floats(0.5, 1e4), max_size=6), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(
    main=LISTS, units=LISTS, overlap=st.sampled_from(OVERLAPS), shares=st.tuples(st.floats(0.5, 1), st.floats(0.5, 1))
)
def test_the_fast_path_ends_with_the_engines(main, units, overlap, shares):
    num = min(len(main), len(units))
    main, units = main[:num], units[:num]
    pim = dataclasses.replace(DUAL, overlap=overlap, npu_share=shares[0], pim_share=shares[1])
    found, closed = run_engines(pim, main, units), fast_cycle(pim, main, units)
    assert found.end == pytest.approx(closed, rel=1e-9)
    for c in range(num):
        a, b = sum(main[c]), sum(units[c])
        # work is conserved: an engine holds a channel for its work, at most slowed by its share
        assert a * (1 - 1e-9) <= found.main_busy[c] <= a / shares[0] * (1 + 1e-9)
        assert b * (1 - 1e-9) <= found.pim_busy[c] <= b / shares[1] * (1 + 1e-9)
        assert max(a, b) * (1 - 1e-9) <= found.end[c] <= (a + b) * (1 + 1e-9)


@settings(max_examples=30, deadline=None)
@given(main=LISTS, units=LISTS)
def test_a_dual_row_buffer_is_never_slower_than_a_blocked_one(main, units):
    num = min(len(main), len(units))
    ends = {
        overlap: max(fast_cycle(dataclasses.replace(DUAL, overlap=overlap), main[:num], units[:num]))
        for overlap in OVERLAPS
    }
    assert ends["bank_bundle"] <= ends["dual_row_buffer"] * (1 + 1e-12)
    assert ends["dual_row_buffer"] <= ends["blocked"] * (1 + 1e-12)


def test_a_pair_of_the_stage_model_is_the_engines_on_equal_channels():
    # stage C of a batch: projections spread evenly over the channels beside attention of two requests on each
    pieces = [[3000.0, 5000.0, 12000.0]] * 32, [[4900.0, 6800.0]] * 32
    assert DUAL is not None
    found = run_engines(DUAL, *pieces)
    assert max(found.end) == pytest.approx(pair(DUAL, 20000.0, 11700.0), rel=1e-9)
