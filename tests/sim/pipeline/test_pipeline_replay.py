"""The SimPy replay against the kernel: equal where nothing is shared, never earlier where transfers queue."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.errors import InputError
from sim.pipeline.schedule import duration_table, end_times
from tests.oracles.pipeline_replay import replay_processes
from workloads.pipeline import compile_order, parse_ops
from workloads.schedules import catalogue, load


@pytest.mark.parametrize("name", sorted(catalogue()))
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_replay_equals_the_kernel(name: str, data: st.DataObject) -> None:
    p = data.draw(st.sampled_from([2, 4]))
    arrays = compile_order(load(name).build(p, 3 if name == "zb-exact" else 4 * p))
    times = st.lists(st.integers(0, 9), min_size=arrays.num_stage, max_size=arrays.num_stage)
    table = duration_table(arrays.num_stage, *(data.draw(times) for _ in range(3)), optimizer=data.draw(times))
    hop = data.draw(st.lists(st.integers(0, 4), min_size=arrays.num_stage - 1, max_size=arrays.num_stage - 1))
    overlap = data.draw(st.sampled_from([None, 7]))
    kernel = end_times(arrays, table, hop, overlap)
    assert np.array_equal(replay_processes(arrays, table, hop, overlap), kernel)
    for share in ("link", "rank"):
        assert (replay_processes(arrays, table, hop, overlap, share) >= kernel).all()


def test_one_copy_engine_sends_one_after_the_other() -> None:
    # zero-time operations: four forwards leave rank 0 at 0, each transfer takes 5
    arrays = compile_order([parse_ops("F0.0 F0.1 F0.2 F0.3"), parse_ops("F1.0 F1.1 F1.2 F1.3")])
    table = duration_table(2, 0, 0, 0)
    assert end_times(arrays, table, 5)[4:].tolist() == [5, 5, 5, 5]
    assert replay_processes(arrays, table, 5, share="rank")[4:].tolist() == [5, 10, 15, 20]


def test_both_name_the_same_deadlock() -> None:
    arrays = compile_order([parse_ops("F0.0 B0.0 F0.1 B0.1"), parse_ops("F1.1 F1.0 B1.0 B1.1")])
    table = duration_table(2, 1, 1, 1)
    with pytest.raises(InputError) as kernel:
        end_times(arrays, table)
    with pytest.raises(InputError) as processes:
        replay_processes(arrays, table)
    assert str(kernel.value) == str(processes.value)
