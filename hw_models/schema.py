"""The file boundary: what a TOML file of each kind may say, in friendly units, and its conversion to SI.

Every number is written `key = { value = 3352, source = "datasheet: ..." }`, the unit being the end of the key;
a bare `key = 3352` is allowed in a user's file and `ridgeline check` then reports that it has no source.
"""

import math
import pathlib
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from hw_models.npu import NpuTable, to_npu
from hw_models.pim import PimTable, to_pim
from hw_models.sourced import SI, HardwareFile, Sourced, numbers, parse, quantity, si, sources
from hw_models.spec import FABRICS, NETWORKS, Device, Link
from kernels.errors import InputError
from kernels.formats import PIPES

__all__ = ["SI", "numbers", "parse", "si", "sources"]


class LinkFile(HardwareFile):
    link_GBps: Sourced = quantity(1e-3, 1e5)
    latency_us: Sourced = quantity(1e-3, 1e6)


class DeviceFile(HardwareFile):
    num_core: Sourced = quantity(1, 1e6, whole=True)
    clock_MHz: Sourced = quantity(10, 2e4)
    peak_vector_TFLOPs: Sourced = quantity(1e-3, 1e5)
    peak_fp32_TFLOPs: Sourced = quantity(0, 1e5, absent=0)
    peak_tf32_TFLOPs: Sourced = quantity(0, 1e5, absent=0)
    peak_bf16_TFLOPs: Sourced = quantity(0, 1e5, absent=0)
    peak_fp16_TFLOPs: Sourced = quantity(0, 1e5, absent=0)
    peak_fp8_TFLOPs: Sourced = quantity(0, 1e5, absent=0)
    peak_int8_TOPs: Sourced = quantity(0, 1e5, absent=0)
    peak_int4_TOPs: Sourced = quantity(0, 1e5, absent=0)
    peak_fp4_TFLOPs: Sourced = quantity(0, 1e5, absent=0)
    mem_GiB: Sourced = quantity(1e-2, 1e5)
    mem_reserved_GiB: Sourced = quantity(0, 1e4, absent=0)
    mem_GBps: Sourced = quantity(1e-1, 1e5)
    mem_bus_bit: Sourced = quantity(0, 1e6, whole=True, absent=0)
    mem_pin_Gbps: Sourced = quantity(0, 100, absent=0)
    l2_MiB: Sourced = quantity(1e-3, 1e5)
    l2_GBps: Sourced = quantity(1, 1e6)
    tdp_W: Sourced = quantity(0.1, 1e5)
    idle_W: Sourced = quantity(0, 1e5)
    power_limit_W: Sourced = quantity(0, 1e5, absent=0)
    boost_W: Sourced = quantity(0, 1e5, absent=0)
    kernel_factor: Sourced = quantity(0.1, 100, absent=0)
    awake_W: Sourced = quantity(0, 1e5, absent=0)
    busy_share: Sourced = quantity(0, 10, absent=0)
    product_share: Sourced = quantity(0, 10, absent=0)
    attention_share: Sourced = quantity(0, 10, absent=0)
    traffic_share: Sourced = quantity(0, 10, absent=0)
    link_share: Sourced = quantity(0, 10, absent=0)
    price_USDph: Sourced = quantity(0, 1e4)
    num_link: Sourced = quantity(0, 1024, whole=True, absent=0)
    node: str
    relative: str = ""
    profile: str = ""
    memory: str = ""  # a part of hw_models/memory
    npu: NpuTable | None = None  # systolic arrays, where it has them
    pim: PimTable | None = None  # units in or under its memory, where it has them
    calibration: dict[str, Any] = Field(default={})  # a profile inside the file, as `hw_models.profile` has it
    engine: dict[str, Any] = Field(
        default={}
    )  # host times of the loop measured on it, as `sim.serving.engine_profile` has


