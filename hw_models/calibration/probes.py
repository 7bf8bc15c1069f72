"""Probes of an unknown device to fitted kernels: the operators they stand for, the parameters that are free, errors.

A probe is a row with the columns of a measured operator file (`measured.COLUMNS`; streams have `op, dtype,
num_token, width`). Every fourth probe, by a hash of its shape, is held out of the fit and only checks it.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hw_models.calibration import fit, generic
from hw_models.calibration.measured import from_frame
from hw_models.forms import FORMS, STREAM_KINDS
from hw_models.profile import ErrorSummary, Kernel, Profile, vector
from kernels.formats import ALIASES, FORMAT_CODE, FORMATS
from kernels.machine import Machine
from kernels.optable import COPY, EMBED, KIND_CODE, KINDS, SAMPLE, OpTable, WorkTable, empty
from kernels.price import price_table

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]
Row = dict[str, Any]
READ = {"act": 2.0, "add": 2.0}  # inputs a value written: gate and up; two addends
NO_SHAPE = ("kernel", "latency_ms", "spread")
FEW = 6  # probes of a kind of stream below which it is priced as the streams of its format in common
GATHERED = "paged gather + sdpa"  # attention on keys gathered into one tensor, as long as the longest sequence
COPIES = ("convert",)  # kinds that no probe runs, priced as a copy


def operators(kind: str, frame: pd.DataFrame) -> tuple[OpTable, WorkTable]:
    """The operators of probes of one kind (`stream` or a kind of `measured.COLUMNS`), one a row.

    >>> rows = pd.DataFrame([{"op": "add", "dtype": "bfloat16", "num_token": 2, "width": 8, "latency_ms": 1.0}])
    >>> float(operators("stream", rows)[0]["act_byte"][0])  # two addends of 2 x 8 x 2 B
    64.0
    """
    if kind != "stream":
        filled = {"kernel": "", "latency_ms": 1.0, **{name: frame[name] for name in frame.columns}}
        measured = from_frame(pd.DataFrame(filled, index=frame.index), pathlib.Path(kind))
        return measured.ops, measured.work
    ops, work = empty(len(frame))
    value_byte = frame["dtype"].map({"bfloat16": 2.0, "float16": 2.0, "float32": 4.0}).to_numpy(float)
    byte = value_byte * frame["num_token"].to_numpy() * frame["width"].to_numpy()
    ops["kind"] = [KIND_CODE[name] for name in frame["op"]]
    ops["fmt"] = [FORMAT_CODE[ALIASES[name]] for name in frame["dtype"]]
    ops["kv_fmt"] = ops["fmt"]  # by which a cache's write is priced
    ops["m"], ops["n"] = frame["num_token"], frame["width"]
    ops["act_byte"] = frame["op"].map(READ).fillna(1.0).to_numpy(float) * byte
    ops["write_byte"] = np.where(ops["kind"] == SAMPLE, 0.0, byte)
    ops["flop"] = np.where(ops["kind"] == EMBED, 0.0, byte / value_byte)
    return ops, work


def held_out(frame: pd.DataFrame) -> Booleans:
    """True for a quarter of the rows, by a hash of the shape columns; rows of one shape fall on one side.

    >>> held_out(pd.DataFrame({"m": range(4000), "latency_ms": 1.0})).mean().round(1)
    np.float64(0.2)
    """
    columns = [_number(frame[name]) for name in frame.columns if name not in NO_SHAPE]
    once = fit.half(*columns)
    return np.asarray(once & fit.half(*columns, np.ones(len(frame))))


def _number(column: pd.Series) -> npt.NDArray[np.uint64]:
    if column.dtype.kind in "iub":
        return column.to_numpy().astype(np.uint64)
    digits = [int.from_bytes(str(text).encode()[:8], "little") for text in column]
    return np.array(digits, np.uint64)


@dataclasses.dataclass(frozen=True)
class Fitted:
    """Kernels of a profile, and a row of errors a kernel: kind, format, kernel, n, train and held-out figures."""

    kernel: tuple[Kernel, ...]
    error: pd.DataFrame


def fit_all(
    probes: Mapping[str, pd.DataFrame], machine: Machine, family: str, relative: Profile | None = None, seed: int = 0
) -> Fitted:
    """Fit every kind, format and kernel that `probes` (a frame a kind) hold.

    `machine`: rates and peaks of the device, ideal kernels. `family`: `cpu` or `gpu`, which generic start values
    hold; `relative`: the profile of the nearest device, whose constants are the start where it has them.
    Deterministic: the same probes and seed give the same parameters.
    """
    kernels: list[Kernel] = []
    rows: list[Row] = []
    for kind, frame in probes.items():
        ops, work = operators(kind, frame)
        held, names = held_out(frame), frame["kernel"].to_numpy(str)
        seconds = frame["latency_ms"].to_numpy(float) * 1e-3
        formats = ops["kv_fmt" if kind.startswith("attn") else "fmt"]
        for fmt in sorted(set(formats.tolist())):
            number_format = FORMATS[fmt].name
            chosen = formats == fmt
            common: Kernel | None = None
            if kind == "stream":
                alike = ops[chosen].copy()
                alike["kind"] = COPY
                group = _Group("copy", number_format, "", alike, work, seconds[chosen], held[chosen])
                common = _fit_group(group, machine, generic.parameters("copy", family, machine), seed)[0]
            for code, name in sorted(set(zip(ops["kind"][chosen].tolist(), names[chosen].tolist(), strict=True))):
                mine = chosen & (ops["kind"] == code) & (names == name)
                group = _Group(KINDS[code], number_format, name, ops[mine], work, seconds[mine], held[mine])
                start = relative.find(KINDS[code], number_format) if relative is not None else None
                free = generic.parameters(KINDS[code], family, machine, start or common)
                if start is None and common is not None and mine.sum() < FEW:
                    free = [dataclasses.replace(p, low=p.start, high=p.start) for p in free]
                found, row = _fit_group(group, machine, free, seed)
                kernels.append(found)
                rows.append(row)
    kernels = _with_defaults(kernels)
    return Fitted(tuple(kernels), pd.DataFrame(rows))


@dataclasses.dataclass(frozen=True)
class _Group:
    """Probes of one kernel."""

    kind: str
    fmt: str
    name: str
    ops: OpTable
    work: WorkTable
    seconds: Floats
    held: Booleans


def _fit_group(group: _Group, machine: Machine, parameters: Sequence[fit.Parameter], seed: int) -> tuple[Kernel, Row]:
    kind, fmt, name = group.kind, group.fmt, group.name
    train = ~group.held if (~group.held).sum() >= 3 else np.ones(len(group.held), bool)

    def predict_of(chosen: Booleans) -> fit.Predict:
        ops = group.ops[chosen]
        return lambda values: price(ops, group.work, machine, kind, fmt, values)

    parameter = fit.fit(predict_of(train), group.seconds[train], parameters, seed=seed)
    values = np.array([parameter[p.name] for p in parameters])
    predicted = predict_of(np.ones(len(group.held), bool))(values)
    errors = {
        "train": ErrorSummary(**dataclasses.asdict(fit.error(predicted[train], group.seconds[train]))),
        "held_out": ErrorSummary(**dataclasses.asdict(fit.error(predicted[group.held], group.seconds[group.held]))),
    }
    kernel = Kernel(
        kind=kind, format=fmt, name=name, parameter=parameter, train=errors["train"], held_out=errors["held_out"],
        spread=fit.spread(predicted, group.seconds), padded=kind == "attn_decode" and name == GATHERED,
    )  # fmt: skip
    row: Row = {"kind": kind, "format": fmt, "kernel": name, "n": len(predicted), "held_out_n": errors["held_out"].n}
    row |= {"train_mape": errors["train"].mape}
    if errors["held_out"].n:
        row |= {
            f"held_out_{figure}": getattr(errors["held_out"], figure) for figure in ("mape", "median", "p90", "bias")
        }
    return kernel, row


def price(ops: OpTable, work: WorkTable, machine: Machine, kind: str, fmt: str, values: Floats) -> Floats:
    """Seconds of each row with the fit vector `values` (in the order of the form) for that kind and format."""
    table = machine.fit.copy()
    slots = vector(kind, dict(zip(FORMS[kind].names, values, strict=True)), eager=True)
    table[KIND_CODE[kind], FORMAT_CODE[fmt]] = slots
    return np.maximum(price_table(ops, work, machine._replace(fit=table))["time_ps"] * 1e-12, 1e-12)


def _with_defaults(kernels: list[Kernel]) -> list[Kernel]:
    """Marks the kernel with most probes of each kind and format as the default; adds the kinds that copy another."""
    best: dict[tuple[str, str], Kernel] = {}
    for kernel in kernels:
        key = kernel.kind, kernel.format
        if key not in best or _count(kernel) > _count(best[key]):
            best[key] = kernel
    marked = [kernel.model_copy(update={"default": best[kernel.kind, kernel.format] is kernel}) for kernel in kernels]
    copies = [kernel.model_copy(update={"kind": kind}) for kernel in marked if kernel.kind == "copy" for kind in COPIES]
    return marked + copies


def _count(kernel: Kernel) -> int:
    return sum(part.n for part in (kernel.train, kernel.held_out) if part is not None)


def by_kind(errors: pd.DataFrame) -> pd.DataFrame:
    """Errors of the kernels merged to a row a kind (streams together) and format, weighted by probes held out."""
    if errors.empty or "held_out_mape" not in errors:
        return pd.DataFrame(columns=["kind", "format", "n", "held_out_n", "held_out_mape"])
    frame = errors.assign(kind=errors["kind"].where(~errors["kind"].isin(STREAM_KINDS), "stream"))
    frame["weighted"] = frame["held_out_mape"].fillna(0.0) * frame["held_out_n"]
    merged = frame.groupby(["kind", "format"], as_index=False)[["n", "held_out_n", "weighted"]].sum()
    merged["held_out_mape"] = (merged["weighted"] / merged["held_out_n"].where(merged["held_out_n"] > 0)).astype(float)
    return merged.drop(columns="weighted")
