"""Replay of block schedules: closed forms of one engine, bounds of all, whole numbers conserved."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import block_schedule as at


def replayed(time, num_batch, mode):
    end, busy = np.zeros(len(time), np.int64), np.zeros(at.NUM_ENGINE, np.int64)
    return int(at.replay(time, num_batch, mode, end, busy)), end, busy


@pytest.mark.parametrize("mode", [at.STREAM, at.STEP, at.SERIAL])
def test_computation_alone_is_its_sum(mode):
    time = np.zeros((3, 4, len(at.FIELDS)), np.int64)
    time[:, :, at.COMPUTE] = np.arange(12).reshape(3, 4) + 1
    total, end, busy = replayed(time, 2, mode)
    assert total == 2 * 78 == busy[at.ENGINE_COMPUTE]
    assert end.tolist() == [20, 2 * (10 + 26), 156]


def test_weights_that_take_longer_than_computing_set_the_pace():
    # two batches, weights 10 a layer, computing 3 a batch: the first weights, then a layer every 10, its last batch 6
    time = np.zeros((1, 5, len(at.FIELDS)), np.int64)
    time[:, :, at.WEIGHT_UP], time[:, :, at.COMPUTE] = 10, 3
    total, _, busy = replayed(time, 2, at.STREAM)
    assert busy[at.ENGINE_UP] == 50
    assert 5 * 10 + 6 <= total <= 5 * 10 + 6 + 4 * 3
    assert replayed(time, 2, at.SERIAL)[0] == 5 * (10 + 6)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000), num_batch=st.integers(1, 4), num_layer=st.integers(1, 5), num_token=st.integers(1, 4)
)
def test_no_mode_loses_work_and_no_engine_does_two_things_at_once(seed, num_batch, num_layer, num_token):
    random = np.random.default_rng(seed)
    time = random.integers(0, 50, (num_token, num_layer, len(at.FIELDS)))
    time[:, :, at.COMPUTE] += 1
    results = [replayed(time, num_batch, mode) for mode in (at.STREAM, at.STEP, at.SERIAL)]
    stream, step, serial = (total for total, _, _ in results)
    weights = time[:, :, at.WEIGHT_UP].sum()
    compute = num_batch * time[:, :, at.COMPUTE].sum()
    for total, end, busy in results:
        assert busy[at.ENGINE_COMPUTE] == compute
        assert busy[at.ENGINE_UP] >= weights
        assert busy.max() <= total
        assert (np.diff(end) > 0).all()
        assert end[-1] <= total
    assert step <= serial == results[2][2].sum()
    assert stream <= serial


def test_pieces_sum_to_the_whole():
    for total in (0, 7, 10**15 + 1):
        for num in (1, 3, 8):
            assert sum(at.piece(total, k, num) for k in range(num)) == total
