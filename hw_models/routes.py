"""Ways between devices as numbers of directed links, found once a pattern so that ten thousand ranks are quick.

Edge `e` of a graph is two links: `2 e` in the direction in which the graph lists it, `2 e + 1` against it. Nodes are
alike, so ways inside one are found in node 0 and carried over; ways between nodes are put together from the way to a
port, the way through the network between two switches, and the way from a port.
"""

import functools
import itertools
from collections.abc import Sequence

import networkx as nx
import numpy as np
import numpy.typing as npt

from hw_models import topology
from hw_models.network import LATENCY, RATE
from hw_models.spec import System
from hw_models.topology import Graph, device_name, path
from kernels.units import PS_PER_S

Hop = tuple[str, str]


class Routes:
    """The directed links of a system's graph and the ways over them. A device is a number: node x size + place.

    >>> from hw_models import catalog
    >>> routes = Routes(catalog.system("dgx_h100", 16))
    >>> [routes.name(link) for link in routes.between(0, 1)]
    ['n0/device0>n0/switch', 'n0/switch>n0/device1']
    >>> len(routes.between(0, 8)), routes.latency_ps(0, 8)  # a port each and one switch
    (6, 2400000)
    """

    def __init__(self, system: System, *, radix: int = 64, oversubscription: float = 1.0) -> None:
        self.system = system
        self.graph: Graph = topology.system_graph(system, radix=radix, oversubscription=oversubscription)
        edges = list(self.graph.edges(data=True))
        self._link: dict[Hop, int] = {}
        for index, (a, b, _) in enumerate(edges):
            self._link[a, b], self._link[b, a] = 2 * index, 2 * index + 1
        rate, latency = ([data[key] for *_, data in edges] for key in (RATE, LATENCY))
        self.byte_per_s: npt.NDArray[np.float64] = np.repeat(np.array(rate, np.float64), 2)  # [link]
        self.latency_s: npt.NDArray[np.float64] = np.repeat(np.array(latency, np.float64), 2)
        self._node: Graph = topology.node_graph(system.node)
        switches = [name for name, kind in self.graph.nodes(data="kind") if kind in ("leaf", "spine")]
        self._network: Graph = self.graph.subgraph(switches).copy()
        self._inside: dict[tuple[int, int], list[Hop]] = {}
        self._to_port: dict[tuple[int, int], list[Hop]] = {}
        self._to_port_s: dict[tuple[int, int], float] = {}
        self._through: dict[Hop, tuple[list[Hop], float]] = {}
        self._choice: dict[tuple[int, int, tuple[str, ...], tuple[str, ...]], tuple[int, int]] = {}
        ports = range(system.node.num_nic)
        self._leaves = [  # [node][port]: the switch that a port hangs on
            tuple(next(v for v in self.graph[f"n{node}/nic{port}"] if v in self._network) for port in ports)
            for node in range(system.num_node)
        ]

    @property
    def num_link(self) -> int:
        return self.byte_per_s.size

    def name(self, link: int) -> str:
        """`from>to` of a link."""
        return self._names[link]

    @functools.cached_property
    def _names(self) -> dict[int, str]:
        return {number: f"{a}>{b}" for (a, b), number in self._link.items()}

    def link(self, a: str, b: str) -> int:
        """The link from vertex `a` to its neighbour `b`."""
        return self._link[a, b]

    def vertex(self, device: int) -> str:
        size = self.system.node.num_device
        return device_name(device // size, device % size)

    def between(self, a: int, b: int) -> list[int]:
        """Links of the way of least latency from device `a` to device `b`; over the scale-up fabric inside a node."""
        return [self._link[hop] for hop in self._hops(a, b)]

    def latency_ps(self, a: int, b: int) -> int:
        """Sum of one-way latencies of that way, to the nearest picosecond."""
        return round(float(self.latency_s[self.between(a, b)].sum()) * PS_PER_S)

    def _hops(self, a: int, b: int) -> list[Hop]:
        size = self.system.node.num_device
        (node_a, i), (node_b, j) = divmod(a, size), divmod(b, size)
        if node_a == node_b:
            if (i, j) not in self._inside:
                self._inside[i, j] = path(self._node, device_name(0, i), device_name(0, j))
            return _moved(self._inside[i, j], node_a)
        p, q = self._ports(i, j, self._leaves[node_a], self._leaves[node_b])
        leaves = self._leaves[node_a][p], self._leaves[node_b][q]
        return [
            *_moved(self._port_hops(i, p), node_a),
            (f"n{node_a}/nic{p}", leaves[0]),
            *self._network_hops(leaves)[0],
            (leaves[1], f"n{node_b}/nic{q}"),
            *_moved([(y, x) for x, y in reversed(self._port_hops(j, q))], node_b),
        ]

    def _ports(self, i: int, j: int, from_leaf: tuple[str, ...], to_leaf: tuple[str, ...]) -> tuple[int, int]:
        """The ports of least latency out of a node from place `i` and into another to place `j`."""
        key = i, j, from_leaf, to_leaf
        if key not in self._choice:
            best_s = np.inf
            for p, q in itertools.product(self._near(i), self._near(j)):
                latency_s = self._port_s(i, p) + self._port_s(j, q)
                if latency_s >= best_s - 1e-15:
                    continue
                latency_s += self._network_hops((from_leaf[p], to_leaf[q]))[1]
                if latency_s < best_s - 1e-15:
                    best_s, self._choice[key] = latency_s, (p, q)
        return self._choice[key]

    def _network_hops(self, leaves: Hop) -> tuple[list[Hop], float]:
        """The way between two switches and its latency."""
        if leaves not in self._through:
            hops = list(itertools.pairwise(nx.shortest_path(self._network, *leaves)))
            self._through[leaves] = hops, float(sum(self._network.edges[hop][LATENCY] for hop in hops))
        return self._through[leaves]

    def _near(self, device: int) -> Sequence[int]:
        """Ports, the nearest in number to the device's share first: device `i` of `n` prefers port `i x ports / n`."""
        node = self.system.node
        own = device * node.num_nic // node.num_device
        return sorted(range(node.num_nic), key=lambda port: (port != own, port))

    def _port_hops(self, device: int, port: int) -> list[Hop]:
        if (device, port) not in self._to_port:
            a, b = device_name(0, device), f"n0/nic{port}"
            self._to_port[device, port] = list(itertools.pairwise(nx.shortest_path(self._node, a, b, weight=LATENCY)))
        return self._to_port[device, port]

    def _port_s(self, device: int, port: int) -> float:
        if (device, port) not in self._to_port_s:
            hops = self._port_hops(device, port)
            self._to_port_s[device, port] = float(sum(self._node.edges[hop][LATENCY] for hop in hops))
        return self._to_port_s[device, port]


def _moved(hops: Sequence[Hop], node: int) -> list[Hop]:
    """Ways of node 0 in another node."""
    if node == 0:
        return list(hops)
    return [(f"n{node}{a[2:]}", f"n{node}{b[2:]}") for a, b in hops]
