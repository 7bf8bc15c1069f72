"""Machines by name or by file: the shipped catalogue, the user's folders, and files that build on another.

A name is a file's stem (or one of its `alias`es), looked for in the folders of `RIDGELINE_CATALOG` (joined by the
path separator), then in the shipped `catalog/`. A file with `base = "h100_sxm"` starts as a copy of that file and
overrides what it names; the base becomes its `relative`, whose calibration it inherits unless it has one.
A file of one's own with the name of a shipped one and that name as `base` changes figures (a price) of that machine.
"""

import functools
import math
import os
import pathlib
from dataclasses import replace
from typing import Any

from hw_models import schema
from hw_models.files import read_toml
from hw_models.spec import Device, Link, Node, System
from hw_models.torus import grown
from kernels.errors import InputError

SHIPPED = pathlib.Path(__file__).parent / "catalog"
Table = dict[str, Any]


def folders() -> list[pathlib.Path]:
    """Where names are looked for, in order."""
    own = [pathlib.Path(part) for part in os.environ.get("RIDGELINE_CATALOG", "").split(os.pathsep) if part]
    return [*own, SHIPPED]


def names(kind: str | None = None) -> list[str]:
    """The names of every file found (of one kind: device, node, link, system), sorted.

    >>> "h100_sxm" in names("device"), "dgx_h100" in names("node"), "nvlink4" in names("link")
    (True, True, True)
    """
    stems = {path.stem for folder in folders() for path in folder.glob("*.toml")}
    return sorted(name for name in stems if kind is None or read(name)[0].get("kind") == kind)


def read(
    name: str | os.PathLike[str], beside: pathlib.Path | None = None, kinds: tuple[str, ...] = ()
) -> tuple[Table, pathlib.Path]:
    """The table of a name or path with its `base`s merged in, and its file; `InputError` where it is none of `kinds`.

    `beside`: a folder looked in first (that of the user's file that named this one).
    """
    table, path = _merged(_find(str(name), beside, kinds), ())
    if kinds and table.get("kind") not in kinds:
        raise InputError("wrong kind of file here", file=path, field="kind", value=table.get("kind"), allowed=kinds)
    return table, path


def _find(name: str, beside: pathlib.Path | None = None, kinds: tuple[str, ...] = ()) -> pathlib.Path:
    if name.endswith(".toml") or os.sep in name:
        path = pathlib.Path(name).expanduser()
        path = beside / path if beside is not None and not path.is_absolute() else path
        if not path.is_file():
            raise InputError("no such file", file=path)
        return path
    for folder in [*([beside] if beside is not None else []), *folders()]:
        path = folder / f"{name}.toml"
        if path.is_file():
            return path
    known = _aliases()
    if name in known:
        return _find(known[name].stem, beside)
    choices = sorted({known_name for kind in kinds or (None,) for known_name in names(kind)} | set(known))
    begin = [choice for choice in choices if choice.startswith(name)]
    raise InputError("no such machine", field="name", value=name, allowed=begin or choices)


def _aliases() -> dict[str, pathlib.Path]:
    found: dict[str, pathlib.Path] = {}
    for folder in folders():
        for path in sorted(folder.glob("*.toml")):
            names_given = _table(str(path), path.stat().st_mtime_ns).get("alias", [])
            for alias in names_given if isinstance(names_given, list) else []:
                found.setdefault(str(alias), path)
    return found


@functools.lru_cache(maxsize=512)
def _table(path: str, changed_ns: int) -> Table:
    return read_toml(path)


def _merged(path: pathlib.Path, seen: tuple[str, ...]) -> tuple[Table, pathlib.Path]:
    own = dict(_table(str(path), path.stat().st_mtime_ns))
    base = own.pop("base", None)
    if base is None:
        return own, path
    if not isinstance(base, str):
        raise InputError("not a name", file=path, field="base", value=base, allowed="a name or a path")
    if str(path) in seen:
        raise InputError("builds on itself", file=path, field="base", value=base)
    try:
        start = _find(base, path.parent if base.endswith(".toml") else None)
    except InputError as error:
        raise InputError(str(error), file=path, field="base", value=base) from None
    shipped = SHIPPED / f"{path.stem}.toml"
    if start in (path, shipped) and path != shipped and shipped.is_file():  # one's own figures for a shipped machine
        return {**_merged(shipped, (*seen, str(path)))[0], **own}, path
    table, _ = _merged(start, (*seen, str(path)))
    for key in ("alias", "profile", "calibration", "engine"):  # they are the base's own
        table.pop(key, None)
    if table.get("kind") == "device":
        table["relative"] = str(start) if base.endswith(".toml") else start.stem
    return {**table, **own}, path


