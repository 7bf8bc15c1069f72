"""Fitted constants of a training stack on a device: one TOML a stack in `sim/training/stacks/`.

A stack is software (kernels, communication, memory habits) as measured on one device; its shares of peak carry over to
another. `sol` is none: everything at peak.
"""

import pathlib
import tomllib
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from hw_models import topology
from hw_models.spec import System
from kernels import training as t
from kernels.errors import InputError, from_validation
from kernels.formats import PIPES
from kernels.training import Floats

NARROW = ("fp8", "int8", "int4", "fp4")  # formats of a layer's products; attention and the head stay in 16 bits
FOLDER = pathlib.Path(__file__).parent / "stacks"


class StackFile(BaseModel):
    """The fields of a stack file. `fit` names every constant of `kernels.training.FIT`."""

    model_config = ConfigDict(extra="forbid")
    title: str
    device: str  # where it was measured
    source: str  # data, command, error
    attention: str = "flash2"
    fused_norm: bool = False
    dropout: bool = False
    recompute: str = "none"
    grad_byte: float = 4.0
    optimizer_byte: float = 12.0
    fit: dict[str, float]


class Stack(NamedTuple):
    name: str
    title: str
    device: str
    source: str
    attention: str
    fused_norm: bool
    dropout: bool
    recompute: str
    grad_byte: float
    optimizer_byte: float
    fit: Floats  # [FIT]


def names() -> list[str]:
    """Every stack, `sol` first."""
    return ["sol", *sorted(path.stem for path in FOLDER.glob("*.toml"))]


def load(name: str) -> Stack:
    """A stack by name or by the path of its file.

    >>> load("sol").fit[0]
    np.float64(1.0)
    """
    if name == "sol":
        return Stack(
            "sol",
            "Speed of light",
            "",
            "peak rates",
            "flash2",
            True,
            False,
            "none",
            4.0,
            12.0,
            np.array(t.IDEAL_FIT, float),
        )
    path = pathlib.Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        raise InputError("no such stack", field="stack", value=name, allowed=names())
    try:
        parsed = StackFile.model_validate(tomllib.loads(path.read_text()))
    except ValidationError as error:
        raise from_validation(error, path, StackFile.model_fields) from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(str(error), file=path) from error
    for key in parsed.fit:
        if key not in t.FIT:
            raise InputError("unknown constant", file=path, field="fit", value=key, allowed=t.FIT)
    for key in t.FIT:
        if key not in parsed.fit:
            raise InputError(f"constant {key} is missing", file=path, field="fit")
    fit = np.array([parsed.fit[key] for key in t.FIT])
    return Stack(path.stem, parsed.title, parsed.device, parsed.source, parsed.attention, parsed.fused_norm,
                 parsed.dropout, parsed.recompute, parsed.grad_byte, parsed.optimizer_byte, fit)  # fmt: skip


def default_stack(device: str) -> str:
    """The general stack measured on this device, else the one of the A100."""
    return "megatron-h100" if device.startswith(("h100", "h200", "h800", "gh200")) else "megatron-a100"


def hardware_vector(system: System, number_format: str = "bf16") -> Floats:
    """`[HARDWARE]` of a system: peak of the compute format, memory, links. `InputError` for a format it lacks."""
    device = system.device
    if number_format not in PIPES or not device.peak(number_format):
        has = [pipe for pipe in PIPES if device.peak(pipe)]
        raise InputError(f"{device.name} has no such pipe", field="format", value=number_format, allowed=has)
    wide = device.peak(number_format)
    if number_format in NARROW:
        wide = max(device.peak("bf16"), device.peak("fp16")) or wide
    rows = topology.link_rows(system)
    up, out = rows[0], rows[1]
    values = {
        "flop_per_s": device.peak(number_format),
        "mem_byte_per_s": device.mem_byte_per_s,
        "mem_byte": device.mem_byte - device.mem_reserved_byte,
        "up_byte_per_s": up[0],
        "up_latency_s": up[1],
        "out_byte_per_s": out[0],
        "out_latency_s": out[1],
        "device_per_node": system.node.num_device,
        "host_byte_per_s": rows[2][0],
        "wide_flop_per_s": wide,
    }
    return np.array([values[name] for name in t.HARDWARE], float)
