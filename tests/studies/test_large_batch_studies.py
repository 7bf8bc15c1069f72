"""Large batches and what a step of them costs: each neutral setting is the plain system, each part its closed form."""

import pytest

from studies import imagenet_hour, lamb, multigrid
from studies import pipelined_backpropagation as pipelined
from studies._conv_nets import resnet50


def test_one_gpu_reduces_nothing_and_many_no_less_than_their_compute() -> None:
    plain = imagenet_hour.step(1, 0.5, imagenet_hour.IDEAL).total_s
    assert imagenet_hour.step(1, 0.5).total_s == imagenet_hour.step(1, 0.5, imagenet_hour.AFTER).total_s == plain
    under, after = (imagenet_hour.step(256, 0.5, way) for way in (imagenet_hour.UNDER, imagenet_hour.AFTER))
    assert plain < under.total_s < after.total_s == pytest.approx(plain + after.link_s)
    assert imagenet_hour.lost(8, 0.5, 0.03) == pytest.approx(0.0)


def test_resnet_50_has_its_parameters_and_flop() -> None:
    layers = resnet50()
    assert sum(kernel.weight for layer in layers for kernel in layer.kernel) == pytest.approx(25.5e6, rel=0.01)
    assert sum(kernel.flop for layer in layers for kernel in layer.kernel) == pytest.approx(2 * 4.1e9, rel=0.03)
    gradient = sum(imagenet_hour.passes(0.5)[2])
    assert gradient == pytest.approx(102e6, rel=0.01)  # bytes


def test_a_pod_with_nothing_to_reduce_is_even() -> None:
    one = lamb.step(lamb.SHORT, 16, 512, 2.0, 0.0)
    pod = lamb.step(lamb.SHORT, 1024, 32768, 2.0, 0.0)
    assert pod.step_s == pytest.approx(one.step_s, rel=2e-3)  # hidden to the last layer
    assert lamb.step(lamb.SHORT, 1024, 32768, 2.0, 1.0).step_s > pod.step_s
    # all of it scales with the one factor but the exchange
    assert lamb.step(lamb.SHORT, 16, 512, 4.0, 0.0).step_s == pytest.approx(2 * one.step_s, rel=0.02)
    assert lamb.STEPS.at(512) * 512 == pytest.approx(lamb.STEPS.at(32768) * 32768)
    assert lamb.largest("unfused", True) < lamb.largest("fused_softmax", True) < lamb.largest("fused_softmax", False)


def test_a_pipeline_without_end_is_as_old_as_its_way_and_one_stage_is_plain() -> None:
    assert pipelined.staleness(pipelined.stale_order(8, 160)) == [2 * (7 - stage) for stage in range(8)]
    assert pipelined.busy(pipelined.stale_order(1, 10), 10) == pipelined.drained(1, 10) == 1
    # fill and drain of equal stages: a batch of N takes N + p - 1 of both passes
    assert pipelined.drained(8, 4) == pytest.approx(4 / (4 + 7))
    assert pipelined.busy(pipelined.stale_order(8, 800), 800) > pipelined.busy(pipelined.stale_order(8, 80), 80)


def test_a_schedule_of_one_shape_is_plain_training_and_shapes_have_its_pixels() -> None:
    plain = multigrid.schedule(multigrid.LONG[-1:], short=False, factor=1.0)
    assert sum(epochs for _, epochs in plain) == pytest.approx(multigrid.EPOCHS)
    assert multigrid.faster(0.5, 0.01, long=multigrid.LONG[-1:], short=False, factor=1.0) == pytest.approx(1.0)
    whole = multigrid.FRAMES * multigrid.SIDE**2
    for frames, side in multigrid.LONG:
        for shape in multigrid.cycle(frames, side):
            assert shape.batch * shape.frames * shape.side**2 == pytest.approx(whole, rel=0.02)
    assert sum(epochs for _, epochs in multigrid.schedule()) == pytest.approx(1.5 * multigrid.EPOCHS)
