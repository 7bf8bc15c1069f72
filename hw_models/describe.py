"""The catalogue as tables: devices, nodes and links in friendly units, one file in full, and what follows from it."""

from typing import Any

import pandas as pd

from hw_models import catalog, relatives, schema, topology
from hw_models.dispatch import timed_byte_per_s
from hw_models.spec import Device, Link, Node, System
from kernels.formats import PIPES
from kernels.machine import LINK_BYTE_PER_S, LINK_OUT, LINK_UP

COLUMNS = ("bf16", "fp16", "fp8", "int8", "fp4")  # pipes in the list of devices
SHOWN = ("device", "node", "link", "system")  # kinds that `ridgeline devices` and `ridgeline check` know
LEAST_PRICE_USD_PER_H = 1e-6  # for less, what a dollar rents is no number to print


def devices() -> pd.DataFrame:
    """One row a catalogued device, units in the column names."""
    return pd.DataFrame([_device_row(catalog.device(name)) for name in catalog.names("device")])


def _device_row(device: Device) -> dict[str, Any]:
    return {
        "device": device.name,
        "core": device.num_core,
        "clock_MHz": device.clock_hz / 1e6,
        **{schema.peak_key(pipe).removeprefix("peak_"): device.peak(pipe) / 1e12 for pipe in COLUMNS},
        "mem_GiB": device.mem_byte / 2**30,
        "mem_GBps": device.mem_byte_per_s / 1e9,
        "ridge_OpB": max(device.peak("bf16"), device.peak("fp16")) / device.mem_byte_per_s,
        "tdp_W": device.tdp_w,
        "idle_W": device.idle_w,
        "price_USDph": device.price_usd_per_h,
        "node": device.node,
        "calibrated_as": relatives.calibrated_as(device) or "-",
    }


def nodes() -> pd.DataFrame:
    """One row a catalogued node that names its device; rates per direction and device."""
    own = [name for name in catalog.names("node") if catalog.read(name)[0].get("device")]
    return pd.DataFrame([_node_row(catalog.node(name)) for name in own])


def _node_row(node: Node) -> dict[str, Any]:
    link = topology.link_rows(System(node.name, node))
    return {
        "node": node.name,
        "device": node.device.name,
        "count": node.num_device,
        "fabric": node.fabric,
        "scale_up_GBps": link[LINK_UP, LINK_BYTE_PER_S] / 1e9,
        "scale_out_GBps": link[LINK_OUT, LINK_BYTE_PER_S] / 1e9,
        "network": node.network,
        "host_mem_GiB": node.host_mem_byte / 2**30,
        "max_W": node.rest_w + node.num_device * node.device.tdp_w,
        "price_USDph": System(node.name, node).price_usd_per_h(),
    }


def links() -> pd.DataFrame:
    """One row a catalogued link, per direction."""
    rows = [catalog.link(name) for name in catalog.names("link")]
    return pd.DataFrame(
        [{"link": r.name, "GBps": r.byte_per_s / 1e9, "latency_us": r.latency_s * 1e6, "title": r.title} for r in rows]
    )


def read(name: str) -> tuple[str, Device | Node | Link | System]:
    """Kind and checked specification of any name or path; `InputError` where it is invalid."""
    table, path = catalog.read(name, kinds=SHOWN)
    kind = str(table["kind"])
    if kind == "device":
        return kind, catalog.device(str(path))
    if kind == "link":
        return kind, catalog.link(str(path))
    if kind == "system":
        return kind, catalog.system(str(path))
    any_device = None if table.get("device") else catalog.device("l40s")  # a box for any: shown with one that fits
    return kind, catalog.node(str(path), any_device)


