"""Tiers below a replica's KV store: what a scenario says of them, and the stores and links that an engine runs with.

`kv_tiers = "host:GiB=512+disk:GiB=4000,via=host"` is two tiers, the first below the device's memory. `host` and `disk`
take what they are not given from the machine's file; every other name (a CXL box, a store behind the network) says its
own rates. A store belongs to one replica, or to `shared` consecutive ones (0: all), with its link.
"""

import dataclasses

import numpy as np

from hw_models.spec import System
from kernels.engine import records as at
from kernels.errors import InputError
from kernels.machine import LINK_HOST, LINK_LATENCY_S, Machine
from kernels.units import to_ps
from sim.serving.host_link import host_byte_per_s
from sim.serving.rules import Tier
from workloads.placement import Placement

HIGH = {"GiB": 1e9, "read_GBps": 1e6, "write_GBps": 1e6, "latency_us": 1e7, "shared": 1e6}
WORDS = ("via", "evict")
MAX_TIER = 8


@dataclasses.dataclass(frozen=True)
class Said:
    """A tier in the words of a scenario; 0 and empty: not given."""

    name: str
    GiB: float = 0.0
    read_GBps: float = 0.0  # noqa: N815
    write_GBps: float = 0.0  # noqa: N815
    latency_us: float = -1.0
    shared: int = 1
    via: str = ""
    evict: str = "lru"


def parse(text: str) -> tuple[Said, ...]:
    """The tiers that a scenario names, the first below the device's memory; `InputError` says what is wrong.

    >>> [(one.name, one.GiB, one.via) for one in parse("host:GiB=512+disk:GiB=4000,via=host")]
    [('host', 512.0, ''), ('disk', 4000.0, 'host')]
    """
    found: list[Said] = []
    for part in text.split("+") if text else []:
        name, _, options = part.partition(":")
        value: dict[str, float | int | str] = {}
        for option in filter(None, options.split(",")):
            key, _, word = option.partition("=")
            if key in value:
                raise _wrong(text, f"{name} gives {key} twice", "each once")
            value[key] = _value(text, name, key, word)
        one = Said(name, **value)  # type: ignore[arg-type]
        names = [other.name for other in found]
        if not name or name in names:
            raise _wrong(text, f"no name, or twice the same: {name!r}", "a name of its own for each tier")
        if one.via and one.via not in names:
            raise _wrong(text, f"{name} goes via {one.via!r}", names or "no via: there is no tier above")
        found.append(one)
    if len(found) > MAX_TIER:
        raise _wrong(text, "more tiers than there are memories", f"1 to {MAX_TIER}")
    return tuple(found)


def _value(text: str, name: str, key: str, word: str) -> float | int | str:
    if key == "via":
        return word
    if key == "evict":
        if word not in at.ORDERS:
            raise _wrong(text, f"{name} evicts by {word!r}", at.ORDERS)
        return word
    if key not in HIGH:
        raise _wrong(text, f"{name} has no {key!r}", [*HIGH, *WORDS])
    try:
        number = float(word)
    except ValueError:
        number = -1.0
    low = 0.0 if key in ("shared", "latency_us") else 1e-6
    if not low <= number <= HIGH[key] or (key == "shared" and number != int(number)):
        raise _wrong(text, f"{name}: {key} = {word!r}", f"{low:g} to {HIGH[key]:g}")
    return int(number) if key == "shared" else number


def _wrong(text: str, why: str, allowed: object) -> InputError:
    return InputError(why, field="kv_tiers", value=text, allowed=allowed)  # type: ignore[arg-type]


def tiers_of(text: str, system: System, machine: Machine, placement: Placement, block_byte: float) -> tuple[Tier, ...]:
    """The tiers of a replica whose blocks take `block_byte` on all its devices. Raises `InputError` where neither the
    scenario nor the machine's file says what a tier needs."""
    said = parse(text)
    return tuple(_tier(text, one, said, system, machine, placement, block_byte) for one in said)


