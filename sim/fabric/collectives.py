"""A collective as flows on a topology: the algorithm that the library picks, its bytes over the links that they take.

`kernels.collective` picks the algorithm and says how long its hops and its bytes take on links of its own. Here those
bytes become flows: seconds of bytes inside a node times the rate that the group has there, seconds between nodes times
the rate of a device's share of ports. Protocol overhead so travels as bytes, and where no other flow shares a link the
last flow ends when the closed form says. Where links are shared, or narrower than the closed form assumes
(oversubscribed switches, ports that several devices share), flows take as long as their links make them.

====================  ==========================================================================================
inside a node         behind a switch a ring (all-reduce, gather, scatter), all pairs (direct, one-shot, two-shot) or
                      to the switch and back (NVLink SHARP); linked directly each device to its neighbours in the
                      ratio of their links; else a ring over the PCIe tree
between nodes         each device with the same place of other nodes: the next node (ring, hierarchical), its parents
                      and children in two binary trees, or all nodes (all-to-all)
====================  ==========================================================================================
"""

import itertools
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import numpy as np
import simpy

from hw_models import topology
from hw_models.routes import Routes
from kernels.collective import (
    ALGORITHMS,
    ANY,
    HIERARCHICAL,
    HOST_S,
    NO_ALGORITHM,
    NVLS,
    NVLS_TREE,
    RING,
    TREE,
    collective_parts,
)
from kernels.errors import InputError
from kernels.fairness import Floats
from kernels.fairness import Routes as RouteArray
from kernels.machine import LINK_BYTE_PER_S, LINK_OUT, LINK_UP
from kernels.optable import ALL_GATHER, ALL_REDUCE, KINDS, NUM_KIND, P2P
from kernels.units import to_ps
from sim.fabric.flows import Fabric, pad_routes

MAX_FLOW = 200_000


class Phase(NamedTuple):
    """Flows that run together, after the phase before them."""

    route: RouteArray  # [flow, hop]
    byte: Floats  # [flow], protocol overhead included


class Collective(NamedTuple):
    algorithm: str
    fixed_ps: int  # launch and hops
    least_ps: int  # no shorter than its dispatch by the host
    phase: tuple[Phase, ...]


Pattern = tuple[list[list[int]], list[float]]  # routes, and the share of a device's bytes that each carries


