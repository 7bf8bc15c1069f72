"""What a device has of the way to its host while its replica moves KV or adapters: devices behind one PCIe switch share
the way up from it, and all devices of a replica move their parts at once."""

from kernels.machine import LINK_BYTE_PER_S, LINK_HOST, LINK_NUM_DEVICE, Machine
from workloads.placement import Placement


def num_sharing(machine: Machine, placement: Placement) -> float:
    """Devices of a replica behind one switch, as the node file has it; 1 where they hang on the sockets."""
    held = placement.stage_device * placement.pp
    return max(1.0, min(float(held), float(machine.link[LINK_HOST, LINK_NUM_DEVICE])))


def host_byte_per_s(machine: Machine, placement: Placement) -> float:
    """Bytes a second, a direction, of each device of a replica while all of them move; 0 without a host."""
    return float(machine.link[LINK_HOST, LINK_BYTE_PER_S]) / num_sharing(machine, placement)
