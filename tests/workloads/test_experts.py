"""Load of experts: closed forms against sampling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.experts import active_expert, distinct_rank, popularity


@given(num=st.integers(1, 300), topk=st.integers(1, 8), skew=st.floats(0, 3))
def test_popularity_is_a_choice_of_topk(num, topk, skew):
    topk = min(topk, num)
    chance = popularity(num, topk, skew)
    assert chance.sum() == pytest.approx(topk)
    assert (chance <= 1 + 1e-12).all()
    assert (np.diff(chance) <= 1e-12).all()


def test_awake_experts_against_sampling():
    rng = np.random.default_rng(0)
    for m in (1, 4, 20):
        chosen = rng.random((4000, m, 64)).argsort(axis=2)[:, :, :2]  # two distinct of 64 a token
        awake = np.mean([len(set(batch.ravel())) for batch in chosen])
        assert float(active_expert(m, 64, 2)) == pytest.approx(awake, rel=0.01)


def test_skew_wakes_fewer():
    assert active_expert(16, 64, 2, 1.2) < active_expert(16, 64, 2, 0.5) < active_expert(16, 64, 2)
    assert float(active_expert(10**6, 64, 2, 1.2)) == pytest.approx(64)


def test_devices_that_a_token_visits():
    rng = np.random.default_rng(0)
    chosen = rng.random((20_000, 64)).argsort(axis=1)[:, :8] // 8  # 8 of 64 experts, 8 a device
    assert distinct_rank(64, 8, 8) == pytest.approx(np.mean([len(set(row)) for row in chosen]), rel=0.01)
    assert distinct_rank(64, 8, 1) == 1
    assert distinct_rank(64, 64, 8) == 8