def _tier(
    text: str, one: Said, said: tuple[Said, ...], system: System, machine: Machine, placement: Placement,
    block_byte: float,
) -> Tier:  # fmt: skip
    node, devices = system.node, placement.stage_device * placement.pp
    part = min(1.0, devices / node.num_device)  # of a node's memory and disks
    own = {"GiB": 0.0, "read_GBps": 0.0, "write_GBps": 0.0, "latency_us": 0.0}
    if one.name == "host":
        link = host_byte_per_s(machine, placement) * devices / 1e9
        own = {"GiB": node.host_mem_byte * part / 2**30, "read_GBps": link, "write_GBps": link,
               "latency_us": float(machine.link[LINK_HOST, LINK_LATENCY_S]) * 1e6}  # fmt: skip
    elif one.name == "disk":
        own |= {"GiB": node.disk_byte * part / 2**30, "read_GBps": node.disk_read_byte_per_s * part / 1e9,
                "write_GBps": node.disk_write_byte_per_s * part / 1e9}  # fmt: skip
    value = {name: given if (given := getattr(one, name)) > 0 else usual for name, usual in own.items()}
    for name in ("GiB", "read_GBps", "write_GBps"):
        if value[name] <= 0:
            raise _wrong(text, f"{one.name} has no {name}, and {node.name} says none", "a number above 0")
    num_block = int(value["GiB"] * 2**30 / block_byte)
    if not 1 <= num_block < 2**31:
        raise _wrong(text, f"{one.name} holds {num_block} KV blocks of {block_byte:.0f} bytes", "1 to 2147483647")
    names = [other.name for other in said]
    return Tier(
        one.name, num_block, to_ps(block_byte / (value["read_GBps"] * 1e9)),
        to_ps(block_byte / (value["write_GBps"] * 1e9)), to_ps(value["latency_us"] / 1e6), at.ORDERS.index(one.evict),
        one.shared, names.index(one.via) if one.via else -1,
    )  # fmt: skip


def num_unit(tiers: tuple[Tier, ...], num_replica: int, unit_block: int, num_name: int) -> int:
    """Units that all stores of all replicas hold at once, at most."""
    return sum(len(set(_stores(tier, num_replica))) * min(tier.num_block // unit_block, num_name) for tier in tiers)


def num_int(tiers: tuple[Tier, ...], num_replica: int) -> int:
    """Numbers that their stores and links take in `book`."""
    size = len(at.TIER_FIELDS) + len(at.LINK_FIELDS)
    return sum(len(set(_stores(tier, num_replica))) for tier in tiers) * size


def are_shared(tiers: tuple[Tier, ...], num_replica: int) -> bool:
    """Whether two replicas have a store in common."""
    return any(len(set(_stores(tier, num_replica))) < num_replica for tier in tiers)


def _stores(tier: Tier, num_replica: int) -> list[int]:
    """Of each replica, which store of this tier it has."""
    return [k // tier.shared if tier.shared else 0 for k in range(num_replica)]


def fill(w: at.World, tiers: tuple[Tier, ...], unit_block: int) -> None:
    """Writes stores and links to the end of `book`, empty, and where each replica finds its own."""
    num = len(w.engine)
    place = len(w.book) - num_int(tiers, num)
    store, size = num, len(at.TIER_FIELDS)
    rows: list[list[int]] = []  # [tier][replica] where the store lies
    for t, tier in enumerate(tiers):
        which = _stores(tier, num)
        capacity = tier.num_block // unit_block
        if capacity < 1:
            raise InputError("holds no prefix unit of this load", field="kv_tiers", value=f"{tier.name}: "
                             f"{tier.num_block} blocks", allowed=f"{unit_block} blocks and more")  # fmt: skip
        first = place
        rows.append([first + k * (size + len(at.LINK_FIELDS)) for k in which])
        for k in sorted(set(which)):
            row = w.book[place : place + size]
            row[at.TIER_STORE], row[at.TIER_ORDER], row[at.TIER_FREE] = store, tier.order, capacity
            row[at.TIER_STAYS] = int(which.count(k) > 1)
            row[at.TIER_LATENCY_PS], row[at.TIER_LINK], row[at.TIER_VIA] = tier.latency_ps, place + size, -1
            if tier.via >= 0:
                row[at.TIER_VIA] = rows[tier.via][which.index(k)] + size
            link = w.book[place + size : place + size + len(at.LINK_FIELDS)]
            link[at.LINK_READ_PS], link[at.LINK_WRITE_PS] = tier.read_ps * unit_block, tier.write_ps * unit_block
            store += 1
            place += size + len(at.LINK_FIELDS)
        w.work[:, int(w.engine["at_tier"][0]) + t] = rows[t]


def counts(w: at.World) -> at.Ints:
    """`[tier, 3]` units read, written and lost of each tier, all its stores."""
    first = int(w.engine["at_tier"][0])
    rows = [np.unique(w.work[:, first + t]) for t in range(int(w.engine["num_tier"][0]))]
    fields = (at.TIER_READ, at.TIER_WRITE, at.TIER_LOST)
    return np.array([[int(w.book[row + field].sum()) for field in fields] for row in rows], np.int64).reshape(-1, 3)
