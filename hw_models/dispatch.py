"""Where a device sends operators of low Op/B, what it runs side by side, and how tokens fall on experts: its own
rule, or one that a scenario names (`co_process`, `best:beside=attention`, `own:routing=uniform`)."""

from dataclasses import dataclass, replace

from hw_models.memory import Memory, load_memory
from hw_models.pim import Pim
from hw_models.spec import Device
from kernels import dram
from kernels import machine as layout
from kernels.errors import InputError
from kernels.machine import BESIDES, DISPATCHES

ROUTINGS: tuple[str, ...] = ("even", "uniform")
"""Tokens spread evenly over experts (or by `expert_skew`), or each token's experts drawn at random."""
BANDWIDTHS: tuple[str, ...] = ("peak", "timed")
"""Memory and units at their peak bandwidth, or as DRAM timing lets them stream (refresh, rows opened and closed)."""
OPTIONS: tuple[str, ...] = (
    "attention", "expert", "beside", "routing", "bandwidth", "sub_batch_from", "op_per_byte"
)  # fmt: skip
MAX_OPTION = 1 << 24  # tokens of a step at most, and Op/B above every machine's
QUEUE = 32.0  # reads in flight that hide the opening of rows


@dataclass(frozen=True)
class Dispatch:
    """Rules of one device. `attention` and `expert` are of `DISPATCHES`, `beside` of `BESIDES`."""

    attention: str = "xpu"
    expert: str = "xpu"
    beside: str = "nothing"
    routing: str = "even"
    bandwidth: str = "peak"
    sub_batch_from: int = 0  # decodes from which `beside=sub_batch` splits a step; 0: the device's own number
    op_per_byte: float = 0.0  # below it `op_b` sends an operator to the units; 0: where the two roofs cross

    @property
    def draws(self) -> bool:
        """Whether experts are priced from a look-up over drawn tokens."""
        return self.routing == "uniform"


def own(device: Device) -> Dispatch:
    """The rule in the device's file; everything on the xPU where it has no units."""
    if device.pim is None:
        return Dispatch()
    return _checked(Dispatch(device.pim.attention, device.pim.expert, device.pim.beside), device)


def parse(text: str, device: Device) -> Dispatch:
    """The rule that `text` names for a device: `NAME`, `NAME:option=value,...`; empty or `own` is the device's.

    `NAME` is one of `DISPATCHES` for attention and experts both; `co_process` is experts split by a look-up, attention
    where it is faster, and prompts' attention beside decodes'. An `InputError` names what a device cannot do.

    >>> from hw_models import catalog
    >>> found = parse("best", catalog.device("duplex"))
    >>> found.attention, found.expert, found.beside, found.routing, found.bandwidth
    ('best', 'best', 'nothing', 'even', 'peak')
    """
    name, _, rest = text.partition(":")
    if name in ("", "own"):
        found = own(device)
    elif name == "co_process":
        found = Dispatch("best", "co_process", "attention")
    elif name in DISPATCHES:
        found = Dispatch(name, name)
    else:
        raise InputError("no such dispatch", field="dispatch", value=name, allowed=["own", *DISPATCHES])
    given: dict[str, str] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if key not in OPTIONS or not equals:
            raise InputError("no such option", field="dispatch", value=part, allowed=[f"{one}=" for one in OPTIONS])
        if key in given:
            raise InputError(f"option {key} is given twice", field="dispatch", value=text)
        given[key] = value
    try:
        threshold = float(given.get("op_per_byte", found.op_per_byte))
    except ValueError:
        raise InputError("not a number", field="dispatch", value=given["op_per_byte"]) from None
    try:
        split_from = int(given.get("sub_batch_from", found.sub_batch_from))
    except ValueError:
        raise InputError("not a whole number", field="dispatch", value=given["sub_batch_from"]) from None
    found = Dispatch(
        given.get("attention", found.attention),
        given.get("expert", found.expert),
        given.get("beside", found.beside),
        given.get("routing", found.routing),
        given.get("bandwidth", found.bandwidth),
        split_from,
        threshold,
    )
    return _checked(found, device)