def numbers(name: str) -> pd.DataFrame:
    """Every number of one file (its base's and its engines' tables included): key with unit, value, source ("" where
    none is given)."""
    table, path = catalog.read(name, kinds=SHOWN)
    parsed = schema.parse(schema.KINDS[str(table["kind"])], table, str(path))
    found = schema.numbers(parsed)
    for part in ("npu", "pim"):
        inner = getattr(parsed, part, None)
        found |= {f"{part}.{key}": number for key, number in schema.numbers(inner).items()} if inner else {}
    rows = [{"key": key, "value": n.value, "source": n.source} for key, n in found.items()]
    return pd.DataFrame(rows, columns=["key", "value", "source"])


def derived(name: str) -> pd.DataFrame:
    """Figures that follow from one file: ridge points, rates a core, costs a unit of work; rates of a node's graph."""
    spec = read(name)[1]
    if isinstance(spec, Device):
        rows = _derived_device(spec)
    elif isinstance(spec, Link):
        rows = [("bandwidth-delay product", spec.byte_per_s * spec.latency_s, "B")]
    else:
        rows = _derived_system(spec if isinstance(spec, System) else System(spec.name, spec))
    return pd.DataFrame(rows, columns=["figure", "value", "unit"])


def _derived_device(device: Device) -> list[tuple[str, float, str]]:
    rows: list[tuple[str, float, str]] = []
    for pipe in PIPES:
        peak = device.peak(pipe)
        if peak > 0:
            rows += [
                (f"ridge {pipe}", peak / device.mem_byte_per_s, "Op/B"),
                (f"{pipe} a core and clock", peak / device.num_core / device.clock_hz, "FLOP"),
            ]
    best = max(device.peak("bf16"), device.peak("fp16")) or max(device.peak_flop_per_s)
    rows += [
        ("memory byte a 16-bit FLOP", device.mem_byte_per_s / best, "B"),
        ("time to read all memory", device.mem_byte / device.mem_byte_per_s, "s"),
        ("on-chip over memory bandwidth", device.l2_byte_per_s / device.mem_byte_per_s, "x"),
        ("energy a 16-bit FLOP at full power", device.tdp_w / best * 1e12, "pJ"),
    ]
    if device.pim is not None:
        rows += [
            ("units in the memory", device.pim.byte_per_s / 1e9, "GB/s"),
            ("units over the pins", device.pim.bandwidth_factor, "x"),
            ("ridge of the units", device.pim.op_per_byte, "Op/B"),
            ("units as DRAM timing lets them stream", timed_byte_per_s(device.pim) / 1e9, "GB/s"),
        ]
    if device.price_usd_per_h >= LEAST_PRICE_USD_PER_H:
        hour_s = 3600 / device.price_usd_per_h  # seconds that a dollar rents
        rows += [
            ("16-bit PFLOP a dollar", best * hour_s / 1e15, "PFLOP"),
            ("dollars a 16-bit EFLOP", 1e18 / (best * hour_s), "USD"),
            ("memory read a dollar", device.mem_byte_per_s * hour_s / 1e12, "TB"),
        ]
    return rows


def _derived_system(system: System) -> list[tuple[str, float, str]]:
    node = system.node
    graph = topology.node_graph(node)
    group = [topology.device_name(0, i) for i in range(node.num_device)]
    rows: list[tuple[str, float, str]] = [("devices", float(system.num_device), "")]
    for row, label in zip(topology.link_rows(system), ("scale-up", "scale-out", "host"), strict=True):
        rows += [
            (f"{label} rate a device", float(row[0]) / 1e9, "GB/s a direction"),
            (f"{label} latency", float(row[1]) * 1e6, "us"),
        ]
    if len(group) > 1:
        kind = "scale_up" if node.fabric in ("switch", "mesh", "torus") else ""
        across = topology.bisection_byte_per_s(graph, group, kind)
        rows.append(("bisection of a node", across / 1e9, "GB/s a direction"))
    return [
        *rows,
        ("device memory", system.num_device * node.device.mem_byte / 2**30, "GiB"),
        ("power at most", system.rest_w() + system.num_device * node.device.tdp_w, "W"),
        ("rental", system.price_usd_per_h(), "USD/h"),
    ]