def beside_of(path: pathlib.Path) -> pathlib.Path | None:
    """Where a file's own references are looked for first: its folder, unless it is a shipped file."""
    return None if path.parent == SHIPPED else path.parent


def link(name: str, beside: pathlib.Path | None = None) -> Link:
    """A link by name or path.

    >>> round(link("nvlink4").byte_per_s / 1e9)  # a link, a direction
    25
    """
    table, path = read(name, beside, ("link",))
    return schema.to_link(table, path.stem, str(path))


def device(name: str, beside: pathlib.Path | None = None) -> Device:
    """A device by name or path.

    >>> device("a100_sxm").name, device("a100_sxm_80gb").num_core
    ('a100_sxm_80gb', 108)
    """
    table, path = read(name, beside, ("device",))
    return schema.to_device(table, path.stem, str(path))


def node(name: str, with_device: Device | None = None, beside: pathlib.Path | None = None) -> Node:
    """A node by name or path, filled with `with_device` instead of its own where given."""
    table, path = read(name, beside, ("node",))
    parsed = schema.parse(schema.NodeFile, table, str(path))
    schema.check_node(parsed, str(path))
    if with_device is None and not parsed.device:
        raise InputError(
            "a box for any device: name the device, or a node file with `base` and `device`",
            file=path, field="device", value="",
        )  # fmt: skip
    held = with_device or device(parsed.device, beside_of(path))
    if parsed.scale_up and held.num_link < 1:
        raise InputError(
            f"{held.name} has no scale-up links, {path.stem} joins by them",
            file=held.file, field="num_link", value=held.num_link, allowed="1 or more",
        )  # fmt: skip
    return Node(
        name=path.stem,
        title=parsed.title,
        device=held,
        num_device=int(parsed.num_device.value),
        fabric=parsed.fabric,
        dims=tuple(parsed.dims),
        wrap=parsed.wrap,
        num_slice_device=int(parsed.num_slice_device.value),
        scale_up=link(parsed.scale_up, beside_of(path)) if parsed.scale_up else None,
        host_link=link(parsed.host_link, beside_of(path)) if parsed.host_link else None,
        num_socket=int(parsed.num_socket.value),
        switch_adds=parsed.switch_adds.value > 0,
        num_pcie_switch=int(parsed.num_pcie_switch.value),
        socket_byte_per_s=schema.si(parsed, "socket_GBps"),
        host_mem_byte=schema.si(parsed, "host_mem_GiB"),
        host_mem_byte_per_s=schema.si(parsed, "host_mem_GBps"),
        disk_byte=schema.si(parsed, "disk_GiB"),
        disk_read_byte_per_s=schema.si(parsed, "disk_read_GBps"),
        disk_write_byte_per_s=schema.si(parsed, "disk_write_GBps"),
        nic=link(parsed.nic, beside_of(path)) if parsed.nic else None,
        num_nic=int(parsed.num_nic.value),
        network=parsed.network,
        rest_w=schema.si(parsed, "rest_W"),
        rest_idle_w=schema.si(parsed, "rest_idle_W"),
        rest_share=schema.si(parsed, "rest_share"),
        rest_usd_per_h=schema.si(parsed, "rest_USDph"),
        file=str(path),
        source=schema.sources(parsed),
    )


def system(name: str, num_device: int | None = None) -> System:
    """A system by the name or path of a device (in its usual node), a node or a system.

    `num_device`: how many devices are needed; a device or a node is repeated until there are enough, a system file
    that has fewer is an `InputError`.

    >>> system("h100_sxm").node.name, system("dgx_h100", 24).num_node
    ('dgx_h100', 3)
    """
    if num_device is not None and num_device < 1:
        raise InputError("out of range", field="num_device", value=num_device, allowed="1 or more")
    table, path = read(name, kinds=("device", "node", "system"))
    kind = table["kind"]
    if kind == "system":
        parsed = schema.parse(schema.SystemFile, table, str(path))
        found = System(path.stem, node(parsed.node, beside=beside_of(path)), int(parsed.num_node.value))
        if num_device is not None and num_device > found.num_device:
            raise InputError(
                f"{found.name} has {found.num_device} devices", field="num_device", value=num_device,
                allowed=f"1 to {found.num_device}",
            )  # fmt: skip
        return found
    if kind == "device":
        held = schema.to_device(table, path.stem, str(path))
        box = node(held.node, held, beside_of(path))
    else:
        box = node(str(path))
    box = grown(box, num_device or 1)
    count = 1 if num_device is None else math.ceil(num_device / box.num_device)
    if count > 1 and box.nic is None:
        raise InputError(
            f"{num_device} devices need {count} nodes and {box.name} has no network port",
            file=box.file, field="nic", value="", allowed="a link",
        )  # fmt: skip
    return replace(System(path.stem, box), num_node=count)