class NodeFile(HardwareFile):
    device: str = ""  # empty: a box for any device that names it
    num_device: Sourced = quantity(1, 1e5, whole=True)
    fabric: str
    dims: list[int] = Field(default_factory=list)
    wrap: bool = False
    num_slice_device: Sourced = quantity(0, 1e6, whole=True, absent=0)
    scale_up: str = ""
    host_link: str = ""
    switch_adds: Sourced = quantity(0, 1, whole=True, absent=0)
    num_socket: Sourced = quantity(1, 64, whole=True)
    num_pcie_switch: Sourced = quantity(0, 256, whole=True, absent=0)
    socket_GBps: Sourced = quantity(0, 1e4, absent=0)
    host_mem_GiB: Sourced = quantity(1, 1e6)
    host_mem_GBps: Sourced = quantity(1, 1e5)
    disk_GiB: Sourced = quantity(0, 1e7, absent=0)
    disk_read_GBps: Sourced = quantity(0, 1e4, absent=0)
    disk_write_GBps: Sourced = quantity(0, 1e4, absent=0)
    nic: str = ""
    num_nic: Sourced = quantity(0, 1024, whole=True, absent=0)
    network: str = "none"
    rest_W: Sourced = quantity(0, 1e6)
    rest_idle_W: Sourced = quantity(0, 1e6, absent=0)
    rest_share: Sourced = quantity(0, 1, absent=0)
    rest_USDph: Sourced = quantity(0, 1e5, absent=0)


class SystemFile(HardwareFile):
    node: str
    num_node: Sourced = quantity(1, 1e6, whole=True)


KINDS: dict[str, type[HardwareFile]] = {"device": DeviceFile, "node": NodeFile, "link": LinkFile, "system": SystemFile}


def to_link(raw: Mapping[str, Any], name: str, file: str) -> Link:
    parsed = parse(LinkFile, raw, file)
    return Link(name, parsed.title, si(parsed, "link_GBps"), si(parsed, "latency_us"), sources(parsed))


def peak_key(pipe: str) -> str:
    """The key of a pipe's peak in a device file.

    >>> peak_key("int8"), peak_key("bf16")
    ('peak_int8_TOPs', 'peak_bf16_TFLOPs')
    """
    return f"peak_{pipe}_" + ("TOPs" if pipe.startswith("int") else "TFLOPs")


def to_device(raw: Mapping[str, Any], name: str, file: str) -> Device:
    parsed = parse(DeviceFile, raw, file)
    peaks = tuple(si(parsed, peak_key(pipe)) for pipe in PIPES)
    if max(peaks) <= 0:
        raise InputError("a device needs the peak of one pipe at least", file=file, field="peak_bf16_TFLOPs", value=0)
    if parsed.idle_W.value > parsed.tdp_W.value:
        raise InputError(
            "idle power above board power",
            file=file,
            field="idle_W",
            value=parsed.idle_W.value,
            allowed=f"0 to tdp_W = {parsed.tdp_W.value:g} W",
        )
    if parsed.awake_W.value >= parsed.tdp_W.value:
        raise InputError(
            "not below board power",
            file=file,
            field="awake_W",
            value=parsed.awake_W.value,
            allowed=f"below tdp_W = {parsed.tdp_W.value:g} W",
        )
    if parsed.power_limit_W.value and not parsed.idle_W.value < parsed.power_limit_W.value <= parsed.tdp_W.value:
        raise InputError(
            "not between idle power and board power",
            file=file,
            field="power_limit_W",
            value=parsed.power_limit_W.value,
            allowed=f"above {parsed.idle_W.value:g} to tdp_W = {parsed.tdp_W.value:g} W",
        )
    if parsed.mem_reserved_GiB.value >= parsed.mem_GiB.value:
        raise InputError(
            "reserved memory takes all",
            file=file,
            field="mem_reserved_GiB",
            value=parsed.mem_reserved_GiB.value,
            allowed=f"0 to below mem_GiB = {parsed.mem_GiB.value:g} GiB",
        )
    if parsed.calibration and parsed.profile:
        raise InputError(
            "the file holds a calibration of its own", file=file, field="profile", value=parsed.profile,
            allowed="one of profile and [calibration]",
        )  # fmt: skip
    return Device(
        name=name,
        title=parsed.title,
        num_core=int(parsed.num_core.value),
        clock_hz=si(parsed, "clock_MHz"),
        peak_flop_per_s=peaks,
        vector_flop_per_s=si(parsed, "peak_vector_TFLOPs"),
        mem_byte=si(parsed, "mem_GiB"),
        mem_reserved_byte=si(parsed, "mem_reserved_GiB"),
        mem_byte_per_s=si(parsed, "mem_GBps"),
        mem_bus_bit=int(parsed.mem_bus_bit.value),
        mem_pin_bit_per_s=si(parsed, "mem_pin_Gbps"),
        l2_byte=si(parsed, "l2_MiB"),
        l2_byte_per_s=si(parsed, "l2_GBps"),
        tdp_w=si(parsed, "tdp_W"),
        idle_w=si(parsed, "idle_W"),
        power_limit_w=si(parsed, "power_limit_W"),
        boost_w=si(parsed, "boost_W"),
        kernel_factor=si(parsed, "kernel_factor"),
        awake_w=si(parsed, "awake_W"),
        busy_share=si(parsed, "busy_share"),
        product_share=si(parsed, "product_share"),
        attention_share=si(parsed, "attention_share"),
        traffic_share=si(parsed, "traffic_share"),
        link_share=si(parsed, "link_share"),
        price_usd_per_h=si(parsed, "price_USDph"),
        num_link=int(parsed.num_link.value),
        node=parsed.node,
        relative=parsed.relative,
        profile=pathlib.Path(file).name if parsed.calibration else parsed.profile,
        alias=tuple(parsed.alias),
        file=file,
        memory=parsed.memory,
        npu=to_npu(parsed.npu, file) if parsed.npu else None,
        pim=to_pim(parsed.pim, parsed.memory, si(parsed, "mem_GBps"), file) if parsed.pim else None,
        source=sources(parsed),
    )


