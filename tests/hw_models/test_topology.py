"""Graphs of nodes and systems: rates of paths, groups and halves by hand; rows that follow from the graph."""

import networkx as nx
import pytest

from hw_models import catalog, topology
from hw_models.spec import System
from hw_models.topology import RATE, device_name
from kernels.errors import InputError
from kernels.machine import LINK_BYTE_PER_S, LINK_HOST, LINK_LATENCY_S, LINK_NUM_DEVICE, LINK_OUT, LINK_UP

NODES = [name for name in catalog.names("node") if catalog.read(name)[0].get("device")]


def _devices(count: int, node: int = 0) -> list[str]:
    return [device_name(node, i) for i in range(count)]


@pytest.mark.parametrize("name", NODES)
def test_every_node_is_connected_with_positive_rates(name: str) -> None:
    node = catalog.node(name)
    graph = topology.node_graph(node)
    assert nx.is_connected(graph)
    assert all(rate > 0 for *_, rate in graph.edges(data=RATE))
    kinds = [kind for _, kind in graph.nodes(data="kind")]
    assert kinds.count("device") == node.num_device
    assert kinds.count("nic") == node.num_nic


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("dgx_a100", 300e9),  # 12 links x 25 GB/s
        ("dgx_h100", 450e9),  # 18 x 25
        ("hgx_h800", 200e9),  # 8 x 25
        ("hgx_b200", 900e9),  # 18 x 50
        ("mi300x_x8", 448e9),  # 7 x 64, one to each peer
        ("tpu_v4_slice", 300e9),  # 6 x 50
        ("tpu_v5e_slice", 200e9),  # 4 x 50
        ("a40_x8", 31.508e9),  # a ring of eight crosses PCIe 4 between the pairs
        ("rtx_3090_x2", 56.25e9),  # 4 x 14.0625
    ],
)
def test_scale_up_rate_of_a_whole_node(name: str, rate: float) -> None:
    assert topology.link_rows(catalog.system(name))[LINK_UP, LINK_BYTE_PER_S] == pytest.approx(rate)


@pytest.mark.parametrize(
    ("name", "size", "rate"),
    [
        ("a40_x8", 2, 56.25e9),  # the bridge
        ("a40_x8", 4, 31.508e9),
        ("mi300x_x8", 2, 64e9),  # one link of seven
        ("mi300x_x8", 4, 192e9),  # three of seven
        ("tpu_v4_slice", 4, 100e9),  # a closed ring along one axis: two links
        ("tpu_v4_slice", 16, 200e9),  # a plane: four
        ("dgx_h100", 2, 450e9),  # a switch gives all links to any peer
    ],
)
def test_scale_up_rate_depends_on_the_group_where_the_fabric_does(name: str, size: int, rate: float) -> None:
    row = topology.link_rows(catalog.system(name), size)[LINK_UP]
    assert row[LINK_BYTE_PER_S] == pytest.approx(rate)
    assert row[LINK_NUM_DEVICE] == size


def test_a_pcie_ring_through_shared_uplinks_is_slower() -> None:
    # two devices behind each of four PCIe switches, as in a DGX but without its NVSwitch: every uplink carries one
    # hop of the ring out and one in, so the ring keeps a full link; in the order 0 2 4 6 1 3 5 7 each carries two
    graph = topology.node_graph(catalog.node("dgx_h100"))
    graph.remove_node("n0/switch")
    near, far = _devices(8), [device_name(0, i) for i in (0, 2, 4, 6, 1, 3, 5, 7)]
    assert topology.group_byte_per_s(graph, near) == pytest.approx(63.015e9)
    assert topology.group_byte_per_s(graph, far) == pytest.approx(63.015e9 / 2)


def test_paths() -> None:
    graph = topology.node_graph(catalog.node("a40_x8"))
    one, two, three, far = (device_name(0, i) for i in (0, 1, 2, 7))
    assert topology.path_byte_per_s(graph, one, two) == 56.25e9
    assert topology.path_byte_per_s(graph, two, three) == pytest.approx(31.508e9)
    assert topology.path(graph, two, far)[1][:2] == ("n0/host0", "n0/host1")  # over both sockets
    assert topology.path_latency_s(graph, one, one) == 0


