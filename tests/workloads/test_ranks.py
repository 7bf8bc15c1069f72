"""Groups and node crossings of a training job, against listing every rank's coordinates."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.errors import InputError
from workloads.ranks import Ranks


def members(job: Ranks, name: str) -> list[list[int]]:
    """All groups of a dense dimension, from the coordinates of every rank."""
    sizes = [getattr(job, dim) for dim in job.order]
    groups: dict[tuple[int, ...], list[int]] = {}
    for rank, place in enumerate(itertools.product(*(range(size) for size in reversed(sizes)))):
        at = dict(zip(job.order, reversed(place), strict=True))
        groups.setdefault(tuple(at[dim] for dim in job.order if dim != name), []).append(rank)
    return list(groups.values())


ORDERS = [("tp", "cp", "dp", "pp"), ("tp", "dp", "cp", "pp"), ("cp", "tp", "dp", "pp"), ("pp", "tp", "cp", "dp")]


@given(st.sampled_from(ORDERS), st.lists(st.integers(1, 4), min_size=4, max_size=4), st.integers(1, 10))
def test_groups_are_those_of_the_coordinates(order: tuple[str, ...], sizes: list[int], node: int) -> None:
    tp, cp, dp, pp = sizes
    job = Ranks(tp, cp, dp, pp, order=order, device_per_node=node)
    for name in order:
        size, stride, nodes = job.group(name)
        found = members(job, name)
        assert all(group == [group[0] + i * stride for i in range(size)] for group in found)
        assert nodes == max(len({rank // node for rank in group}) for group in found)
    stages = members(job, "pp")
    crossing = {i for group in stages for i in range(pp) if pp > 1 and group[i] // node != group[(i + 1) % pp] // node}
    assert set(job.crossing(looped=True)) == crossing
    assert set(job.crossing()) == crossing - {pp - 1}


def test_published_layouts() -> None:
    deepseek = Ranks(tp=1, pp=16, dp=128, ep=64)  # 2,048 GPUs, experts on eight nodes
    assert deepseek.group("ep") == (64, 1, 8)
    assert deepseek.group("expert_dp") == (2, 64, 2)
    qwen = Ranks(tp=2, pp=8, dp=16, ep=32)  # experts across tensor-parallel groups
    assert qwen.group("ep") == (32, 1, 4)
    llama = Ranks(tp=8, cp=16, dp=8, pp=16)
    assert llama.group("cp") == (16, 8, 16)
    assert llama.group("dp_cp") == (128, 8, 128)
    assert Ranks(tp=2, pp=4, dp=1).crossing() == ()
    assert Ranks(tp=4, pp=4).crossing(looped=True) == (1, 3)


def test_what_cannot_be() -> None:
    for wrong, field in (
        ({"tp": 2, "ep": 3}, "ep x expert_tp"), ({"order": ("tp", "dp", "pp")}, "order"), ({"dp": 0}, "dp"),
        ({"order": ("tp", "pp", "cp", "dp")}, "order"),
    ):  # fmt: skip
        with pytest.raises(InputError) as caught:
            Ranks(**wrong)  # type: ignore[arg-type]
        assert field in str(caught.value)
    with pytest.raises(InputError, match="no such dimension"):
        Ranks().place("zz")
    with pytest.raises(InputError, match="lie apart"):
        Ranks(order=("cp", "tp", "dp", "pp")).place("dp_cp")
