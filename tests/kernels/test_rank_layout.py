"""Node crossings of parallel groups and pipeline hops, against counting every rank."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.rank_layout import group_node, hop_node


def brute(size: int, stride: int, node: int, num_rank: int) -> int:
    firsts = [r for r in range(num_rank) if r // stride % size == 0]
    return max(len({(first + i * stride) // node for i in range(size)}) for first in firsts)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 6), st.integers(1, 17))
def test_groups_touch_the_nodes_that_counting_finds(size: int, stride: int, outer: int, node: int) -> None:
    num_rank = size * stride * outer
    assert group_node(size, stride, node, num_rank) == brute(size, stride, node, num_rank)


@given(st.integers(2, 9), st.integers(1, 9), st.integers(1, 5), st.integers(1, 17))
def test_hops_leave_the_node_where_a_rank_has_to(num_stage: int, stride: int, outer: int, node: int) -> None:
    num_rank = num_stage * stride * outer
    rank = np.arange(num_rank)
    stage = rank // stride % num_stage
    following = rank + np.where(stage == num_stage - 1, -(num_stage - 1), 1) * stride
    crosses = rank // node != following // node
    for own in range(num_stage):
        wanted = 2 if crosses[stage == own].any() else 1
        assert hop_node(own, num_stage, stride, node, num_rank) == wanted


@pytest.mark.parametrize(("pp", "stride", "crossing"), [(16, 1, 1), (16, 8, 15), (16, 4, 7), (4, 2, 0)])
def test_only_hops_at_the_edge_of_a_node_cross(pp: int, stride: int, crossing: int) -> None:
    found = [hop_node(stage, pp, stride, 8, pp * stride) for stage in range(pp - 1)]
    assert found.count(2) == crossing
