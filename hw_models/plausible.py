"""What is allowed but odd in a machine's file: a number without a source, figures that contradict each other, rates a
thousandfold off, peaks above any known chip. Findings are advice; what is impossible is an `InputError` on loading."""

import pandas as pd

from hw_models import catalog, describe, schema
from hw_models.spec import Device, Link, Node, System
from kernels.formats import PIPES

MEM_BYTE_PER_S = (1e10, 2e13)  # slowest and fastest device memory seen: a laptop's DDR4, ten HBM4 stacks
PIPE_RATIO = {"fp8": 2.0, "fp4": 8.0, "int8": 4.0, "int4": 8.0}  # over bf16 or fp16, the most on real chips, dense


def findings(name: str) -> pd.DataFrame:
    """One row a finding about a name or path: field, value as written, what is odd."""
    _, spec = describe.read(name)
    numbers = describe.numbers(name)
    rows = [(r.key, r.value, "no source") for r in numbers.itertuples() if not str(r.source).strip()]
    written = dict(zip(numbers["key"], numbers["value"], strict=True))
    if isinstance(spec, Device):
        odd = _device(spec)
    elif isinstance(spec, Link):
        odd = _link(spec)
    else:
        odd = _node(spec.node if isinstance(spec, System) else spec)
    rows += [(key, float(written.get(key, 0.0)), text) for key, text in odd]
    return pd.DataFrame(rows, columns=["field", "value", "finding"])


def _device(device: Device) -> list[tuple[str, str]]:
    odd: list[tuple[str, str]] = []
    low, high = MEM_BYTE_PER_S
    if not low <= device.mem_byte_per_s <= high:
        odd.append(("mem_GBps", f"no known device memory: {low / 1e9:g} to {high / 1e9:g} GB/s; is the unit right?"))
    pins = device.mem_bus_bit * device.mem_pin_bit_per_s / 8
    if pins > 0 and abs(device.mem_byte_per_s / pins - 1) > 0.02:
        odd.append(("mem_GBps", f"bus width times pin rate gives {pins / 1e9:.0f} GB/s"))
    if device.l2_byte_per_s < device.mem_byte_per_s:
        odd.append(("l2_GBps", "slower than the memory behind it"))
    if device.idle_w > device.tdp_w / 2:
        odd.append(("idle_W", "more than half of tdp_W"))
    if not device.price_usd_per_h:
        odd.append(("price_USDph", "free: results will cost nothing"))
    best = max(device.peak("bf16"), device.peak("fp16"))
    shipped = [catalog.device(str(path)) for path in _shipped_devices()]
    for pipe in PIPES:
        peak, key = device.peak(pipe), schema.peak_key(pipe)
        top = max(shipped, key=lambda other: other.peak(pipe))
        if 0 < top.peak(pipe) < peak:
            odd.append((key, f"above every catalogued device ({top.name}: {top.peak(pipe) / 1e12:g})"))
        if best and peak > PIPE_RATIO.get(pipe, 1.0) * best * 1.02:
            odd.append((key, f"more than {PIPE_RATIO.get(pipe, 1.0):g} x the 16-bit peak; is it a sparse figure?"))
    if best and not 1 <= best / device.mem_byte_per_s <= 2000:
        odd.append(("mem_GBps", f"16-bit ridge point of {best / device.mem_byte_per_s:.3g} Op/B; known: 20 to 400"))
    return odd


def _shipped_devices() -> list[object]:
    return [
        path for path in sorted(catalog.SHIPPED.glob("*.toml")) if catalog.read(str(path))[0].get("kind") == "device"
    ]


def _link(link: Link) -> list[tuple[str, str]]:
    odd: list[tuple[str, str]] = []
    if not 1e8 <= link.byte_per_s <= 2e12:
        odd.append(("link_GBps", "known links: 0.1 to 2000 GB/s a direction; is the unit right?"))
    if not 5e-8 <= link.latency_s <= 1e-4:
        odd.append(("latency_us", "known links: 0.05 to 100 us; is the unit right?"))
    return odd


def _node(node: Node) -> list[tuple[str, str]]:
    odd: list[tuple[str, str]] = []
    if node.host_mem_byte_per_s > node.num_device * node.device.mem_byte_per_s and node.fabric != "none":
        odd.append(("host_mem_GBps", "faster than all device memory"))
    if node.num_nic > 4 * node.num_device:
        odd.append(("num_nic", "more than four ports a device"))
    if node.rest_w > 3 * node.num_device * node.device.tdp_w + 1000:
        odd.append(("rest_W", "more than three times the devices' power"))
    return odd
