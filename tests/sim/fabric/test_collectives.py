"""Collectives as flows: the closed form where nothing contends, by hand where something does."""

import functools
import math

import numpy as np
import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_models import catalog, topology
from hw_models.routes import Routes
from kernels.collective import COLLECTIVE_FIT, IDEAL_COLLECTIVE, collective_s
from kernels.errors import InputError
from kernels.optable import ALL_GATHER, ALL_REDUCE, ALL_TO_ALL, NUM_KIND, P2P, REDUCE_SCATTER
from sim.fabric.collectives import Collectives, alone_ps, double_tree, run_collective
from sim.fabric.flows import Fabric

RINGS = (ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER)
IDEAL = np.array(IDEAL_COLLECTIVE)


def fit(**values: float) -> np.ndarray:
    vector = IDEAL.copy()
    for name, value in values.items():
        vector[COLLECTIVE_FIT.index(name)] = value
    return vector


REAL = fit(
    launch_s=4e-6, ll_hop_s=0.8e-6, ll128_hop_s=1e-6, simple_hop_s=2e-6, ll_eff=0.2, ll128_eff=0.6, simple_eff=0.78,
    copy_ratio=0.3, out_eff=0.9, custom_s=3e-6, custom_max_byte=5e5, custom_wide_max_byte=5e5, one_shot_eff=0.7,
    two_shot_eff=0.6, custom_sync_s=1e-6, net_hop=1.0,
)  # fmt: skip
NVLS = fit(nvls_s=2e-6, nvls_eff=0.8)


@functools.cache
def routes(name: str, num_device: int) -> Routes:
    return Routes(catalog.system(name, num_device))


def closed_ps(ways: Routes, kind: int, byte: float, per_node: int, num_node: int, vector: np.ndarray) -> float:
    link = topology.link_rows(ways.system, per_node)
    return collective_s(kind, byte, per_node * num_node, num_node, link, vector)[0] * 1e12


# name and group sizes that the closed form's link row is exact for
INSIDE = [("dgx_h100", 2), ("dgx_h100", 5), ("dgx_h100", 8), ("mi300x_x8", 4), ("mi300x_x8", 8), ("tpu_v4_slice", 4),
          ("tpu_v4_slice", 16), ("tpu_v5e_slice", 8), ("a40_x8", 2)]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(INSIDE),
    st.sampled_from([*RINGS, ALL_TO_ALL]),
    st.floats(0, 9),
    st.sampled_from([IDEAL, REAL, NVLS]),
)
def test_alone_inside_a_node_it_takes_what_the_closed_form_says(case, kind: int, exponent: float, vector) -> None:
    (name, size), byte = case, 10.0**exponent
    if vector is NVLS and name != "dgx_h100":
        return  # no switch that adds
    ways = routes(name, 8)
    made = Collectives(ways, vector).make(kind, byte, range(size))
    assert alone_ps(ways, made) == pytest.approx(closed_ps(ways, kind, byte, size, 1, vector), rel=1e-9, abs=2)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["dgx_h100", "dgx_a100"]), st.sampled_from([1, 2, 8]), st.sampled_from([2, 3, 4, 7]),
    st.sampled_from([*RINGS, ALL_TO_ALL]), st.floats(0, 9), st.sampled_from([IDEAL, REAL]),
)  # fmt: skip
def test_alone_between_nodes(name: str, per_node: int, num_node: int, kind: int, exponent: float, vector) -> None:
    ways, byte = routes(name, 64), 10.0**exponent
    group = [8 * node + place for node in range(num_node) for place in range(per_node)]
    made = Collectives(ways, vector).make(kind, byte, group)
    closed = closed_ps(ways, kind, byte, per_node, num_node, vector)
    if made.algorithm == "tree" and num_node == 3:  # no node yet has a parent and two children
        assert made.fixed_ps <= alone_ps(ways, made) <= closed + 2
    else:
        assert alone_ps(ways, made) == pytest.approx(closed, rel=1e-9, abs=3)


