"""One slow rank: GPipe's closed form, and what bubbles hide."""

import pytest

from kernels.errors import InputError
from sim.faults.slow_rank import slow_rank_frame
from sim.pipeline.schedule import duration_table
from workloads.schedules import load


def test_gpipe() -> None:
    # a rank r times as slow is the bottleneck: (p - 1) fast and m slow forwards, the same backward
    p, m = 4, 8
    frame = slow_rank_frame(load("gpipe").build(p, m), duration_table(p, 10, 10, 10), 1, [1.0, 1.5, 3.0])
    assert frame["makespan"].tolist() == [(p - 1) * 30 + m * 30 * r for r in (1, 1.5, 3)]
    assert frame["felt"].tolist() == pytest.approx([0, *[m / (m + p - 1)] * 2])


def test_a_slow_rank_is_felt_less_than_it_is_slow() -> None:
    for name in ("1f1b", "zb-h1"):
        for rank in range(4):
            felt = slow_rank_frame(load(name).build(4, 12), duration_table(4, 10, 10, 10), rank, [1.1, 2.0])["felt"]
            assert ((felt >= 0) & (felt <= 1)).all()


def test_bad_ranks() -> None:
    order, table = load("gpipe").build(2, 2), duration_table(2, 1, 1, 1)
    with pytest.raises(InputError, match="no such rank"):
        slow_rank_frame(order, table, 2, [2.0])
    with pytest.raises(InputError, match="1 or more"):
        slow_rank_frame(order, table, 0, [0.5])