@pytest.mark.parametrize(
    ("name", "size", "latency_us"),
    [
        ("dgx_h100", 8, 0.4),  # through the switch
        ("a40_x8", 2, 0.5),  # the bridge
        ("a40_x8", 8, 0.7),  # PCIe between the pairs
        ("tpu_v4_slice", 4, 1.0),  # one ICI hop, although the way over the host would be quicker
        ("tpu_v5e_slice", 8, 1.0),  # half of an axis: a line
    ],
)
def test_scale_up_latency_is_one_hop(name: str, size: int, latency_us: float) -> None:
    row = topology.link_rows(catalog.system(name), size)[LINK_UP]
    assert row[LINK_LATENCY_S] == pytest.approx(latency_us * 1e-6)


def test_ways_stay_on_the_scale_up_fabric() -> None:
    graph = topology.node_graph(catalog.node("tpu_v4_slice"))
    # opposite corners of a 4x4x4 torus are 2 + 2 + 2 hops apart
    assert topology.path_latency_s(graph, device_name(0, 0), device_name(0, 2 * 16 + 2 * 4 + 2)) == pytest.approx(6e-6)


def test_no_way() -> None:
    graph = topology.node_graph(catalog.node("a40_x8"))
    graph.add_node("island", kind="device")
    with pytest.raises(InputError, match="no way from n0/device0 to island"):
        topology.path(graph, device_name(0, 0), "island")


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("dgx_h100", 4 * 450e9),  # four devices send across
        ("mi300x_x8", 16 * 64e9),  # 4 x 4 links
        ("tpu_v4_slice", 2 * 16 * 50e9),  # 4x4x4 with joined ends, cut twice: two planes of 16 links
        ("tpu_v5e_slice", 1.6e12),  # 16x16: the figure of Google's documentation
    ],
)
def test_bisection(name: str, rate: float) -> None:
    node = catalog.node(name)
    graph = topology.node_graph(node)
    assert topology.bisection_byte_per_s(graph, _devices(node.num_device), "scale_up") == pytest.approx(rate)


def test_torus_degree_and_edges() -> None:
    graph = topology.node_graph(catalog.node("tpu_v4_slice"))
    ici = [(a, b) for a, b, kind in graph.edges(data="kind") if kind == "scale_up"]
    assert len(ici) == 64 * 3  # each device owns three of its six links
    assert {sum(kind == "scale_up" for *_, kind in graph.edges(d, data="kind")) for d in _devices(64)} == {6}


def test_a_small_torus_with_an_axis_of_two(tmp_path) -> None:
    file = tmp_path / "slice.toml"
    file.write_text('base = "tpu_v5e_slice"\ntitle = "2x4"\nnum_device = 8\ndims = [2, 4]\n')
    graph = topology.node_graph(catalog.node(str(file)))
    assert graph.edges[device_name(0, 0), device_name(0, 4)][RATE] == 100e9  # both links of the axis
    assert graph.edges[device_name(0, 0), device_name(0, 3)][RATE] == 50e9  # the joined end
    file.write_text('base = "tpu_v5e_slice"\ntitle = "2x4"\nnum_device = 8\ndims = [2, 4]\nwrap = false\n')
    graph = topology.node_graph(catalog.node(str(file)))
    assert not graph.has_edge(device_name(0, 0), device_name(0, 3))


@pytest.mark.parametrize("name", ["dgx_h100", "a40_x8", "tpu_v4_slice", "gh200_x1"])
def test_scale_out_row_is_the_path_in_the_graph(name: str) -> None:
    system = System("two", catalog.node(name), 2)
    row = topology.link_rows(system)[LINK_OUT]
    node, nic = system.node, system.node.nic
    assert nic is not None
    graph = topology.system_graph(system)
    a, b = device_name(0, 0), device_name(1, 0)
    assert row[LINK_LATENCY_S] == pytest.approx(topology.path_latency_s(graph, a, b))
    assert row[LINK_BYTE_PER_S] <= topology.path_byte_per_s(graph, a, b) * (1 + 1e-12)
    assert row[LINK_BYTE_PER_S] == pytest.approx(nic.byte_per_s * node.num_nic / node.num_device)
    assert row[LINK_NUM_DEVICE] == 2 * node.num_device


def test_host_row() -> None:
    row = topology.link_rows(catalog.system("dgx_h100"))[LINK_HOST]
    assert row[LINK_BYTE_PER_S] == 63.015e9
    assert row[LINK_NUM_DEVICE] == 2  # two devices behind a PCIe switch


