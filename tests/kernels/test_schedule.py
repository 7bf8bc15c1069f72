"""The fixed-order kernel: hand-made orders, overlapped pairs, deadlock, work done an operation."""

import numpy as np
import pytest

from kernels.errors import InputError
from kernels.schedule import replay
from sim.pipeline.schedule import duration_table, end_times, run_schedule
from workloads.pipeline import Op, compile_order, parse_ops
from workloads.schedules import load


def test_unequal_stages_and_hops_by_hand() -> None:
    arrays = compile_order([parse_ops("F0.0 F0.1 B0.0 B0.1"), parse_ops("F1.0 B1.0 F1.1 B1.1")])
    table = duration_table(2, [2, 3], [4, 5], [1, 1])
    # rank 0: F0.0 0-2, F0.1 2-4; rank 1 (hop 1): F1.0 3-6, B1.0 6-12, F1.1 12-15, B1.1 15-21;
    # B0.0 needs B1.0 + 1: 13-18, B0.1 22-27
    assert end_times(arrays, table, hop=1).tolist() == [2, 4, 18, 27, 6, 12, 15, 21]


def test_a_hop_costs_nothing_on_the_same_rank() -> None:
    order = load("zb-v").build(1, 2)  # both stages on the one rank
    assert run_schedule(order, (1, 1, 1), hop=100).summary["makespan"] == 2 * 2 * 3


def test_an_overlapped_pair_starts_when_both_inputs_are_there_and_ends_together() -> None:
    order = [parse_ops("F0.0 F0.1&B0.0 B0.1"), parse_ops("F1.0 B1.0 F1.1 B1.1")]
    result = run_schedule(order, (1, 1, 1), overlap_time=2)
    # F0.0 0-1, F1.0 1-2, B1.0 2-4; the pair waits for B1.0: 4-6; F1.1 6-7, B1.1 7-9, B0.1 9-11
    assert result.op["end"].tolist() == [1, 6, 6, 11, 2, 4, 7, 9]
    assert result.rank["busy"].tolist() == [1 + 2 + 2, 6]


def test_deadlock_names_who_waits_for_whom() -> None:
    # rank 0 wants the gradient of microbatch 0 before it sends the forward of 1, rank 1 has it the other way round
    order = [parse_ops("F0.0 B0.0 F0.1 B0.1"), parse_ops("F1.1 F1.0 B1.0 B1.1")]
    with pytest.raises(InputError, match=r"rank 0 at B0.0 waits for B1.0 of rank 1, rank 1 at F1.1 waits for F0.1 of"):
        run_schedule(order)


@pytest.mark.parametrize(
    ("text", "culprit"),
    [("B0.0 F0.0", "B0.0"), ("F0.0 W0.0 I0.0", "W0.0"), ("F0.0 F0.0 B0.0", "F0.0"), ("B0.0", "B0.0"), ("F1.0", "F1.0")],
)
def test_an_operation_without_its_input_before_it_is_refused(text: str, culprit: str) -> None:
    with pytest.raises(InputError, match=culprit):
        run_schedule([parse_ops(text)])


def test_each_operation_is_visited_once() -> None:
    arrays = compile_order(load("interleaved-1f1b").build(8, 64, num_chunk=4))
    end = np.empty(arrays.kind.size, np.int64)
    zero = np.zeros(end.size, np.int64)
    assert replay(arrays.rank_start, arrays.dep, zero, zero + 1, arrays.overlap, end) == 8 * 64 * 4 * 2
    assert end.min() == 1


def test_times_must_be_integers() -> None:
    with pytest.raises(InputError, match="integers"):
        run_schedule([[Op("F", 0, 0)]], (1.5, 1, 1))  # type: ignore[arg-type]
