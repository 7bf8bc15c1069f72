"""Experts on two engines: tokens conserved, splits never worse than one engine, time bounded by both."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.coprocess import (
    PIM_GUESS_S,
    PIM_S,
    SECONDS,
    SIDES,
    XPU_GUESS_S,
    XPU_S,
    expert_table,
    split,
    without_repetition,
)
from kernels.machine import BEST, CO_PROCESS, PIM, XPU
from kernels.overlap import pair_cycle

TOKENS = np.arange(200.0)
SIDE = np.zeros((len(SIDES), 200))
SIDE[XPU_S] = SIDE[XPU_GUESS_S] = np.where(TOKENS > 0, 10.0, 0.0)  # weights from memory, whatever the tokens
SIDE[PIM_S] = SIDE[PIM_GUESS_S] = np.where(TOKENS > 0, np.maximum(2.5, 0.4 * TOKENS), 0.0)


def seconds(count, mode, num_section=0):
    out = np.zeros(5)
    split(np.array(count, np.int64), SIDE, mode, num_section, 1.0, 1.0, out)
    return out[SECONDS]


@settings(max_examples=40, deadline=None)
@given(num_expert=st.sampled_from([4, 8, 16]), topk=st.integers(1, 4), seed=st.integers(0, 999))
def test_routing_repeats_no_expert_and_favours_none(num_expert, topk, seed):
    random = np.random.default_rng(seed)
    rank = np.stack([random.integers(0, num_expert - k, (1, 500), dtype=np.int32) for k in range(topk)], axis=2)
    taken = without_repetition(rank)[0]
    assert all(len(set(row)) == topk for row in taken.tolist())
    count = np.bincount(taken.ravel(), minlength=num_expert)
    mean = 500 * topk / num_expert
    assert abs(count - mean).max() < 6 * np.sqrt(mean)  # six deviations of a binomial


@settings(max_examples=40, deadline=None)
@given(count=st.lists(st.integers(0, 150), min_size=8, max_size=8))
def test_a_split_is_never_worse_than_one_engine(count):
    alone = [seconds(count, mode) for mode in (XPU, PIM)]
    best, both = (seconds(count, mode) for mode in (BEST, CO_PROCESS))
    assert best <= min(alone) + 1e-9  # each expert where it is faster
    assert both <= min(alone) + 1e-9
    assert both <= seconds(count, CO_PROCESS, num_section=4) + 1e-9  # sections tie experts together


def test_hot_experts_stay_on_the_xpu():
    # one expert of 100 tokens (40 s on the units) and three of 1 (2.5 s each): 10 s beside 7.5 s
    assert seconds([100, 1, 1, 1], CO_PROCESS) == 10.0


def test_the_slowest_device_is_the_layer():
    draw = np.array([[[0], [0], [3]]], np.int32)  # two tokens on expert 0, one on expert 3
    found = expert_table(np.array([1, 2, 3]), draw, 4, 2, SIDE, PIM, 0, 1.0, 1.0)
    assert found[:, SECONDS].tolist() == [2.5, 2.5, 2.5]
    assert expert_table(np.array([3]), draw, 4, 1, SIDE, PIM, 0, 1.0, 1.0)[0, SECONDS] == 5.0  # one device has both


@settings(max_examples=50, deadline=None)
@given(a=st.floats(0.1, 100), b=st.floats(0.1, 100), share=st.floats(0.5, 1.0))
def test_side_by_side_lies_between_the_longer_and_the_sum(a, b, share):
    both = pair_cycle(a, b, share, share)
    assert max(a, b) <= both * (1 + 1e-12)
    assert both <= (a + b) * (1 + 1e-12)
    assert pair_cycle(b, a, share, share) == pytest.approx(both)
