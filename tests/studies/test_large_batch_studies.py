"""Large batches and what a step of them costs: each neutral setting is the plain system, each part its closed form."""

import pytest

from studies import imagenet_hour
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
