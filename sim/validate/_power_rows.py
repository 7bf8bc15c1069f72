"""Measured power in files of any hand: pairs of what we price and what a meter showed."""

import pathlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw_models import catalog
from hw_models.calibration.measured import COLUMNS, csv_files, from_frame, kind_of, read_frame
from hw_models.clock import limited_system
from hw_models.power import SATURATED, wall_w
from kernels.errors import InputError
from sim.validate._published_names import known_format, known_model, known_system

MOST_ACCELERATOR = 1 << 20  # of one system

if TYPE_CHECKING:
    from sim.serving.engine_profile import EngineProfile
    from sim.serving.step_time import Deployment

SHORT_S = 3e-4  # a meter's reading of shorter kernels is of what ran before
WIDE = ("bfloat16", "bf16", "float16", "fp16")  # words for sixteen bits
OPERATORS = ("gemm", "attn_prefill", "attn_decode", "moe")
BLOCK = "a whole block of a model: its weights and caches are blank, and draw half of what data does"
KNOWN = {"gemm_dtype": BLOCK, "ulysses": "images and videos: no diffusion model is priced"}  # by a column of theirs
Pairs = list[dict[str, Any]]
Cells = dict[str, Any]
ALIASES: dict[str, tuple[str, ...]] = {
    "power_w": ("power_w", "power", "power_draw_w", "avg_power_w", "mean_power_w", "watts"),
    "idle_power_w": ("idle_power_w",),
    "power_limit_w": ("power_limit_w", "gpu_power_limit_w", "power_cap_w"),
    "latency_ms": ("latency_ms", "time_ms", "latency"),
    "system": ("gpu", "accelerator", "device", "hardware"),
    "num_gpu": ("num_gpu", "num_gpus", "gpus"),
    "num_accelerator": ("num_accelerator", "num_accelerators"),
    "energy_j": ("energy_per_output_token_j", "energy_per_token_j", "j_per_token"),
    "rate": ("output_tok_per_s", "output_throughput", "output_token_per_s"),
    "batch": ("batch_mean", "batch", "max_num_seqs", "concurrency"),
    "output": ("output_len_mean", "output_len", "osl"),
}


def pairs_of(path: pathlib.Path, system: str | None, engine: str, reasons: Counter[str]) -> Pairs:
    """Every measured row of a file or a folder with our figure (NaN where there is none, whose reason is counted)."""
    files = csv_files(path) if path.is_dir() else [path]
    found: Pairs = []
    for file in files:
        try:
            frame = read_frame(file)
        except InputError:
            if not path.is_dir():
                raise
            reasons[f"{file.name} cannot be read"] += 1
            continue
        frame = frame.rename(columns=str.lower)
        power = _column(frame, "power_w")
        if power is None:
            continue
        kind = kind_of(frame)
        if kind in OPERATORS and set(COLUMNS[kind]) <= set(frame.columns):
            found += _operators(frame, file, system or _folder_system(file), reasons)
        elif _column(frame, "rate") is not None:
            found += _serving(frame, engine, reasons)
        elif _column(frame, "num_accelerator") is not None:
            found += _nodes(frame, reasons)
        else:
            why = "neither operators that are priced, nor loads, nor nodes"
            why = next((said for column, said in KNOWN.items() if column in frame.columns), why)
            reasons[why] += len(frame)
            found += _unpriced(frame, file.name.split(".", 1)[0], system or "-")
    return found


def _unpriced(frame: pd.DataFrame, kernel: str, system: str) -> Pairs:
    """Rows that count against coverage, short ones apart as the others are."""
    watt, seconds = _numbers(frame, "power_w"), _numbers(frame, "latency_ms") * 1e-3
    sizes = np.where(seconds < SHORT_S, "short", "long")
    kept = watt > 0
    return [
        _pair("power", "-", kernel, system, size, np.nan, w) for size, w in zip(sizes[kept], watt[kept], strict=True)
    ]


def _column(frame: pd.DataFrame, name: str) -> str | None:
    return next((alias for alias in ALIASES[name] if alias in frame.columns), None)


def _numbers(frame: pd.DataFrame, name: str) -> np.ndarray:
    """A column's numbers; NaN where a cell is none, or where the column is missing."""
    source = _column(frame, name)
    if source is None:
        return np.full(len(frame), np.nan)
    return pd.to_numeric(frame[source], errors="coerce").to_numpy(float)


def _pair(
    kind: str, number_format: str, kernel: str, system: str, size_class: str, ours: float, theirs: float
) -> Cells:
    return {
        "kind": kind, "format": number_format, "kernel": kernel, "system": system, "size_class": size_class,
        "ours": ours, "theirs": theirs,
    }  # fmt: skip


def _folder_system(file: pathlib.Path) -> str:
    """The machine that a file of operators is of, by the name of its folder."""
    name = known_system(file.resolve().parent.name)
    try:
        catalog.system(name)
    except InputError:
        raise InputError(
            "rows of operators name no machine, and the folder is none: say --system", file=file, field="system",
            value=file.parent.name,
        ) from None  # fmt: skip
    return name


