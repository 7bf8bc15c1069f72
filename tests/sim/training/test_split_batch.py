"""Two streams of a device, and a batch in parts over them: what is hidden, what is not, what it costs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_models import catalog
from kernels import training as t
from sim.training.fitted.stack import hardware_vector, load
from sim.training.two_streams import COMPUTE, LINK, TwoStreams
from studies._split_batch import Half, halves, split_step
from workloads import models
from workloads.training import TrainPlan, model_vector, plan_vector

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
    model, fit = model_vector(models.load("llama-2-7b"), 1024), load("megatron-h100").fit.copy()
    hw = hardware_vector(catalog.system("dgx_h100", 8))
    fit[t.GEMM_ROW] = 0.0  # products as efficient with half the rows
    laid = plan_vector(TrainPlan(tp=8, micro_batch=4, batch=4, seq=1024))
    one, two = halves(model, laid, hw, fit, 1), halves(model, laid, hw, fit, 2)
    for whole, part in zip(one, two, strict=True):
        fixed = fit[t.KERNEL_S] / 2
        assert 2 * (part.forward_s - fixed) == pytest.approx(whole.forward_s - fixed)
        assert 2 * part.weight_grad_s == pytest.approx(whole.weight_grad_s)
    assert one[0].reduce_s == one[1].reduce_s  # as many tokens leave either half
    assert np.isfinite([value for half in one for value in half]).all()
