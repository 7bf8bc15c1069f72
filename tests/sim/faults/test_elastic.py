"""Elastic recovery: states conserved, times by hand, the best split by trying all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.errors import InputError
from sim.faults.elastic import migrate_s, replica_step, reshard_byte, reshard_s, split_layers


@settings(deadline=None)
@given(st.integers(1, 12), st.data())
def test_resharding_conserves_states(num: int, data: st.DataObject) -> None:
    survivor = sorted(data.draw(st.sets(st.integers(0, num - 1), min_size=1)))
    moved = reshard_byte(1e6, num, survivor)
    assert (moved >= 0).all()
    assert np.diag(moved).sum() == 0
    assert moved[:, -1].sum() == pytest.approx(1e6 * (num - len(survivor)) / num, abs=1e-3)  # what the lost ones held
    kept = 1e6 / len(survivor) - moved.sum(axis=1)
    assert (kept >= -1e-3).all()


def test_resharding_time() -> None:
    # see the docstring's matrix: device 2 receives 3 B from a copy; among peers nobody moves more than 2 B
    assert reshard_s(12.0, 4, [0, 1, 2], 1.0, 1e9) == 2.0
    assert reshard_s(12.0, 4, [0, 1, 2], 1e9, 1.0, 0.5) == 3.5
    assert reshard_s(12.0, 4, [0, 1, 2, 3], 1.0, 1.0) == 0.0


def test_migration_and_layers() -> None:
    assert migrate_s(10.0, [4, 4], [4, 4], 1.0) == 0
    assert migrate_s(10.0, [8, 0], [4, 4], 2.0) == 20.0  # four layers of 10 B at 2 B/s
    assert split_layers(8, [1, 1, 1, 1]) == [2, 2, 2, 2]
    assert split_layers(7, [1.0, 0.75]) == [4, 3]
    for speed in ([1, 0.5, 0.9], [1, 1, 0.3, 0.8]):  # no split is quicker (all splits of 9 tried)
        slowest = max(n / s for n, s in zip(split_layers(9, speed), speed, strict=True))
        grids = np.array(np.meshgrid(*[range(10)] * len(speed))).reshape(len(speed), -1)
        legal = grids[:, grids.sum(axis=0) == 9]
        assert slowest == pytest.approx((legal / np.array(speed)[:, None]).max(axis=0).min())


def test_microbatches_of_lost_replicas() -> None:
    assert replica_step(10, 5, 1) == 1.3  # 50 microbatches over 4: one has 13
    assert replica_step(10, 5, 1, share=False) == 1.0


def test_bad_recoveries() -> None:
    for call, message in (
        (lambda: reshard_byte(1.0, 4, [4]), "survivor"),
        (lambda: migrate_s(1.0, [1], [2], 1.0), "after"),
        (lambda: split_layers(4, [1.0, 0.0]), "speed"),
        (lambda: replica_step(4, 4, 4), "num_lost"),
    ):
        with pytest.raises(InputError, match=message):
            call()