def _operators(frame: pd.DataFrame, file: pathlib.Path, system: str, reasons: Counter[str]) -> Pairs:
    from sim.validate.ops import costs

    name = known_system(system)
    watt, seconds = _numbers(frame, "power_w"), _numbers(frame, "latency_ms") * 1e-3
    limit = _numbers(frame, "power_limit_w")
    good = (watt > 0) & (seconds > 0)
    if not good.all():
        reasons["no power or no time"] += int((~good).sum())
    found: Pairs = []
    try:
        kept = frame[good].reset_index(drop=True)
        measured = from_frame(kept, file, mends=True)
        built = limited_system(catalog.system(name), _limit(limit[good], catalog.system(name).device.tdp_w))
        price_s, price_j = costs(measured, name, "calibrated", reasons, built.device.power_limit_w)
    except InputError as error:
        reasons[str(error)] += int(good.sum())
        return _unpriced(frame, str(kind_of(frame)), name)
    with np.errstate(invalid="ignore", divide="ignore"):
        ours = price_j / price_s
    kernels = kept["kernel"].astype(str) if "kernel" in kept.columns else pd.Series(["-"] * len(kept))
    for fmt, kernel, time_s, our, their in zip(
        measured.format_name(), kernels, seconds[good], ours, watt[good], strict=True
    ):
        size = "short" if time_s < SHORT_S else "long"
        found.append(_pair("power", fmt, f"{measured.label} {kernel}", name, size, float(our), float(their)))
    return found


def _limit(limit_w: np.ndarray, tdp_w: float) -> float:
    """The cap that a file's rows state, 0 where they state none or the device's own."""
    stated = limit_w[np.isfinite(limit_w)]
    return float(np.median(stated)) if len(stated) and np.median(stated) < tdp_w else 0.0


def _serving(frame: pd.DataFrame, engine: str, reasons: Counter[str]) -> Pairs:
    from sim.serving.engine_profile import load

    profile = load(engine)
    columns = {name: _numbers(frame, name) for name in ("power_w", "energy_j", "batch", "output", "num_gpu")}
    found: Pairs = []
    for index, record in enumerate(frame.to_dict("records")):
        row = {str(key): value for key, value in record.items()}
        cells = {name: float(values[index]) for name, values in columns.items()}
        model, gpu = str(row.get("model", "")), str(row.get(_column(frame, "system") or "gpu", ""))
        try:
            watt, joule = _load(row, cells, model, gpu, profile)
        except (InputError, KeyError) as error:
            reasons[str(error)] += 1
            watt = joule = np.nan
        tags = (str(row.get("precision", "-")), known_model(model), known_system(gpu), str(row.get("task", "all")))
        for kind, ours, theirs in (("power", watt, cells["power_w"]), ("energy_per_token", joule, cells["energy_j"])):
            if theirs > 0:
                found.append(_pair(kind, *tags, ours, theirs))
    return found


def _load(row: Cells, cells: Cells, model: str, gpu: str, profile: "EngineProfile") -> tuple[float, float]:
    """Watts of all GPUs of a row, and joules an output token."""
    from sim.validate._steady import steady

    for name in ("batch", "output", "num_gpu"):
        if not cells[name] > 0:
            raise InputError(f"no {name}", field=name, value="")
    where, replicas = deployment(row, model, gpu, cells["num_gpu"])
    seconds, joule = steady(where, profile, cells["batch"] / replicas, cells["output"], str(row.get("task", "")))
    return joule / seconds * cells["num_gpu"], joule * cells["num_gpu"] / cells["batch"]


def deployment(row: Cells, model: str, gpu: str, num_gpu: float) -> "tuple[Deployment, int]":
    """Where a row of a steady load ran, and on how many replicas."""
    from sim.serving.step_time import Deployment

    precision = str(row.get("precision", ""))
    fmt = known_format("bf16" if precision in WIDE else "", model)
    if fmt == "bf16" and precision not in (*WIDE, "nan", ""):
        fmt = known_format(precision, model)
    sizes = _size(row, "tp", int(num_gpu)), 1, _size(row, "ep", 1)
    return Deployment(known_model(model), known_system(gpu), *sizes, fmt), _size(row, "dp", 1)


def _size(row: Cells, name: str, default: int) -> int:
    """A degree of parallelism; the default where the cell is blank."""
    value = row.get(name)
    if value is None or str(value).strip().lower() in ("", "nan"):
        return default
    number = float(pd.to_numeric(str(value), errors="coerce"))
    if not 1 <= number <= MOST_ACCELERATOR or number != int(number):
        raise InputError("not a number of devices", field=name, value=str(value), allowed=f"1 to {MOST_ACCELERATOR}")
    return int(number)


def _nodes(frame: pd.DataFrame, reasons: Counter[str]) -> Pairs:
    """Nodes under a load that fills them: their devices draw what they may, the rest what `hw_models.power` has."""
    watt, count, limit = (_numbers(frame, name) for name in ("power_w", "num_accelerator", "power_limit_w"))
    idle = _numbers(frame, "idle_power_w")
    found: Pairs = []
    for index, row in enumerate(frame.to_dict("records")):
        name = known_system(str(row.get(_column(frame, "system") or "accelerator", "")))
        tags = "-", str(row.get("benchmark", "-")), name, str(row.get("scenario", "all"))
        full = rest = np.nan
        try:
            if not 1 <= count[index] <= MOST_ACCELERATOR:
                raise InputError("no number of accelerators")
            num = int(count[index])
            system = catalog.system(name, num)
            cap = limit[index] if np.isfinite(limit[index]) else 0.0
            device = limited_system(system, cap if cap < system.device.tdp_w else 0.0).device
            full = wall_w(system, num * SATURATED * (device.power_limit_w or device.tdp_w), num)
            rest = wall_w(system, num * device.idle_w, num)
        except (InputError, ValueError) as error:
            reasons[str(error)] += 1
        for kind, ours, theirs in (("node_power", full, watt[index]), ("node_idle_power", rest, idle[index])):
            if theirs > 0:
                found.append(_pair(kind, *tags, ours, float(theirs)))
    return found
