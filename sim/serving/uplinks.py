"""Links between devices and hosts that replicas of one node share, for the replay of what they swap."""

from dataclasses import dataclass

import numpy as np

from hw_models.spec import Node
from kernels.fairness import Routes
from workloads.placement import Placement


@dataclass(frozen=True, eq=False)
class Uplinks:
    """Equal links: one of each device, and one up from each PCIe switch. Ways to the host and back are one: the engine
    counts what moves, whichever way."""

    byte_per_s: float  # of each
    num_link: int
    route: tuple[Routes, ...]  # of each replica: [device, hop]
    share: tuple[float, ...]  # of each replica: bytes a second of a device while the replica moves alone
    num_shared: int  # switches that replicas share

    @property
    def said(self) -> str:
        """What can contend, in words."""
        if not self.num_shared:
            return "no two replicas share a way to the host: nothing contends, and the calibrated run is the same"
        return f"swaps of replicas behind one PCIe switch share its way to the host ({self.num_shared} such switches)"


def uplinks(node: Node, placement: Placement) -> Uplinks | None:
    """The links of replicas laid on nodes one after another; devices hang on a node's switches evenly and in order
    (`hw_models.topology`). None where a device has no link to a host.

    >>> from hw_models import catalog
    >>> found = uplinks(catalog.system("dgx_h100").node, Placement(tp=1, dp=3))
    >>> [route.tolist() for route in found.route], found.num_shared  # devices 0 and 1 are behind one switch
    ([[[0, 3]], [[1, 3]], [[2, 4]]], 1)
    """
    if node.host_link is None:
        return None
    size, num_switch = placement.replica_device, node.num_pcie_switch
    number: dict[tuple[int, int], int] = {}  # of each switch: its link
    users: dict[int, set[int]] = {}
    routes, shares = [], []
    for k in range(placement.dp):
        rows = []
        for device in range(k * size, (k + 1) * size):
            place, local = divmod(device, node.num_device)
            up = -1
            if num_switch:
                switch = place, local * num_switch // node.num_device
                up = number.setdefault(switch, placement.num_device + len(number))
                users.setdefault(up, set()).add(k)
            rows.append((device, up))
        route = np.array(rows, np.int32)
        _, count = np.unique(route[route[:, 1] >= 0, 1], return_counts=True)
        routes.append(route)
        shares.append(node.host_link.byte_per_s / int(count.max(initial=1)))
    shared = sum(len(held) > 1 for held in users.values())
    num_link = placement.num_device + len(number)
    return Uplinks(node.host_link.byte_per_s, num_link, tuple(routes), tuple(shares), shared)
