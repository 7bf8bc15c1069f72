"""A network on a device, at the edge, and between."""

import pytest

from studies import bottle_fit as study


@pytest.mark.parametrize("name", list(study.BOARD))
def test_the_device_alone_needs_no_link(name: str) -> None:
    assert study.cost(study.LOCAL, name, 0.1, 0.3) == study.cost(study.LOCAL, name, 100.0, 0.3)


def test_a_split_that_compresses_and_computes_nothing_is_offloading_of_the_rest() -> None:
    whole = study.cost(study.OFFLOAD, "Jetson Nano", 5.0, 0.3)
    split = study.cost(study.SPLIT, "Jetson Nano", 5.0, 0.3, kept=1.0, thinned=0.0)
    assert split.joule == whole.joule
    head = study.compute_s(study.resnet101()[: study.HEAD_LAYER], study.SERVER, 0.3)
    assert whole.second - split.second == pytest.approx(head)


def test_the_saving_over_offloading_ends_at_the_compression() -> None:
    ways = [study.cost(kind, "Jetson Nano", 1e-4, 0.3).second for kind in (study.SPLIT, study.OFFLOAD)]
    assert 1 - ways[0] / ways[1] == pytest.approx(study.COMPRESSED, abs=1e-3)
