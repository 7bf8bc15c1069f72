"""Collectives against their closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.collective import COLLECTIVE_FIT, IDEAL_COLLECTIVE, collective_s, num_hop, ring_byte
from kernels.optable import ALL_GATHER, ALL_REDUCE, ALL_TO_ALL, P2P, REDUCE_SCATTER

UP, OUT = 450e9, 50e9  # NVLink 4 a direction, one 400 Gbit/s port a device
LINK = np.array([[UP, 0.0, 8.0], [OUT, 0.0, 64.0], [64e9, 0.0, 1.0]])
KINDS = (ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, ALL_TO_ALL, P2P)
MB = 1e6


def fit(**values: float) -> np.ndarray:
    vector = np.array(IDEAL_COLLECTIVE)
    for name, value in values.items():
        vector[COLLECTIVE_FIT.index(name)] = value
    return vector


REAL = fit(
    launch_s=4e-6, ll_hop_s=0.8e-6, ll128_hop_s=1e-6, simple_hop_s=2e-6, ll_eff=0.2, ll128_eff=0.6, simple_eff=0.78,
    copy_ratio=0.3, out_eff=0.9,
)  # fmt: skip


@pytest.mark.parametrize("group", [2, 4, 8])
def test_rings_inside_a_node(group: int) -> None:
    share = (group - 1) / group  # each piece of 1/P goes round P - 1 hops
    for kind, times in ((ALL_REDUCE, 2), (ALL_GATHER, 1), (REDUCE_SCATTER, 1), (ALL_TO_ALL, 1)):
        seconds, ideal_s, _ = collective_s(kind, 64 * MB, group, 1, LINK, fit())
        assert seconds == ideal_s == pytest.approx(times * share * 64 * MB / UP)
    assert collective_s(P2P, 64 * MB, 2, 1, LINK, fit())[0] == pytest.approx(64 * MB / UP)


def test_an_all_reduce_is_a_reduce_scatter_and_an_all_gather() -> None:
    whole = collective_s(ALL_REDUCE, 64 * MB, 8, 1, LINK, fit())[0]
    parts = [collective_s(kind, 64 * MB, 8, 1, LINK, fit())[0] for kind in (REDUCE_SCATTER, ALL_GATHER)]
    assert whole == pytest.approx(sum(parts))
    assert num_hop(ALL_REDUCE, 8) == num_hop(REDUCE_SCATTER, 8) + num_hop(ALL_GATHER, 8)


def test_small_messages_cost_launch_and_hops_in_the_quick_protocol() -> None:
    seconds = collective_s(ALL_REDUCE, 256.0, 8, 1, LINK, REAL)[0]
    assert seconds == pytest.approx(4e-6 + 14 * 0.8e-6, rel=1e-3)  # 2 (8 - 1) hops


def test_switch_that_adds_moves_p_plus_1_over_p() -> None:
    nvls = fit(nvls_eff=1.0)
    assert collective_s(ALL_REDUCE, 64 * MB, 8, 1, LINK, nvls)[0] == pytest.approx(9 / 8 * 64 * MB / UP)
    assert collective_s(ALL_REDUCE, 64 * MB, 2, 1, LINK, nvls)[0] == pytest.approx(64 * MB / UP)  # ring: 2 x 1/2


def test_one_shot_and_two_shot() -> None:
    custom = fit(custom_max_byte=8 * MB, custom_pair_max_byte=8 * MB, custom_s=3e-6, custom_sync_s=1e-6)
    # below 256 KiB on eight devices each reads all of its seven peers
    assert collective_s(ALL_REDUCE, 1e5, 8, 1, LINK, custom)[0] == pytest.approx(3e-6 + 7 * 1e5 / UP)
    # above, it reads its eighth of seven peers and then their seven results
    assert collective_s(ALL_REDUCE, 1 * MB, 8, 1, LINK, custom)[0] == pytest.approx(4e-6 + 14 / 8 * MB / UP)
    # between two devices one shot moves no more than two
    assert collective_s(ALL_REDUCE, 4 * MB, 2, 1, LINK, custom)[0] == pytest.approx(3e-6 + 4 * MB / UP)
    assert collective_s(ALL_REDUCE, 9 * MB, 8, 1, LINK, custom)[0] == pytest.approx(14 / 8 * 9 * MB / UP)


def test_over_nodes_the_best_of_flat_ring_and_hierarchy() -> None:
    # 2 nodes of 8: ports of a node carry 8 x 50 = 400 GB/s, less than NVLink
    flat = 2 * 15 / 16 * 64 * MB / (8 * OUT)
    hierarchy = 2 * 7 / 8 * 64 * MB / UP + 2 * 1 / 2 * 64 * MB / (8 * OUT)
    seconds, ideal_s, _ = collective_s(ALL_REDUCE, 64 * MB, 16, 2, LINK, fit())
    assert seconds == ideal_s == pytest.approx(min(flat, hierarchy))
    # one port a node: the hierarchy wins, for it sends one piece in eight between nodes
    narrow = LINK.copy()
    narrow[1, 0] = OUT / 8
    flat, hierarchy = 2 * 15 / 16 * 64 * MB / OUT, 2 * 7 / 8 * 64 * MB / UP + 64 * MB / OUT
    assert hierarchy < flat
    assert collective_s(ALL_REDUCE, 64 * MB, 16, 2, narrow, fit())[0] == pytest.approx(hierarchy)


def test_a_tree_over_nodes_has_few_hops() -> None:
    far = LINK.copy()
    far[1, 1] = 5e-6
    seconds = collective_s(ALL_REDUCE, 1024.0, 64, 64, far, fit())[0]  # one device a node
    assert seconds == pytest.approx(2 * 6 * 5e-6, rel=1e-2)  # up and down log2(64) levels, not 126 hops


def test_all_to_all_over_nodes_is_held_by_the_ports() -> None:
    seconds = collective_s(ALL_TO_ALL, 64 * MB, 16, 2, LINK, fit())[0]
    assert seconds == pytest.approx(8 / 16 * 64 * MB / OUT)  # half of the message leaves the node


def test_link_bytes_are_conserved() -> None:
    for group in (2, 3, 8):
        gathered = group * ring_byte(ALL_GATHER, 1.0, group)  # sent by all
        assert gathered == pytest.approx(group - 1)  # every device receives all pieces but its own
        assert ring_byte(ALL_REDUCE, 1.0, group) == 2 * ring_byte(REDUCE_SCATTER, 1.0, group)


@given(st.sampled_from(KINDS), st.floats(1, 1e9), st.sampled_from([(2, 1), (4, 1), (8, 1), (16, 2), (64, 8), (4, 4)]))
@settings(max_examples=100, deadline=None)
def test_slower_than_light_and_monotone(kind: int, byte: float, group: tuple[int, int]) -> None:
    seconds, ideal_s, _ = collective_s(kind, byte, *group, LINK, REAL)
    assert seconds >= ideal_s > 0
    assert collective_s(kind, byte * 1.1, *group, LINK, REAL)[0] >= seconds


def test_alone_there_is_nothing_to_send() -> None:
    assert collective_s(ALL_REDUCE, 1e6, 1, 1, LINK, REAL)[0] == 0.0
    assert collective_s(ALL_REDUCE, 0.0, 8, 1, LINK, REAL)[0] == 0.0