class Collectives:
    """Makes collectives on the links of one system; patterns of a group are found once.

    `fit`: a fit vector as `kernels.collective` takes it, or one a kind (`Machine.fit[:, format]`).
    """

    def __init__(self, routes: Routes, fit: Floats) -> None:
        self.routes = routes
        self._fit = np.array(np.broadcast_to(fit, (NUM_KIND, fit.shape[-1])))
        self._link: dict[int, Floats] = {}
        self._pattern: dict[tuple[str, tuple[int, ...]], tuple[RouteArray, Floats]] = {}

    def make(self, kind: int, message_byte: float, group: Sequence[int], algorithm: str = "") -> Collective:
        """A collective of `message_byte` (as in `kernels.collective`) among the devices of `group`, by the algorithm
        that is fastest alone or by the one named. Point to point: from the first of `group` to the second."""
        nodes = self._by_node(group)
        if len(group) <= 1 or message_byte <= 0:
            return Collective("none", 0, 0, ())
        link = self._links(len(nodes[0]) if kind != P2P or len(nodes) > 1 else 2)
        only = ANY
        if algorithm:
            if algorithm not in ALGORITHMS:
                raise InputError("no such algorithm", field="algorithm", value=algorithm, allowed=ALGORITHMS)
            only = ALGORITHMS.index(algorithm)
        code, fixed_s, inside_s, between_s = collective_parts(
            kind, float(message_byte), len(group), len(nodes), link, self._fit[kind], only
        )
        if code == NO_ALGORITHM:
            raise InputError(f"not an algorithm of this {KINDS[kind]}", field="algorithm", value=algorithm)
        inside = self._phase(self._inside_name(kind, code), group, nodes, inside_s * link[LINK_UP, LINK_BYTE_PER_S])
        between = None
        if len(nodes) > 1:
            over = {RING: "next", HIERARCHICAL: "next", TREE: "tree", NVLS_TREE: "tree"}
            name = over.get(code, "pair" if kind == P2P else "all")
            between = self._phase(name, group, nodes, between_s * link[LINK_OUT, LINK_BYTE_PER_S])
        return Collective(
            ALGORITHMS[code], to_ps(fixed_s), to_ps(float(self._fit[kind, HOST_S])), _order(kind, code, inside, between)
        )

    def timed(self, group: Sequence[int], fixed_s: float, inside_s: float, between_s: float) -> Collective:
        """A ring (of two devices: a transfer) that takes these times alone: `fixed_s`, then bytes for `inside_s` on the
        links inside nodes and for `between_s` on those between them, both at once."""
        nodes = self._by_node(group)
        link = self._links(max(len(nodes[0]), 2))
        both = (
            self._phase("ring", group, nodes, inside_s * link[LINK_UP, LINK_BYTE_PER_S]),
            self._phase("next", group, nodes, between_s * link[LINK_OUT, LINK_BYTE_PER_S]) if len(nodes) > 1 else None,
        )
        phase = [part for part in both if part is not None]
        return Collective("ring", to_ps(fixed_s), 0, (_together(phase),) if phase else ())

    def transfer(self, a: int, b: int, fixed_s: float, moving_s: float) -> Collective:
        """From device `a` to `b`: `fixed_s`, then bytes that take `moving_s` on links of their own."""
        nodes = self._by_node([a, b])
        link = self._links(2)
        rate = link[LINK_OUT if len(nodes) > 1 else LINK_UP, LINK_BYTE_PER_S]
        phase = self._phase("pair", (a, b), nodes, moving_s * rate)
        return Collective("transfer", to_ps(fixed_s), 0, (phase,) if phase is not None else ())

    def _by_node(self, group: Sequence[int]) -> list[list[int]]:
        size = self.routes.system.node.num_device
        count = self.routes.system.num_device
        nodes: dict[int, list[int]] = {}
        for device in group:
            if not 0 <= device < count:
                raise InputError("no such device", field="group", value=device, allowed=f"0 to {count - 1}")
            nodes.setdefault(device // size, []).append(device)
        if len(set(group)) < len(group):
            raise InputError("a device is in the group twice", field="group", value=list(group))
        if len({len(members) for members in nodes.values()}) > 1:
            raise InputError("as many devices of each node", field="group", value=list(group))
        return list(nodes.values()) or [[]]

    def _links(self, group_size: int) -> Floats:
        if group_size not in self._link:
            self._link[group_size] = topology.link_rows(self.routes.system, group_size)
        return self._link[group_size]

    def _inside_name(self, kind: int, code: int) -> str:
        if kind == P2P:
            return "pair"
        if code in (NVLS, NVLS_TREE):
            return "switch"
        if code in (RING, HIERARCHICAL, TREE):
            return "ring"
        return "pairs"

    def _phase(self, name: str, group: Sequence[int], nodes: list[list[int]], device_byte: float) -> Phase | None:
        """Flows of one pattern in which a device sends `device_byte`."""
        if device_byte <= 0:
            return None
        key = name, tuple(group)
        if key not in self._pattern:
            makers = {"pair": self._pair, "pairs": self._pairs, "ring": self._ring, "switch": self._switch,
                      "next": self._next, "tree": self._tree, "all": self._all}  # fmt: skip
            route, share = makers[name](nodes)
            if len(route) > MAX_FLOW:
                raise InputError("too many flows", field="group", value=len(group), allowed=f"{MAX_FLOW} flows")
            self._pattern[key] = pad_routes(route), np.array(share)
        padded, shares = self._pattern[key]
        return Phase(padded, shares * device_byte)

    def _pair(self, nodes: list[list[int]]) -> Pattern:
        a, b = itertools.chain(*nodes)
        return [self.routes.between(a, b)], [1.0]

    def _ring(self, nodes: list[list[int]]) -> Pattern:
        route: list[list[int]] = []
        share: list[float] = []
        for members in nodes:
            if len(members) < 2:
                continue
            own_route, own_share = self._neighbours(members) or ([], [])
            if not own_route:
                own_route = [
                    self.routes.between(a, b) for a, b in zip(members, [*members[1:], members[0]], strict=True)
                ]
                own_share = [1.0] * len(members)
            route += own_route
            share += own_share
        return route, share

    def _pairs(self, nodes: list[list[int]]) -> Pattern:
        route: list[list[int]] = []
        share: list[float] = []
        for members in nodes:
            own_route, own_share = self._neighbours(members) or ([], [])
            if not own_route:
                own_route = [self.routes.between(a, b) for a, b in itertools.permutations(members, 2)]
                own_share = [1.0 / (len(members) - 1)] * len(own_route)
            route += own_route
            share += own_share
        return route, share

    def _neighbours(self, members: list[int]) -> Pattern | None:
        """Where devices are linked directly: over all links inside the group, in the ratio of their rates."""
        names = [self.routes.vertex(device) for device in members]
        direct = topology.direct_links(self.routes.graph, names)
        if direct is None:
            return None
        route, share = [], []
        for a in names:
            links = [self.routes.link(a, b) for b in direct[a]]
            rate = self.routes.byte_per_s[links]
            route += [[link] for link in links]
            share += (rate / rate.sum()).tolist()
        return route, share

    def _switch(self, nodes: list[list[int]]) -> Pattern:
        names = [self.routes.vertex(device) for members in nodes for device in members]
        shared = set.intersection(*(set(self.routes.graph[name]) for name in names))
        switch = next((v for v in sorted(shared) if self.routes.graph.nodes[v]["kind"] == "switch"), None)
        if switch is None:
            raise InputError("no switch that adds joins these devices", field="group", value=names)
        route = [[self.routes.link(*hop)] for name in names for hop in ((name, switch), (switch, name))]
        return route, [1.0] * len(route)

    def _next(self, nodes: list[list[int]]) -> Pattern:
        route = [
            self.routes.between(a, b)
            for here, there in zip(nodes, [*nodes[1:], nodes[0]], strict=True)
            for a, b in zip(here, there, strict=True)
        ]
        return route, [1.0] * len(route)

    def _tree(self, nodes: list[list[int]]) -> Pattern:
        """Half of the bytes in each of two trees, up and down every edge: a device of an inner node, which has three
        edges in one tree and one in the other, sends four quarters of its bytes; of two nodes, one edge each, halves.
        """
        route = [
            self.routes.between(a, b)
            for tree in double_tree(len(nodes))
            for child, parent in tree
            for low, high in zip(nodes[child], nodes[parent], strict=True)
            for a, b in ((low, high), (high, low))
        ]
        return route, [0.5 if len(nodes) == 2 else 0.25] * len(route)

    def _all(self, nodes: list[list[int]]) -> Pattern:
        route = [
            self.routes.between(a, b)
            for here, there in itertools.permutations(nodes, 2)
            for a, b in zip(here, there, strict=True)
        ]
        return route, [1.0 / (len(nodes) - 1)] * len(route)


def double_tree(num_node: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Edges (child, parent) of two binary trees in which a node that is inner in one is a leaf in the other (Sanders,
    Speck and Traeff, "Two-tree algorithms for full bandwidth broadcast, reduction and scan", 2009).

    The second is the first mirrored, or shifted by one where the number of nodes is odd.

    >>> double_tree(4)
    ([(1, 2), (2, 0), (3, 2)], [(2, 1), (1, 3), (0, 1)])
    """
    first = []
    for node in range(1, num_node):
        low = node & -node  # an odd node is a leaf; its parent has the next bit up
        parent = (node ^ low) | (low << 1)
        first.append((node, parent if parent < num_node else node ^ low))
    if num_node % 2:
        second = [((a + 1) % num_node, (b + 1) % num_node) for a, b in first]
    else:
        second = [(num_node - 1 - a, num_node - 1 - b) for a, b in first]
    return first, second


def _order(kind: int, code: int, inside: Phase | None, between: Phase | None) -> tuple[Phase, ...]:
    """Phases in order: hierarchical reduces inside, exchanges, and gathers inside; all else runs together."""
    if code != HIERARCHICAL or inside is None or between is None:
        both = [phase for phase in (inside, between) if phase is not None]
        return (both[0],) if len(both) == 1 else (_together(both),) if both else ()
    if kind == ALL_REDUCE:
        half = Phase(inside.route, inside.byte / 2)
        return half, between, half
    return (between, inside) if kind == ALL_GATHER else (inside, between)


def _together(phases: list[Phase]) -> Phase:
    width = max(phase.route.shape[1] for phase in phases)
    padded = [np.pad(p.route, ((0, 0), (0, width - p.route.shape[1])), constant_values=-1) for p in phases]
    return Phase(np.concatenate(padded), np.concatenate([phase.byte for phase in phases]))


def run_collective(env: simpy.Environment, fabric: Fabric, collective: Collective) -> Generator[simpy.Event, Any, None]:
    """A process (or part of one) that lasts as long as the collective."""
    start = env.now
    if collective.fixed_ps:
        yield env.timeout(collective.fixed_ps)
    for phase in collective.phase:
        yield fabric.send(phase.route, phase.byte)
    short = start + collective.least_ps - env.now
    if collective.phase and short > 0:
        yield env.timeout(short)


def alone_ps(routes: Routes, collective: Collective) -> int:
    """How long a collective takes with all links to itself, simulated."""
    env = simpy.Environment()
    fabric = Fabric(env, routes.byte_per_s)
    env.run(env.process(run_collective(env, fabric, collective)))
    return int(env.now)
