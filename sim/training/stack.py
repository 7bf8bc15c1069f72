"""A training stack: the software of a training run as choices (which attention kernel, what is fused, what is kept) and
at most eight factors over the calibrated kernels, one TOML a stack in this folder's `stacks/`.

A factor has its value, its unit in `kernels.train_plan.STACK` and its source: a publication, a derivation, or a fit
with data, command and error. None is below the speed of light: times are never shortened by a factor. `sol` is no
software at all: every operator at the peak of its engine, nothing launched, everything hidden.
"""

import pathlib
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hw_models import topology
from hw_models.clock import lasting_clock
from hw_models.files import read_toml
from hw_models.spec import System
from kernels.errors import InputError, from_validation
from kernels.machine import LINK_BYTE_PER_S, LINK_HOST
from kernels.train_plan import IDEAL_STACK, STACK, STACK_DTYPE, Record
from sim.fabric.overlap import core_share

FOLDER = pathlib.Path(__file__).parent / "stacks"
LEAST = {"compute": 1.0, "vector": 1.0}  # factors of time; the others are additions and shares
SHARES = ("exposed", "fragment", "jitter")


class Sourced(BaseModel):
    """A factor and where it comes from."""

    model_config = ConfigDict(extra="forbid")
    value: float = Field(ge=0, allow_inf_nan=False)
    source: str = Field(min_length=1)


class HeldOut(BaseModel):
    """Error of step times on rows that a fit of the factors has not seen."""

    model_config = ConfigDict(extra="forbid")
    data: str
    left_out: str  # a group at a time
    n: int = Field(ge=1)
    mape: float = Field(ge=0)
    median: float = Field(ge=0)
    p90: float = Field(ge=0)
    bias: float


class StackFile(BaseModel):
    """The fields of a stack file."""

    model_config = ConfigDict(extra="forbid")
    title: str
    device: str  # where its factors were found
    source: str
    attention: str
    fused_norm: bool = False
    fused_loss: bool = True
    gather_logits: bool = False
    hold_logits: bool = False
    regather: bool = True
    dropout: bool = False
    recompute: str = "none"
    grad_byte: float = 4.0
    optimizer_byte: float = 12.0
    tp_overlap: float = Field(default=0.0, ge=0, le=1)
    ep_overlap: float = Field(default=0.0, ge=0, le=1)
    zero: int = Field(default=0, ge=0, le=3)  # where there are replicas
    dispatch: str = "alltoall"
    factor: dict[str, Sourced]
    held_out: list[HeldOut] = []


class TrainStack(NamedTuple):
    """A stack by name; `factor` holds every one of `kernels.train_plan.STACK`."""

    name: str
    file: StackFile
    factor: dict[str, float]

    def usual(self) -> dict[str, Any]:
        """Fields of a plan that the stack decides where nobody else does."""
        names = ("attention", "fused_norm", "fused_loss", "gather_logits", "hold_logits", "regather",
                 "dropout", "recompute",
                 "grad_byte", "optimizer_byte",
                 "tp_overlap", "ep_overlap", "zero", "dispatch")  # fmt: skip
        return {name: getattr(self.file, name) for name in names}


def names() -> list[str]:
    """Every stack, `sol` first."""
    return ["sol", *sorted(path.stem for path in FOLDER.glob("*.toml"))]


def load_stack(name: str) -> TrainStack:
    """A stack by name or by the path of its file. `InputError` for what is none, and for factors faster than light."""
    if name == "sol":
        ideal = StackFile(title="Speed of light", device="", source="peak rates", attention="flash3", fused_norm=True,
                          tp_overlap=1.0, ep_overlap=1.0, factor={})  # fmt: skip
        return TrainStack("sol", ideal, {field: IDEAL_STACK.get(field, 0.0) for field in STACK})
    path = pathlib.Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        raise InputError("no such stack", field="stack", value=name, allowed=names())
    try:
        file = StackFile.model_validate(read_toml(path))
    except ValidationError as error:
        raise from_validation(error, path, StackFile.model_fields) from error
    for key in (*file.factor, *STACK):
        if key not in STACK or key not in file.factor:
            raise InputError("unknown factor" if key not in STACK else f"factor {key} is missing", file=path,
                             field="factor", value=key, allowed=STACK)  # fmt: skip
    factor = {key: file.factor[key].value for key in STACK}
    for key, least in LEAST.items():
        if factor[key] < least:
            raise InputError("faster than light", file=path, field=key, value=factor[key], allowed=f">= {least:g}")
    for key in SHARES:
        if factor[key] > 1:
            raise InputError("not a share", file=path, field=key, value=factor[key], allowed="0 to 1")
    return TrainStack(path.stem, file, factor)


def default_stack(device: str, *, sharded: bool = False, family: str = "") -> str:
    """Today's software for a run: MPT models are trained by their publisher's trainer, what is only sharded (FSDP) by
    PyTorch's, everything else by Megatron-Core. The result names it, and what its factors are inherited from.

    >>> default_stack("h100_sxm"), default_stack("b200", sharded=True), default_stack("a100_sxm_80gb", family="mpt")
    ('megatron-core', 'pytorch-fsdp', 'llm-foundry')
    """
    if family == "mpt":
        return "llm-foundry"
    return "pytorch-fsdp" if sharded else "megatron-core"


def stack_record(stack: TrainStack, system: System) -> Record:
    """One record of `STACK_DTYPE`: the factors, and what the machine adds to them."""
    record = np.zeros(1, STACK_DTYPE)
    for key, value in stack.factor.items():
        record[key] = value
    device = system.device
    record["clock"] = 1.0 if stack.name == "sol" else lasting_clock(replace(device, power_limit_w=0.0))
    record["contention"] = 0.0 if stack.name == "sol" else core_share(device)
    record["device_per_node"] = system.node.num_device
    record["host_byte_per_s"] = topology.link_rows(system)[LINK_HOST][LINK_BYTE_PER_S]
    record["mem_byte"] = device.mem_byte - device.mem_reserved_byte
    record["mem_byte_per_s"] = device.mem_byte_per_s
    record["host_mem_byte_per_s"] = system.node.host_mem_byte_per_s / max(system.node.num_device, 1)
    return record[0]
