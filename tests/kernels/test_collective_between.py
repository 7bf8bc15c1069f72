"""Collectives over nodes against closed forms, and what holds for every profile that ships."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_models import catalog
from hw_models.device import best_fidelity, machine
from kernels.collective import (
    ALGORITHMS,
    ANY,
    COLLECTIVE_FIT,
    HIERARCHICAL,
    IDEAL_COLLECTIVE,
    RING,
    SIMPLE,
    TREE,
    collective_parts,
    collective_s,
)
from kernels.collective_between import PLATEAU, RING_NET_S, RING_UP_S, START_S, TREE_NET_S, between_parts, tree_ramp
from kernels.collective_layout import NVLS_TREE, total_s
from kernels.optable import ALL_GATHER, ALL_REDUCE, ALL_TO_ALL, P2P, REDUCE_SCATTER

UP, OUT, MB = 450e9, 50e9, 1e6
LINK = np.array([[UP, 0.0, 8.0], [OUT, 0.0, 64.0], [64e9, 0.0, 1.0]])
RINGS = (ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER)


def fit(**values: float) -> np.ndarray:
    vector = np.array(IDEAL_COLLECTIVE)
    for name, value in values.items():
        vector[COLLECTIVE_FIT.index(name)] = value
    return vector


def alone(algorithm: int, kind: int, byte: float, group: int, node: int, link: np.ndarray, values: np.ndarray) -> float:
    return float(total_s(collective_parts(kind, byte, group, node, link, values, algorithm)))


def test_bytes_of_every_algorithm_over_two_nodes_of_eight() -> None:
    byte = 64 * MB
    ring = alone(RING, ALL_REDUCE, byte, 16, 2, LINK, fit())
    assert ring == pytest.approx(2 * 15 / 16 * byte / (8 * OUT))  # the ports of a node, 400 GB/s, are less than NVLink
    tree = alone(TREE, ALL_REDUCE, byte, 16, 2, LINK, fit())
    assert tree == pytest.approx(2 * byte / UP)  # a chain inside; between two nodes half a message a tree each way
    nested = alone(HIERARCHICAL, ALL_REDUCE, byte, 16, 2, LINK, fit())
    assert nested == pytest.approx(2 * 7 / 8 * byte / UP + byte / (8 * OUT))
    switch = alone(NVLS_TREE, ALL_REDUCE, byte, 16, 2, LINK, fit(nvls_eff=1.0))
    assert switch == pytest.approx(max(9 / 8 * byte / UP, byte / (8 * OUT)))
    assert collective_s(ALL_REDUCE, byte, 16, 2, LINK, fit())[0] == min(ring, tree, nested)
    # four nodes: an inner node of a tree sends half of the message up, twice down, and half as a leaf of the other tree
    slow = LINK.copy()
    slow[1, 0] = OUT / 100
    assert alone(TREE, ALL_REDUCE, byte, 32, 4, slow, fit()) == pytest.approx(2 * byte / (8 * OUT / 100))


def test_light_is_what_a_node_has_to_let_out() -> None:
    byte = 64 * MB
    assert collective_s(ALL_GATHER, byte, 64, 8, LINK, fit())[1] == pytest.approx(7 / 8 * byte / (8 * OUT))
    narrow = LINK.copy()
    narrow[0, 0] = OUT / 10
    assert collective_s(ALL_GATHER, byte, 16, 2, narrow, fit())[1] == pytest.approx(7 / 8 * byte / (OUT / 10))


@pytest.mark.parametrize(("group", "node"), [(16, 2), (1024, 128), (4, 4)])
def test_a_ring_takes_every_hop(group: int, node: int) -> None:
    real = fit(net_hop=1.0, tuner_ll_byte_per_s=141e9)
    hops = {ALL_GATHER: (group - node, node - 1), ALL_REDUCE: (2 * (group - node), 2 * (node - 1))}
    for kind, (inside, between) in hops.items():
        slow = PLATEAU if kind == ALL_REDUCE else 1.0
        parts = [START_S[p] + inside * RING_UP_S[p] + between * RING_NET_S[p] for p in range(SIMPLE)]
        parts.append(START_S[SIMPLE] + slow * (inside * RING_UP_S[SIMPLE] + between * RING_NET_S[SIMPLE]))
        assert alone(RING, kind, 1e-3, group, node, LINK, real) == pytest.approx(min(parts))


def test_a_gather_among_a_thousand_takes_a_thousand_hops() -> None:
    """A ring of log2 hops, which training had, took 0.36 of the time at 100 MB and 0.06 at 100 kB."""
    real = fit(net_hop=1.0, tuner_ll_byte_per_s=141e9)
    wrong = {byte: byte * 1023 / 1024 / (8 * OUT) + 7 * RING_NET_S[SIMPLE] for byte in (1e5, 1e8)}
    right = {byte: alone(RING, ALL_GATHER, byte, 1024, 128, LINK, real) for byte in wrong}
    assert wrong[1e5] / right[1e5] < 0.1
    assert wrong[1e8] / right[1e8] < 0.4


def test_a_tree_has_few_hops() -> None:
    far = LINK.copy()
    far[1, 1] = 5e-6
    seconds = collective_s(ALL_REDUCE, 1024.0, 64, 64, far, fit())[0]  # one device a node
    assert seconds == pytest.approx(2 * 6 * 5e-6, rel=1e-2)  # up and down log2(64) levels, not 126 hops
    real = fit(net_hop=1.0)
    small = alone(TREE, ALL_REDUCE, 1e-3, 64, 64, LINK, real)
    assert small == pytest.approx(START_S[0] + 2 * 6 * TREE_NET_S[0])


def test_what_trees_reach_grows_so_that_time_does() -> None:
    byte = np.geomspace(64, 2.0**31, 4000)
    for protocol in range(SIMPLE + 1):
        time = byte / np.array([tree_ramp(protocol, float(b)) for b in byte])
        assert (np.diff(time) > 0).all()


@pytest.mark.parametrize("kind", RINGS)
def test_hierarchical_is_flat_in_one_node(kind: int) -> None:
    values = fit(launch_s=3e-6, simple_s=1e-5, simple_hop_s=1e-6, simple_eff=0.8, ll_eff=0.01, ll128_eff=0.01)
    parts = [between_parts(kind, 64 * MB, 8, 1, LINK, values, algorithm) for algorithm in (RING, HIERARCHICAL)]
    assert total_s(parts[0]) == pytest.approx(total_s(parts[1]))


def test_a_library_with_a_tuner_has_no_hierarchy_unless_asked() -> None:
    narrow = LINK.copy()
    narrow[1, 0] = OUT / 8
    free = collective_parts(ALL_GATHER, 64 * MB, 16, 2, narrow, fit(), ANY)[0]
    tuned = collective_parts(ALL_GATHER, 64 * MB, 16, 2, narrow, fit(tuner_ll_byte_per_s=141e9), ANY)[0]
    assert ALGORITHMS[free] == "hierarchical"
    assert ALGORITHMS[tuned] != "hierarchical"


SYSTEMS = ("dgx_h100", "dgx_a100", "hgx_b200", "mi300x_x8", "tpu_v5p_slice", "a40_x8")


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_shipped_machine_is_slower_than_light_and_monotone(name: str) -> None:
    """Monotone over nodes; inside one the engine's table of sizes and the library's tuner change over where they do,
    not where it pays (the measured times jump there, up and down)."""
    size = catalog.system(name).node.num_device
    arrays = machine(catalog.system(name, 4 * size), best_fidelity(catalog.system(name).device))
    ideal = machine(catalog.system(name, 4 * size), "sol")
    groups = ((2, 1), (size, 1), (2, 2), (2 * size, 2), (4 * size, 4))
    for kind, (group, node) in itertools.product((*RINGS, ALL_TO_ALL, P2P), groups):
        if kind == P2P and group > 2:
            continue
        last = 0.0
        for byte in np.geomspace(1e2, 4e9, 60):
            seconds, light_s, _ = collective_s(kind, byte, group, node, arrays.link, arrays.fit[kind, 0])
            assert seconds >= light_s > 0, (kind, group, node, byte)
            assert seconds >= collective_s(kind, byte, group, node, ideal.link, ideal.fit[kind, 0])[1]
            assert node == 1 or seconds >= last * (1 - 1e-9), (kind, group, node, byte)
            last = seconds


@given(st.sampled_from(RINGS), st.floats(1e2, 1e9), st.integers(1, 8), st.integers(2, 64))
@settings(max_examples=200, deadline=None)
def test_more_nodes_take_longer(kind: int, byte: float, per_node: int, node: int) -> None:
    values = fit(launch_s=4e-6, simple_s=1e-5, ll_eff=0.5, ll128_eff=0.6, simple_eff=0.9, out_eff=0.96, net_hop=1.0,
                 tuner_ll_byte_per_s=141e9, nvls_s=6e-5, nvls_eff=0.65)  # fmt: skip
    now = collective_s(kind, byte, per_node * node, node, LINK, values)[0]
    more = collective_s(kind, byte, per_node * (node + 1), node + 1, LINK, values)[0]
    assert more >= now * (1 - 1e-12)
