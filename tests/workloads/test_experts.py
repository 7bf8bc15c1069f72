"""Load of experts: closed forms against sampling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.moe_load import expert_loads
from workloads.experts import distinct_rank, fullest_rank


@given(m=st.integers(64, 4096), num=st.sampled_from((8, 64, 256)), ep=st.sampled_from((1, 2, 8)), skew=st.floats(0, 2))
def test_the_fullest_device_has_no_fewer_rows_than_the_mean(m: int, num: int, ep: int, skew: float) -> None:
    row, active = fullest_rank(m, num, 2, ep, skew)
    assert m * 2 / ep - 1e-6 <= row <= m * 2 + 1e-6
    assert 1 <= active <= num / ep
    assert fullest_rank(m, num, 2, ep) == (m * 2 / ep, min(num / ep, m * 2 / ep))


@given(m=st.integers(1, 4096), num=st.integers(2, 300), topk=st.integers(1, 8), skew=st.floats(0, 3))
def test_loads_add_up_to_every_choice_of_every_token(m: int, num: int, topk: int, skew: float) -> None:
    load = expert_loads(m, num, topk, skew)
    assert load.sum() == pytest.approx(m * topk)
    assert (np.diff(load) <= 1e-9).all()  # the fullest first


def test_devices_that_a_token_visits():
    rng = np.random.default_rng(0)
    chosen = rng.random((20_000, 64)).argsort(axis=1)[:, :8] // 8  # 8 of 64 experts, 8 a device
    assert distinct_rank(64, 8, 8) == pytest.approx(np.mean([len(set(row)) for row in chosen]), rel=0.01)
    assert distinct_rank(64, 8, 1) == 1
    assert distinct_rank(64, 64, 8) == 8
