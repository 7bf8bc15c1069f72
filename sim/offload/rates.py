"""How fast and how large the tiers of a machine are: its node's figures, and what a software makes of them.

A software's file in `stacks/` holds measured rates, each with its source. None makes a link faster than it is.
"""

import dataclasses
import pathlib

from hw_models.files import read_toml
from hw_models.sourced import Sourced, Table, parse, quantity, si
from hw_models.spec import System
from kernels.errors import InputError

FOLDER = pathlib.Path(__file__).parent / "stacks"


class StackFile(Table):
    """Rates that a software was measured to reach, in GB/s; what is not given is the machine's own.

    `up`: host to device. `down`: hidden states to the host, one buffer; `down_cache`: a prompt's keys and values into
    their places. `host_attention`, `device_attention`: keys and values that attention reads there; `prompt_attention`,
    in TFLOP/s: products of a prompt's attention on the device, masked pairs among them.
    """

    title: str
    source: str
    up_GBps: Sourced = quantity(1e-3, 1e4, absent=0)  # noqa: N815
    down_GBps: Sourced = quantity(1e-3, 1e4, absent=0)  # noqa: N815
    down_cache_GBps: Sourced = quantity(1e-3, 1e4, absent=0)  # noqa: N815
    host_attention_GBps: Sourced = quantity(1e-3, 1e5, absent=0)  # noqa: N815
    device_attention_GBps: Sourced = quantity(1e-3, 1e5, absent=0)  # noqa: N815
    prompt_attention_TFLOPs: Sourced = quantity(1e-3, 1e5, absent=0)  # noqa: N815
    disk_read_GBps: Sourced = quantity(1e-3, 1e4, absent=0)  # noqa: N815
    disk_write_GBps: Sourced = quantity(1e-3, 1e4, absent=0)  # noqa: N815


@dataclasses.dataclass(frozen=True)
class TierRates:
    """Byte a second of each engine, and bytes of each tier."""

    up_byte_per_s: float
    down_byte_per_s: float
    down_cache_byte_per_s: float
    read_byte_per_s: float  # 0: no disk
    write_byte_per_s: float
    attention_byte_per_s: float  # of the host's processor over keys and values
    device_attention_byte_per_s: float  # of the device's kernels over them, at the most
    prompt_attention_flop_per_s: float  # of the device's products of a prompt's attention, at the most
    device_byte: float
    host_byte: float
    disk_byte: float
    stack: str

    def scaled_disk(self, read_byte_per_s: float, write_byte_per_s: float) -> "TierRates":
        """The same machine with another disk."""
        return dataclasses.replace(self, read_byte_per_s=read_byte_per_s, write_byte_per_s=write_byte_per_s)


def stacks() -> list[str]:
    """The softwares that come with the project; `sol` is none at all."""
    return ["sol", *sorted(path.stem for path in FOLDER.glob("*.toml"))]


def rates(system: System, stack: str = "sol") -> TierRates:
    """Rates of the tiers of one device of `system` under a software (`sol`, a name, or the path of its file).

    >>> from hw_models import catalog
    >>> round(rates(catalog.system("n1_t4")).up_byte_per_s / 1e9, 2)
    15.75
    """
    node = system.node
    if node.host_link is None:
        raise InputError("no link to the host is known", file=node.file, field="host_link", value="", allowed="a link")
    found = _stack(stack)
    link, part = node.host_link.byte_per_s, 1 / node.num_device
    read, write = node.disk_read_byte_per_s * part, node.disk_write_byte_per_s * part

    def least(name: str, limit: float) -> float:
        value = si(found, name) if found is not None else 0.0
        if value > limit > 0:
            raise InputError("faster than the machine is", field=name, value=value / 1e9,
                             allowed=f"at most {limit / 1e9:g} G/s of {node.name}")  # fmt: skip
        return value or limit

    down = least("down_GBps", link)
    return TierRates(
        up_byte_per_s=least("up_GBps", link),
        down_byte_per_s=down,
        down_cache_byte_per_s=min(down, least("down_cache_GBps", link)),
        read_byte_per_s=least("disk_read_GBps", read) if read else 0.0,
        write_byte_per_s=least("disk_write_GBps", write) if write else 0.0,
        attention_byte_per_s=least("host_attention_GBps", node.host_mem_byte_per_s * part),
        device_attention_byte_per_s=least("device_attention_GBps", system.device.mem_byte_per_s),
        prompt_attention_flop_per_s=least("prompt_attention_TFLOPs", system.device.peak("fp16")),
        device_byte=system.device.mem_byte - system.device.mem_reserved_byte,
        host_byte=node.host_mem_byte * part,
        disk_byte=node.disk_byte * part,
        stack=stack,
    )


def _stack(name: str) -> StackFile | None:
    if name == "sol":
        return None
    path = pathlib.Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        raise InputError("no such software", field="stack", value=name, allowed=[*stacks(), "a path of a .toml file"])
    return parse(StackFile, read_toml(path), str(path))
