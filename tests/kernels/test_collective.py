"""Collectives against their closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.collective import (
    COLLECTIVE_FIT,
    IDEAL_COLLECTIVE,
    LL,
    LL128,
    SIMPLE,
    collective_s,
    num_hop,
    protocol,
    ring_byte,
)
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
TUNED = fit(
    launch_s=4e-6, ll_hop_s=0.5e-6, ll128_hop_s=1e-6, simple_hop_s=2e-6, ll_eff=0.5, ll128_eff=0.6, simple_eff=0.8,
    tuner_ll_byte_per_s=141e9, num_channel=16.0, simple_s=1e-5, fill_share=0.2, fill_s=1e-5, copy_ratio=0.3,
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
    custom = fit(custom_max_byte=8 * MB, custom_wide_max_byte=8 * MB, custom_s=3e-6, custom_sync_s=1e-6)
    # below 256 KiB on eight devices each reads all of its seven peers
    assert collective_s(ALL_REDUCE, 1e5, 8, 1, LINK, custom)[0] == pytest.approx(3e-6 + 7 * 1e5 / UP)
    # above, it reads its eighth of seven peers and then their seven results
    assert collective_s(ALL_REDUCE, 1 * MB, 8, 1, LINK, custom)[0] == pytest.approx(4e-6 + 14 / 8 * MB / UP)
    # between two devices one shot moves no more than two
    assert collective_s(ALL_REDUCE, 4 * MB, 2, 1, LINK, custom)[0] == pytest.approx(3e-6 + 4 * MB / UP)
    assert collective_s(ALL_REDUCE, 9 * MB, 8, 1, LINK, custom)[0] == pytest.approx(14 / 8 * 9 * MB / UP)


def test_switched_all_reduce_passes_the_switch_once_and_is_copied_in_and_out() -> None:
    limits = {"custom_max_byte": 2.0**23, "custom_wide_max_byte": 2.0**18, "switched_max_byte": 2.0**26}
    own = fit(**limits, switched_s=5e-6, switched_copy=0.5)
    # eight devices: shares come from eight and go to all: 9/8 of the message, and half a message's time of copies
    assert collective_s(ALL_REDUCE, 1 * MB, 8, 1, LINK, own)[0] == pytest.approx(5e-6 + (9 / 8 + 0.5) * MB / UP)
    # two devices: half read and half written, from the size on at which one-shot ends
    assert collective_s(ALL_REDUCE, 2.0**23, 2, 1, LINK, own)[0] == pytest.approx(5e-6 + 1.5 * 2.0**23 / UP)
    # among four up to half the size, then the library: 2 x 3/4 of the bytes
    assert collective_s(ALL_REDUCE, 2.0**26, 4, 1, LINK, own)[0] == pytest.approx(1.5 * 2.0**26 / UP)
    eager = fit(**limits, host_s=2e-5, switched_host_s=4e-5)
    sizes = (2.0**17, 2.0**20)  # on eight devices, one-shot and switched
    assert [collective_s(ALL_REDUCE, size, 8, 1, LINK, eager)[0] for size in sizes] == [2e-5, 4e-5]


def test_the_tuner_leaves_ll_where_nccl_does() -> None:
    """A100: two devices reduce 1 MiB in Simple (15.2 us + 4.4 us by its estimate, against 7.8 + 12.0 in LL), four in
    LL, 2 MiB in LL128; H100 stays in LL up to 1 MiB between two and 2 MiB among four."""
    a100 = {(2, 19): LL, (2, 20): SIMPLE, (4, 20): LL, (4, 21): LL128, (4, 23): SIMPLE}
    for (group, log2), picked in a100.items():
        assert protocol(ALL_REDUCE, 2.0**log2, group, 300e9, 87.7e9) == picked
    for (group, log2), picked in {(2, 20): LL, (2, 21): SIMPLE, (4, 21): LL, (8, 26): SIMPLE}.items():
        assert protocol(ALL_REDUCE, 2.0**log2, group, UP, 141e9) == picked


def test_times_are_flat_until_every_channel_has_a_part() -> None:
    """All-gather of eight in LL: 4 KiB a step and channel from 32 KiB on, 16 channels full at 512 KiB."""
    flat = [collective_s(ALL_GATHER, 2.0**log2, 8, 1, LINK, TUNED)[0] for log2 in range(15, 20)]
    assert max(flat) == pytest.approx(min(flat), rel=1e-9)
    assert collective_s(ALL_GATHER, 2.0**20, 8, 1, LINK, TUNED)[0] > flat[-1]


def test_a_hop_waits_for_a_slice_until_slices_are_largest() -> None:
    def bare(byte: float) -> float:  # less launch, hops and the bytes' own time
        moved = (7 / 8 + 0.3 / 8) * byte / (0.8 * UP)
        return collective_s(ALL_GATHER, byte, 8, 1, LINK, TUNED)[0] - 4e-6 - 1e-5 - 7 * 2e-6 - moved

    byte_s = (7 / 8 + 0.3 / 8) * 1e8 / (0.8 * UP)
    assert bare(1e8) == pytest.approx(0.2 * byte_s)
    assert [bare(1e9), bare(2e9)] == pytest.approx([7 * 1e-5] * 2)


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


@pytest.mark.parametrize("kind", [ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, ALL_TO_ALL])
@pytest.mark.parametrize("values", [fit(), REAL, TUNED])
def test_more_devices_of_a_node_take_longer(kind: int, values: np.ndarray) -> None:
    """At a message of one size: more hops, and a larger part of it has to move."""
    for byte in (1e3, 1e6, 1e9):
        times = [collective_s(kind, byte, group, 1, LINK, values)[1] for group in range(2, 17)]
        assert (np.diff(times) > 0).all()
        if values is not TUNED and kind != ALL_TO_ALL:  # a tuner changes protocols; to peers, the own piece shrinks
            times = [collective_s(kind, byte, group, 1, LINK, values)[0] for group in range(2, 17)]
            assert (np.diff(times) > -1e-15).all()


def test_alone_there_is_nothing_to_send() -> None:
    assert collective_s(ALL_REDUCE, 1e6, 1, 1, LINK, REAL)[0] == 0.0
    assert collective_s(ALL_REDUCE, 0.0, 8, 1, LINK, REAL)[0] == 0.0