@pytest.mark.parametrize("algorithm", ["ring", "hierarchical", "tree"])
def test_every_algorithm_by_name(algorithm: str) -> None:
    ways, byte = routes("dgx_h100", 64), 1e9
    moved_s = {  # 450 GB/s to the switch, 50 GB/s a port
        "ring": 2 * 63 / 64 * 1e9 / 400e9,
        "hierarchical": 2 * 7 / 8 * 1e9 / 450e9 + 2 * 7 / 8 * 1e9 / 400e9,
        "tree": 2 * 1e9 / 400e9,
    }
    made = Collectives(ways, IDEAL).make(ALL_REDUCE, byte, range(64), algorithm)
    assert made.algorithm == algorithm
    assert alone_ps(ways, made) - made.fixed_ps == pytest.approx(moved_s[algorithm] * 1e12)


def test_the_library_changes_its_mind_with_the_message() -> None:
    # few bytes: a tree has the fewest hops; many: a ring moves the fewest bytes (or pieces between nodes)
    collectives = Collectives(routes("dgx_h100", 64), REAL)
    picked = [collectives.make(ALL_REDUCE, 10.0**e, range(64)).algorithm for e in range(3, 11)]
    assert picked[0] == "tree"
    assert picked[-1] in ("ring", "hierarchical")
    assert collectives.make(ALL_REDUCE, 1e4, range(8)).algorithm == "one_shot"


def test_a_fit_of_its_own_for_every_kind() -> None:
    table = np.tile(IDEAL, (NUM_KIND, 1))
    table[ALL_GATHER] = REAL
    both = Collectives(routes("dgx_h100", 8), table)
    for kind, vector in ((ALL_GATHER, REAL), (ALL_REDUCE, IDEAL)):
        assert (
            both.make(kind, 1e7, range(8)).fixed_ps
            == Collectives(both.routes, vector).make(kind, 1e7, range(8)).fixed_ps
        )


def test_bytes_on_the_links() -> None:
    ways = routes("dgx_h100", 64)
    env = simpy.Environment()
    fabric = Fabric(env, ways.byte_per_s)
    env.run(env.process(run_collective(env, fabric, Collectives(ways, IDEAL).make(ALL_REDUCE, 8e6, range(8)))))
    up = [ways.link(f"n0/device{i}", "n0/switch") for i in range(8)]
    assert fabric.link_byte[up] == pytest.approx([2 * 7 / 8 * 8e6] * 8)  # a ring
    assert fabric.link_byte.sum() == pytest.approx(2 * 8 * 2 * 7 / 8 * 8e6)  # to and from the switch, nothing else
    fabric = Fabric(env, ways.byte_per_s)
    env.run(env.process(run_collective(env, fabric, Collectives(ways, IDEAL).make(P2P, 1e6, [0, 9]))))
    assert np.count_nonzero(fabric.link_byte) == len(ways.between(0, 9))
    assert fabric.link_byte[ways.between(0, 9)] == pytest.approx(1e6)


def test_two_rings_on_the_same_ports_take_twice_as_long() -> None:
    # two data-parallel groups that both leave each node through port 0's switch half the rate each
    ways = routes("dgx_h100", 64)
    collectives = Collectives(ways, IDEAL)
    made = collectives.make(ALL_REDUCE, 1e9, [0, 8, 16, 24])
    env = simpy.Environment()
    fabric = Fabric(env, ways.byte_per_s)
    both = [env.process(run_collective(env, fabric, made)) for _ in range(2)]
    env.run(env.all_of(both))
    alone = alone_ps(ways, made)
    assert env.now - made.fixed_ps == pytest.approx(2 * (alone - made.fixed_ps))
    # other places of the same nodes have ports of their own
    env = simpy.Environment()
    fabric = Fabric(env, ways.byte_per_s)
    groups = [collectives.make(ALL_REDUCE, 1e9, [node * 8 + place for node in range(4)]) for place in range(8)]
    env.run(env.all_of([env.process(run_collective(env, fabric, made)) for made in groups]))
    assert env.now == alone


