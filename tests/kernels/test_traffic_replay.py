"""Data-parallel traffic beside a schedule: the plain replay without it, closed forms with it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.schedule import Ints
from kernels.traffic_replay import replay_traffic
from sim.pipeline.schedule import duration_table, end_times, op_hop
from sim.training.traffic import NO_LIMIT, Traffic, _once, _run_edge
from workloads.pipeline import OpArrays, compile_order
from workloads.schedules import load


def run(arrays: OpArrays, table: Ints, beside: Traffic, hop: int = 0) -> tuple[Ints, Ints, Ints]:
    duration = table[arrays.kind, arrays.stage]
    first = np.flatnonzero(arrays.overlap)
    duration[first] = duration[first + 1] = duration[first] + duration[first + 1]
    start, end = np.empty((2, duration.size), np.int64)
    network = np.empty(arrays.rank_start.size - 1, np.int64)
    done = replay_traffic(
        arrays.rank_start, arrays.dep, op_hop(arrays, hop), duration, arrays.overlap, beside.unit, beside.gathers,
        beside.frees, beside.reduces, beside.gather, beside.reduce, beside.capacity, start, end, network,
    )  # fmt: skip
    assert done == end.size
    return start, end, network


def same(arrays: OpArrays, **change: object) -> Traffic:
    none, one = np.zeros(arrays.kind.size, np.bool_), np.ones(arrays.kind.size, np.int64)
    return Traffic(one, none, none, none, 0 * one, 0 * one, NO_LIMIT)._replace(**change)


@pytest.mark.parametrize("name", ["1f1b", "interleaved-1f1b", "zb-v", "dualpipe", "breadth-first"])
@settings(max_examples=5, deadline=None)
@given(times=st.tuples(*[st.integers(1, 9)] * 3), hop=st.integers(0, 3), units=st.integers(1, 4))
def test_without_traffic_it_is_the_plain_replay(name: str, times: tuple[int, int, int], hop: int, units: int) -> None:
    arrays = compile_order(load(name).build(4, 8))
    table = duration_table(arrays.num_stage, *times)
    start, end, network = run(arrays, table, same(arrays, unit=np.full(arrays.kind.size, units)), hop)
    assert np.array_equal(end, end_times(arrays, table, hop))
    assert (network == 0).all()
    assert (start < end).all()


def fsdp(arrays: OpArrays, units: int, gather: int, reduce: int, capacity: int) -> Traffic:
    """Every pass gathers and every backward pass scatters."""
    every = np.ones(arrays.kind.size, np.bool_)
    one = np.ones(arrays.kind.size, np.int64)
    return Traffic(units * one, every, every, arrays.kind == 1, gather * one, reduce * one, capacity)


def test_the_rate_limiter_by_hand() -> None:
    # one rank, F of 4 layers of 10 and B of 4 layers of 20; a gather takes 6, a scatter 5
    arrays = compile_order(load("1f1b").build(1, 1))
    table = duration_table(1, 40, 40, 40)
    # one layer at a time: 8 gathers in the way, and from the second gather of B on the scatter before it: G waits
    # behind the scatter only where it is asked for after it; both come with the end of a layer, the gather first
    _, end, network = run(arrays, table, fsdp(arrays, 4, 6, 5, 1))
    assert end[-1] == 8 * 6 + 40 + 80
    assert network[0] == end[-1] + 5
    # one ahead: the first gather alone is seen, and the last scatter after the end
    _, end, network = run(arrays, table, fsdp(arrays, 4, 6, 5, 2))
    assert end[-1] == 6 + 40 + 80
    assert network[0] == end[-1] + 5
    # a slow network (15 a layer) bounds the forward pass: G0..G3 one after the other, compute of the last layer
    _, end, _ = run(arrays, table, fsdp(arrays, 4, 15, 0, 2))
    assert end[0] == 4 * 15 + 10


def test_more_room_never_takes_longer() -> None:
    arrays = compile_order(load("1f1b").build(4, 8))
    table = duration_table(4, 40, 40, 40)
    ends = [run(arrays, table, fsdp(arrays, 4, 17, 3, room))[1].max() for room in (1, 2, 3, 8, NO_LIMIT)]
    assert ends == sorted(ends, reverse=True)


def test_breadth_first_gathers_each_chunk_once_a_batch_and_direction() -> None:
    # v = 3 chunks a rank, m = 8: five runs (forwards of three, backwards of two more: the last chunk's backwards
    # follow its forwards), three of gradients; depth-first alternates between chunks all the time
    wide = compile_order(load("breadth-first").build(4, 8, num_chunk=3))
    deep = compile_order(load("interleaved-1f1b").build(4, 8, num_chunk=3))
    for arrays, gathers, reduces in ((wide, 5, 3), (deep, None, None)):
        first, last = _run_edge(arrays, np.ones(arrays.kind.size, np.bool_))
        own = arrays.rank == 0
        assert first[own].sum() == last[own].sum()
        if gathers:
            assert first[own].sum() == gathers
            assert _run_edge(arrays, arrays.kind == 1)[1][own].sum() == reduces
        else:
            assert first[own].sum() > 8
    # gradients complete once a stage
    assert _once(wide, wide.kind == 1, final=True).sum() == 12
