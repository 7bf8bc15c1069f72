"""Experts on two engines: tokens conserved, splits never worse than one engine, time bounded by both."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.coprocess import BEST, CO_PROCESS, PIM, XPU, expert_s, mean_expert_s, route
from kernels.overlap import pair_cycle

TOKENS = np.arange(200.0)
XPU_S = np.where(TOKENS > 0, 10.0, 0.0)  # weights from memory, whatever the tokens
PIM_S = np.where(TOKENS > 0, np.maximum(2.5, 0.4 * TOKENS), 0.0)


@settings(max_examples=40, deadline=None)
@given(
    tokens=st.integers(1, 100), num_expert=st.sampled_from([4, 8, 16]), topk=st.integers(1, 4), seed=st.integers(0, 999)
)
def test_routing_keeps_tokens_and_repeats_no_expert(tokens, num_expert, topk, seed):
    count = route(np.random.default_rng(seed).random((tokens, num_expert)), topk)
    assert count.sum() == tokens * topk
    assert count.max() <= tokens


@settings(max_examples=40, deadline=None)
@given(count=st.lists(st.integers(0, 150), min_size=8, max_size=8), num_rank=st.sampled_from([1, 2, 4, 8]))
def test_a_split_is_never_worse_than_one_engine(count, num_rank):
    counts = np.array(count, np.int64)
    alone = [expert_s(counts, num_rank, XPU_S, PIM_S, mode) for mode in (XPU, PIM)]
    best, split = (expert_s(counts, num_rank, XPU_S, PIM_S, mode) for mode in (BEST, CO_PROCESS))
    assert best <= max(alone)
    assert split <= best + 1e-12


def test_hot_experts_stay_on_the_xpu():
    # one expert of 100 tokens (40 s on the units) and three of 1 (2.5 s each): 10 s beside 7.5 s
    assert expert_s(np.array([100, 1, 1, 1]), 1, XPU_S, PIM_S, CO_PROCESS) == 10.0
    time, share = mean_expert_s(np.zeros((1, 1, 4)), 1, 1, XPU_S, PIM_S, PIM)
    assert (time, share) == (2.5, 1.0)


@settings(max_examples=50, deadline=None)
@given(a=st.floats(0.1, 100), b=st.floats(0.1, 100), share=st.floats(0.5, 1.0))
def test_side_by_side_lies_between_the_longer_and_the_sum(a, b, share):
    both = pair_cycle(a, b, share, share)
    assert max(a, b) <= both * (1 + 1e-12)
    assert both <= (a + b) * (1 + 1e-12)
    assert pair_cycle(b, a, share, share) == pytest.approx(both)