def check_choice(file: str, field: str, value: str, allowed: tuple[str, ...]) -> None:
    """`InputError` where `value` is none of `allowed`."""
    if value not in allowed:
        raise InputError(f"no such {field}", file=file, field=field, value=value, allowed=allowed)


def check_node(parsed: NodeFile, file: str) -> None:
    """What a node's fields must satisfy together."""
    check_choice(file, "fabric", parsed.fabric, FABRICS)
    check_choice(file, "network", parsed.network, NETWORKS)
    count = int(parsed.num_device.value)
    if parsed.fabric == "torus":
        if len(parsed.dims) not in (2, 3) or min(parsed.dims) < 1 or math.prod(parsed.dims) != count:
            raise InputError(
                f"the sides of a torus multiply to num_device = {count}",
                file=file, field="dims", value=parsed.dims, allowed="2 or 3 whole numbers",
            )  # fmt: skip
    elif parsed.num_slice_device.value:
        given = parsed.num_slice_device.value
        raise InputError("only a torus has slices", file=file, field="num_slice_device", value=given)
    elif parsed.dims or parsed.wrap:
        raise InputError("only a torus has dims and wraps", file=file, field="dims", value=parsed.dims)
    if parsed.scale_up and parsed.fabric in ("pcie", "none"):
        raise InputError(
            f"a {parsed.fabric} fabric has no scale-up links", file=file, field="scale_up", value=parsed.scale_up
        )
    if parsed.fabric == "pairs" and count % 2:
        raise InputError("pairs need an even count", file=file, field="num_device", value=count)
    if parsed.fabric == "none" and count > 1:
        raise InputError("one device needs no fabric, more do", file=file, field="fabric", value="none")
    for key, needed in (("scale_up", parsed.fabric in ("switch", "mesh", "pairs", "torus")),
                        ("host_link", parsed.fabric in ("pairs", "pcie"))):  # fmt: skip
        if needed and not getattr(parsed, key):
            raise InputError(f"a {parsed.fabric} fabric needs it", file=file, field=key, value="", allowed="a link")
    if (parsed.num_socket.value > 1) != (parsed.socket_GBps.value > 0):
        raise InputError(
            "the rate between sockets goes with two sockets or more",
            file=file, field="socket_GBps", value=parsed.socket_GBps.value,
        )  # fmt: skip
    disk = [parsed.disk_GiB.value > 0, parsed.disk_read_GBps.value > 0, parsed.disk_write_GBps.value > 0]
    if any(disk) != all(disk):
        raise InputError("size, read and write rate of a disk go together", file=file, field="disk_GiB",
                         value=parsed.disk_GiB.value)  # fmt: skip
    if bool(parsed.nic) != (parsed.num_nic.value > 0) or bool(parsed.nic) != (parsed.network != "none"):
        raise InputError("nic, num_nic and network go together", file=file, field="nic", value=parsed.nic)