def _checked(found: Dispatch, device: Device) -> Dispatch:
    attention = tuple(name for name in DISPATCHES if name != "co_process")
    for field, value, allowed in (
        ("attention", found.attention, attention),
        ("expert", found.expert, DISPATCHES),
        ("beside", found.beside, BESIDES),
        ("routing", found.routing, ROUTINGS),
        ("bandwidth", found.bandwidth, BANDWIDTHS),
    ):
        if value not in allowed:
            raise InputError(
                f"no such {field}", file=device.file, field=f"dispatch: {field}", value=value, allowed=allowed
            )
    if not 0 <= found.op_per_byte <= MAX_OPTION:
        raise InputError(
            "out of range", field="dispatch: op_per_byte", value=found.op_per_byte, allowed=f"0 to {MAX_OPTION}"
        )
    if found.op_per_byte > 0 and "op_b" not in (found.attention, found.expert):
        raise InputError("only op_b reads it", field="dispatch: op_per_byte", value=found.op_per_byte)
    if not 0 <= found.sub_batch_from <= MAX_OPTION:
        raise InputError(
            "out of range", field="dispatch: sub_batch_from", value=found.sub_batch_from, allowed=f"0 to {MAX_OPTION}"
        )
    if found.sub_batch_from > 0 and found.beside != "sub_batch":
        raise InputError("only beside=sub_batch reads it", field="dispatch: sub_batch_from", value=found.sub_batch_from)
    used = [value for value in (found.attention, found.expert) if value != "xpu"]
    if used and device.pim is None:
        raise InputError("no units in this memory", file=device.file, field="dispatch", value=used[0], allowed="xpu")
    if found.expert == "co_process":
        found = replace(found, routing="uniform")
    both = found.beside != "nothing" or found.expert == "co_process"
    if both and (device.pim is None or device.pim.overlap == "blocked"):
        raise InputError(
            "units that block the xPU run nothing beside it", file=device.file, field="dispatch",
            value=found.beside if found.beside != "nothing" else found.expert, allowed="best, xpu, pim, op_b",
        )  # fmt: skip
    return found


def fill(rate: layout.Floats, device: Device, found: Dispatch) -> None:
    """Writes the rule into the `rate` of a machine."""
    rate[layout.PIM_ATTENTION] = DISPATCHES.index(found.attention)
    rate[layout.PIM_EXPERT] = DISPATCHES.index(found.expert)
    rate[layout.BESIDE] = BESIDES.index(found.beside)
    rate[layout.MAIN_SHARE] = rate[layout.PIM_SHARE] = 1.0
    timed = found.bandwidth == "timed"
    if timed:
        rate[layout.MEM_BYTE_PER_S] = device.mem_byte_per_s * stream_share(memory_of(device))
    if device.pim is not None:
        if timed:
            rate[layout.PIM_BYTE_PER_S] = timed_byte_per_s(device.pim)
        rate[layout.MAIN_SHARE], rate[layout.PIM_SHARE] = device.pim.npu_share, device.pim.pim_share
        rate[layout.SUB_BATCH_FROM] = found.sub_batch_from or device.pim.sub_batch_from
        rate[layout.PIM_OP_PER_BYTE] = found.op_per_byte or device.pim.flop_per_s / device.mem_byte_per_s


def memory_of(device: Device) -> Memory:
    """The memory part of a device; an `InputError` where it names none."""
    if not device.memory:
        raise InputError(
            "timing needs the memory part",
            file=device.file,
            field="memory",
            value="",
            allowed="a part of hw_models/memory",
        )
    return load_memory(device.memory)


def stream_share(part: Memory) -> float:
    """Share of the pins' bandwidth that sequential reads get.

    >>> round(stream_share(load_memory("hbm3_5200")), 3)  # rows are opened in time; refresh stays
    0.949
    """
    return float(dram.stream_share(part.dram, float(part.dram.burst_byte), 0.0, QUEUE, True))


def timed_byte_per_s(pim: Pim) -> float:
    """Bandwidth of the units as DRAM timing lets them stream; whole row tiles already hold it."""
    return pim.attention_byte_per_s * (pim.stream_share if pim.gwrite_cycle == 0 else 1.0)
