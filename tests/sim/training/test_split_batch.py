"""Two streams of a device, and a batch in parts over them: what is hidden, what is not, what it costs."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.train_step import FORWARD_S, INPUT_GRAD_S, MIDDLE, WEIGHT_GRAD_S
from sim.training.estimate import known_site, rank_times
from sim.training.halves import Half, layer_halves
from sim.training.two_streams import COMPUTE, LINK, TwoStreams
from studies._split_batch import split_step
from workloads import models
from workloads.training import TrainPlan

HALF = st.builds(Half, *[st.integers(1, 9).map(float)] * 2, *[st.integers(0, 9).map(float)] * 2)


def test_a_collective_slows_the_compute_beside_it() -> None:
    streams = TwoStreams()
    streams.add(COMPUTE, 10.0)
    streams.add(LINK, 4.0)
    # 4 s at 1 / 1.25 of the speed do 3.2 s of work; the other 6.8 s run alone
    assert streams.run(1.25).total_s == pytest.approx(10.8)
    assert streams.run().total_s == 10.0


def test_only_what_waits_is_exposed() -> None:
    streams = TwoStreams()
    first = streams.add(COMPUTE, 3.0)
    gather = streams.add(LINK, 5.0, [first])
    streams.add(COMPUTE, 2.0)
    streams.add(COMPUTE, 1.0, [gather])
    found = streams.run()
    assert found.total_s == 9.0  # 3, then 5 on the link of which 2 are under compute, then 1
    assert found.exposed_s == 3.0


@settings(max_examples=20, deadline=None)
@given(layer=st.tuples(HALF, HALF), num_layer=st.integers(1, 3))
def test_parts_hide_all_reduces_and_never_beat_either_stream(layer: tuple[Half, Half], num_layer: int) -> None:
    whole = split_step(layer, num_layer, 1)
    pieces = (Half(*(value / 2 for value in layer[0])), Half(*(value / 2 for value in layer[1])))
    split = split_step(pieces, num_layer, 2)
    assert split.compute_s == pytest.approx(whole.compute_s)
    assert max(split.compute_s, split.link_s) <= split.total_s + 1e-9 <= whole.total_s + 2e-9
    slowed = split_step(pieces, num_layer, 2, 1.2)
    assert split.total_s - 1e-9 <= slowed.total_s <= 1.2 * split.total_s + 1e-9


def test_with_one_part_only_weight_gradients_hide() -> None:
    half = Half(1.0, 2.0, 0.5, 3.0)
    # two layers of two halves: forward 1 + 3 each, backward 2 + 3 with 0.5 of it under the all-reduce
    assert split_step((half, half), 2, 1).total_s == pytest.approx(4 * (1 + 3) + 4 * (2 + 3))


def test_halves_of_a_layer_are_the_layer() -> None:
    model = models.load("llama-2-7b")
    plan = TrainPlan(tp=8, micro_batch=4, batch=4, seq=1024, fused_norm=True)
    where = known_site("dgx_h100", 8, "megatron-core-2024", plan.attention)
    halves = layer_halves(model, model.block[0], plan, where)
    row = rank_times(model, plan, where, MIDDLE) / model.num_layer
    assert sum(half.forward_s + half.reduce_s for half in halves) == pytest.approx(row[FORWARD_S])
    back = sum(half.backward_s + half.weight_grad_s + half.reduce_s for half in halves)
    assert back == pytest.approx(row[INPUT_GRAD_S] + row[WEIGHT_GRAD_S])
    assert halves[0].reduce_s == halves[1].reduce_s  # as many tokens leave either half


def test_half_the_batch_takes_more_than_half_the_time() -> None:
    model = models.load("llama-2-7b")
    plan = TrainPlan(tp=8, micro_batch=4, batch=4, seq=1024, fused_norm=True)
    where = known_site("dgx_h100", 8, "megatron-core-2024", plan.attention)
    whole, part = (layer_halves(model, model.block[0], replace(plan, micro_batch=size), where) for size in (4, 2))
    for one, half in zip(whole, part, strict=True):
        assert one.forward_s / 2 < half.forward_s < one.forward_s