def test_rail_optimised_network() -> None:
    system = catalog.system("dgx_h100", 8 * 40)  # more than the 32 nodes of one leaf
    graph = topology.system_graph(system)
    leaves = [v for v, kind in graph.nodes(data="kind") if kind == "leaf"]
    assert len(leaves) == 8 * 2  # eight rails, two leaves each
    assert nx.is_connected(graph)
    same_leaf = topology.path(graph, device_name(0, 3), device_name(31, 3))
    assert sum(graph.nodes[b]["kind"] == "leaf" for _, b in same_leaf) == 1
    assert any(b == "spine" for _, b in topology.path(graph, device_name(0, 3), device_name(32, 3)))
    # non-blocking: the leaf's uplink carries all 32 ports below it; with 2:1 half of them
    assert graph.edges["leaf0.0", "spine"][RATE] == pytest.approx(32 * 50e9)
    thin = topology.system_graph(system, oversubscription=2)
    assert thin.edges["leaf0.0", "spine"][RATE] == pytest.approx(16 * 50e9)


def test_fat_tree_network() -> None:
    system = catalog.system("a40_x8", 8 * 33)  # 32 nodes with a port each fill a leaf
    graph = topology.system_graph(system)
    assert [v for v, kind in graph.nodes(data="kind") if kind == "leaf"] == ["leaf0", "leaf1"]
    half = topology.bisection_byte_per_s(graph, [device_name(n, 0) for n in range(32)])
    assert half == pytest.approx(16 * 12.5e9)  # sixteen ports send across their leaf


def test_a_system_without_ports_is_one_node() -> None:
    system = catalog.system("rtx_3090")
    assert topology.system_graph(system).number_of_nodes() == topology.node_graph(system.node).number_of_nodes()
    assert topology.link_rows(system)[LINK_OUT].tolist() == [0, 0, 0, 0, 0]
    with pytest.raises(InputError, match="no network port"):
        topology.system_graph(System("two", system.node, 2))


BAD_NODES = [
    ("tpu_v4_slice", "dims = [4, 4, 5]", "multiply to num_device = 64"),
    ("dgx_h100", "dims = [2, 4]", "only a torus has dims"),
    ("dgx_h100", "wrap = true", "only a torus has dims and wraps"),
    ("dgx_h100", 'fabric = "pcie"', "a pcie fabric has no scale-up links"),
    ("dgx_h100", 'fabric = "ring"', "allowed: switch, mesh"),
    ("dgx_h100", 'fabric = "none"\nscale_up = ""', "one device needs no fabric"),
    ("a40_x8", "num_device = 7", "pairs need an even count"),
    ("dgx_h100", 'scale_up = ""', "a switch fabric needs it"),
    ("dgx_h100", 'scale_up = "nvlnk4"', "nearest: nvlink4"),
    ("dgx_h100", 'device = "l40s"', "l40s has no scale-up links"),
    ("dgx_h100", "num_socket = 1", "goes with two sockets"),
    ("dgx_h100", 'nic = ""', "nic, num_nic and network go together"),
]


@pytest.mark.parametrize(("base", "line", "message"), BAD_NODES)
def test_nodes_that_cannot_be(tmp_path, base: str, line: str, message: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(f'base = "{base}"\ntitle = "bad"\n{line}\n')
    with pytest.raises(InputError, match=message):
        catalog.node(str(file))


def test_a_group_needs_devices() -> None:
    with pytest.raises(InputError, match="group_size = 0"):
        topology.link_rows(catalog.system("dgx_h100"), 0)
    with pytest.raises(InputError, match="two devices"):
        topology.bisection_byte_per_s(topology.node_graph(catalog.node("gh200_x1")), _devices(1))


@pytest.mark.parametrize("name", [name for name in catalog.names("node") if catalog.read(name)[0].get("device")])
def test_link_rows_are_those_of_the_graph(name: str) -> None:
    """Behind one switch no graph is built: rate and latency are the same numbers."""
    system = catalog.system(name)
    most = system.node.num_device
    graph = topology.node_graph(system.node)
    for size in (size for size in range(2, most + 1) if size <= 64 or size & (size - 1) == 0 or size == most):
        try:
            group = [topology.device_name(0, i) for i in range(size)]
            expected = topology.group_byte_per_s(graph, group), topology.group_latency_s(graph, group), size
        except InputError:
            continue
        assert tuple(topology.link_rows(system, size)[LINK_UP, :3]) == expected