def test_oversubscribed_leaves_slow_what_crosses_them() -> None:
    # switches of 8 ports, 4 nodes a leaf of each rail, 4:1 upwards: one port's worth for four ports
    system = catalog.system("dgx_h100", 64)
    thin = Routes(system, radix=8, oversubscription=4.0)
    wide = Routes(system, radix=8)
    inside, across = [0, 8, 16, 24], [0, 32, 8, 40, 16, 48, 24, 56]
    for group, factor in ((inside, 1.0), (across, 4.0)):  # in the second order every hop crosses
        times = []
        for ways in (thin, wide):
            made = Collectives(ways, IDEAL).make(ALL_GATHER, 1e9, group)
            times.append(alone_ps(ways, made) - made.fixed_ps)
        assert times[0] / times[1] == pytest.approx(factor)


def test_ports_that_devices_share() -> None:
    # an A40 node has one port for eight devices: alone, a device may use all of it; all eight get an eighth each
    ways = routes("a40_x8", 16)
    collectives = Collectives(ways, IDEAL)
    port = ways.system.node.nic.byte_per_s
    one = collectives.make(P2P, 1e9, [0, 8])
    assert alone_ps(ways, one) - one.fixed_ps == pytest.approx(1e9 / port * 1e12)
    env = simpy.Environment()
    fabric = Fabric(env, ways.byte_per_s)
    pairs = [collectives.make(P2P, 1e9, [i, 8 + i]) for i in range(8)]
    env.run(env.all_of([env.process(run_collective(env, fabric, made)) for made in pairs]))
    assert env.now - one.fixed_ps == pytest.approx(8e9 / port * 1e12)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([*RINGS, ALL_TO_ALL]), st.randoms(use_true_random=False), st.sampled_from([IDEAL, REAL]))
def test_renumbering_changes_nothing(kind: int, random, vector) -> None:
    """Nodes are alike, and so are the places of a node behind its switch: only how many of a group share one counts."""
    ways = routes("dgx_h100", 64)
    nodes, places = random.sample(range(8), 4), random.sample(range(8), 8)
    plain = Collectives(ways, vector).make(kind, 1e7, range(32))
    other = Collectives(ways, vector).make(kind, 1e7, [8 * node + place for node in nodes for place in places])
    assert plain.algorithm == other.algorithm
    assert alone_ps(ways, plain) == pytest.approx(alone_ps(ways, other), abs=2)


def test_double_trees() -> None:
    for num_node in range(2, 40):
        inner = []
        for tree in double_tree(num_node):
            parent = dict(tree)
            assert len(parent) == num_node - 1  # all but the root have a parent
            root = (set(range(num_node)) - set(parent)).pop()
            depth = 0
            for node in range(num_node):
                steps = 0
                while node != root:
                    node, steps = parent[node], steps + 1
                depth = max(depth, steps)
            assert depth <= math.ceil(math.log2(num_node))
            children = [sum(p == node for p in parent.values()) for node in range(num_node)]
            assert max(children) <= 2
            inner.append({node for node in range(num_node) if children[node]})
        assert len(inner[0] & inner[1]) <= (1 if num_node % 2 else 0)  # odd: the root of one may be inner in both


def test_ten_thousand_devices_in_one_collective() -> None:
    ways = routes("dgx_h100", 10_000)
    made = Collectives(ways, IDEAL).make(ALL_REDUCE, 1e9, range(10_000), "ring")
    assert len(made.phase[0].byte) == 20_000  # to the next device inside, to the same place of the next node
    moved_s = 2 * 9999 / 10_000 * 1e9 / 400e9  # eight ports of 50 GB/s leave a node
    assert alone_ps(ways, made) - made.fixed_ps == pytest.approx(moved_s * 1e12)


def test_bad_groups() -> None:
    collectives = Collectives(routes("dgx_h100", 64), IDEAL)
    for group, message in (
        ([0, 64], "no such device"), ([0, 1, 0], "in the group twice"), ([0, 1, 8], "as many devices of each node")
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            collectives.make(ALL_REDUCE, 1.0, group)
    with pytest.raises(InputError, match="nearest: tree"):
        collectives.make(ALL_REDUCE, 1.0, [0, 1], "tre")
    with pytest.raises(InputError, match="not an algorithm of this all_gather"):
        collectives.make(ALL_GATHER, 1.0, [0, 8], "tree")
    assert collectives.make(ALL_REDUCE, 1e9, [3]).phase == ()
