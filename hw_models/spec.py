"""What a machine is, in SI units: frozen dataclasses that `hw_models.catalog` makes from files.

A number's source lies in `source` under the key that the file used (`mem_GBps`, `peak_bf16_TFLOPs`, ...).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hw_models.npu import Npu
from hw_models.pim import Pim
from kernels.formats import PIPES

FABRICS: tuple[str, ...] = ("switch", "mesh", "pairs", "torus", "pcie", "none")
"""How the devices of a node reach each other: through one switch layer, each to each, in bridged pairs over a
PCIe tree, as a 2-D or 3-D torus, over the PCIe tree alone, or not at all (one device)."""
NETWORKS: tuple[str, ...] = ("rail", "fat_tree", "dragonfly", "none")


@dataclass(frozen=True)
class Link:
    """A link between two ports. Rates are per direction."""

    name: str
    title: str
    byte_per_s: float  # per direction, after line coding
    latency_s: float  # one way, one hop
    source: Mapping[str, str] = field(default_factory=dict, hash=False, compare=False)


@dataclass(frozen=True)
class Device:
    """One accelerator (or CPU) as its datasheet has it. Peaks are dense (no structured sparsity)."""

    name: str
    title: str
    num_core: int  # SMs, CUs, TensorCores, CPU cores
    clock_hz: float  # the boost clock that the tensor peaks are quoted at
    peak_flop_per_s: tuple[float, ...]  # [len(PIPES)], 0 where the device has no such pipe
    vector_flop_per_s: float  # fp32 outside the tensor pipes
    mem_byte: float  # installed
    mem_reserved_byte: float  # kept by driver, firmware and error correction
    mem_byte_per_s: float
    mem_bus_bit: int  # 0: not stated
    mem_pin_bit_per_s: float  # 0: not stated
    l2_byte: float  # last on-chip level shared by all cores
    l2_byte_per_s: float
    tdp_w: float
    idle_w: float  # of a sleeping card; `hw_models.power` has all other watts
    price_usd_per_h: float  # rental of one device with its share of the node
    num_link: int  # scale-up links a device
    node: str  # catalogue name of the node that it usually sits in
    relative: str  # nearest device with a calibration of its own ("" none)
    profile: str  # its own calibration profile, where its file names one
    alias: tuple[str, ...]
    file: str
    power_limit_w: float = 0.0  # board power that it is limited to; 0: its TDP
    boost_w: float = 0.0  # that matrix products would draw at the boost clock (`hw_models.clock`); 0: not stated
    kernel_factor: float = 0.0  # times of inherited kernels over what the datasheets make of them; 0: not stated
    awake_w: float = 0.0  # between the kernels of a process that holds it; 0: not stated, as the shares below
    busy_share: float = 0.0  # of `tdp_w` less `awake_w`, what `hw_models.power.Draw` has under the same name
    product_share: float = 0.0
    attention_share: float = 0.0
    traffic_share: float = 0.0
    link_share: float = 0.0
    memory: str = ""  # part of `hw_models.memory` ("" none named)
    npu: Npu | None = None  # its systolic arrays and vector units
    pim: Pim | None = None  # its units in or under the memory
    source: Mapping[str, str] = field(default_factory=dict, hash=False, compare=False)

    def peak(self, pipe: str) -> float:
        """Dense peak FLOP/s of one pipe of `kernels.formats.PIPES`; 0 where absent."""
        return self.peak_flop_per_s[PIPES.index(pipe)]


@dataclass(frozen=True)
class Node:
    """Devices in one box, how they reach each other, their hosts and their network ports."""

    name: str
    title: str
    device: Device
    num_device: int
    fabric: str  # one of FABRICS
    dims: tuple[int, ...]  # torus only
    wrap: bool  # torus only: the ends of each axis are joined
    scale_up: Link | None  # one link; a device has `device.num_link` of them
    host_link: Link | None  # device to its PCIe switch or socket
    num_socket: int
    switch_adds: bool  # a fabric of switches that add what passes through them (NVLink SHARP)
    num_pcie_switch: int  # 0: devices hang on the sockets
    socket_byte_per_s: float  # between sockets, per direction; 0 with one socket
    host_mem_byte: float  # whole node
    host_mem_byte_per_s: float  # whole node
    nic: Link | None
    num_nic: int
    network: str  # one of NETWORKS: how nodes are joined
    rest_w: float  # everything in the box but the devices, at most
    rest_usd_per_h: float
    file: str
    disk_byte: float = 0.0  # whole node; 0: none stated
    disk_read_byte_per_s: float = 0.0  # whole node
    disk_write_byte_per_s: float = 0.0  # whole node
    rest_idle_w: float = 0.0  # the same with sleeping devices; 0: not stated
    rest_share: float = 0.0  # what it adds a watt of the devices; 0: not stated
    num_slice_device: int = 0  # torus only: devices of the largest slice that its cubes are joined to; 0: no larger one
    source: Mapping[str, str] = field(default_factory=dict, hash=False, compare=False)


@dataclass(frozen=True)
class System:
    """`num_node` equal nodes on one scale-out network."""

    name: str
    node: Node
    num_node: int = 1

    @property
    def device(self) -> Device:
        return self.node.device

    @property
    def num_device(self) -> int:
        return self.num_node * self.node.num_device

    def rest_w(self, num_device: int | None = None) -> float:
        """Power of everything but the devices (hosts, fans, switches, ports) at work: the share of `num_device`
        devices (all where not given)."""
        count = self.num_device if num_device is None else num_device
        return count * self.node.rest_w / self.node.num_device

    def price_usd_per_h(self, num_device: int | None = None) -> float:
        """Rental of `num_device` devices (all where not given), each with its share of the rest of its node."""
        count = self.num_device if num_device is None else num_device
        return count * (self.device.price_usd_per_h + self.node.rest_usd_per_h / self.node.num_device)
