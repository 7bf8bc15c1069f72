"""Profiles of attention kernels from a folder of measured operators.

A benchmark row times the attention kernel and the write of the new keys and values into the cache, so the two are
fitted together on prefill rows, where the write matters; decode rows are then fitted with the write known. Fitted on
half of the shapes and checked on the other half; a kernel with few rows is fitted on all of them, drawn to its
relative's constants, and checked by cross-validation. Deterministic. `hw_models.calibration.shipped` writes the
profiles.
"""

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from hw_models import catalog
from hw_models.calibration.attention import sought, write_sought
from hw_models.calibration.fit import Floats, Predict, error, fit, half, spread
from hw_models.calibration.measured import Measured, read_folder
from hw_models.device import machine
from hw_models.profile import ErrorSummary, Kernel, Profile
from kernels.attention import ATTENTION_FIT
from kernels.formats import FORMAT_CODE, FORMATS
from kernels.kv_write import KV_WRITE_FIT
from kernels.machine import Machine
from kernels.optable import ATTN_DECODE, ATTN_PREFILL, COST_DTYPE, KIND_CODE, KV_WRITE
from kernels.price import price_into

Rows = npt.NDArray[np.intp]
FIT_ROWS = 2500  # of the fitting half, evenly
FEW_ROWS = 200  # fewer: cross-validation instead of halves
NUM_FOLD = 5
WRITE_NAME = "reshape_and_cache"


def predictor(measured: Measured, rows: Rows, arrays: Machine, kind: str, fmt: int) -> Predict:
    """A function from (attention constants, write constants) to seconds of the chosen rows."""
    ops = measured.ops[rows]
    beside = ops[:0] if measured.beside is None else measured.beside[rows]
    own = arrays._replace(fit=arrays.fit.copy())
    cost, beside_cost = np.zeros(len(ops), COST_DTYPE), np.zeros(len(beside), COST_DTYPE)
    count = len(ATTENTION_FIT)

    def predict(values: Floats) -> Floats:
        own.fit[KIND_CODE[kind], fmt, :count] = values[:count]
        own.fit[KV_WRITE, fmt, : len(KV_WRITE_FIT)] = values[count:]
        price_into(ops, measured.work, own, cost)
        price_into(beside, measured.work, own, beside_cost)
        return np.maximum(cost["time_ps"] + beside_cost["time_ps"], 1) * 1e-12

    return predict


def shape_half(measured: Measured, rows: Rows) -> npt.NDArray[np.bool_]:
    """True for rows of the fitting half, by shape alone."""
    ops = measured.ops[rows]
    work = measured.work[ops["work_start"]]
    columns = [ops[name] for name in ("num_head", "num_kv_head", "head_dim", "window")]
    return half(*columns, *(work[name] for name in ("count", "query_len", "kv_len")))


def fit_folder(folder: str | pathlib.Path, device: str, relative: Profile | None = None) -> list[Kernel]:
    """Fitted kernels of the attention files of a folder."""
    arrays = machine(catalog.system(device), "sol")
    files = [m for m in read_folder(folder, arrays) if m.kind.startswith("attn") and m.plain]
    kernels: list[Kernel] = []
    for kind, code in (("attn_prefill", ATTN_PREFILL), ("attn_decode", ATTN_DECODE)):
        for measured in files:
            if measured.kind == kind:
                kernels += _fit_kind(measured, np.flatnonzero(measured.ops["kind"] == code), arrays, kernels, relative)
    return kernels


def _fit_kind(
    measured: Measured, rows: Rows, arrays: Machine, before: Sequence[Kernel], relative: Profile | None
) -> list[Kernel]:
    """Every (format, kernel) of one file, the one with the most rows first: it is the default, and tells the write."""
    formats = np.array(measured.format_name())[rows]
    names = measured.frame["kernel"].astype(str).to_numpy()[rows]
    found: list[Kernel] = []
    for fmt in sorted(set(formats.tolist())):
        tally = {n: int(np.sum((formats == fmt) & (names == n))) for n in set(names[formats == fmt].tolist())}
        for i, name in enumerate(sorted(tally, key=lambda n: (-tally[n], n))):
            chosen = _ordered(measured, rows[(formats == fmt) & (names == name)])
            write = next((k for k in (*before, *found) if k.kind == "kv_write" and k.format == fmt), None)
            found += _fit_kernel(measured, chosen, arrays, fmt, name, i == 0, write, relative)
    return found


def _fit_kernel(
    measured: Measured,
    rows: Rows,
    arrays: Machine,
    fmt: str,
    name: str,
    default: bool,
    write: Kernel | None,
    relative: Profile | None,
) -> list[Kernel]:
    """The kernel, and the cache write where it was not known."""
    kind, code = measured.kind, FORMAT_CODE[fmt]
    few = len(rows) < FEW_ROWS
    ops = measured.ops[rows]
    near, near_write = (_near(relative, which, fmt, name) for which in (kind, "kv_write"))
    parameters = [
        *sought(
            kind,
            name,
            windows=bool(np.any(ops["window"] > 0)),
            widths=len(set(ops["head_dim"].tolist())) > 1,
            narrow=FORMATS[code].weight_bit <= 8,
            relative=near if few else None,
        ),
        *write_sought(near_write if few else None, None if write is None else write.parameter),
    ]
    train = np.ones(len(rows), bool) if few else shape_half(measured, rows)

    def solve(chosen: Rows) -> Floats:
        some = chosen[:: max(1, -(-len(chosen) // FIT_ROWS))]
        values = fit(predictor(measured, some, arrays, kind, code), measured.seconds[some], parameters)
        return np.array([values[p.name] for p in parameters])

    values = solve(rows[train])
    seconds = measured.seconds[rows]
    predicted = predictor(measured, rows, arrays, kind, code)(values).copy()
    checked, held = predicted.copy(), ~train
    if few:
        held = np.ones(len(rows), bool)
        fold = np.arange(len(rows)) * 7 % NUM_FOLD
        for i in range(NUM_FOLD if len(rows) > NUM_FOLD else 0):
            out = fold == i
            checked[out] = predictor(measured, rows[out], arrays, kind, code)(solve(rows[~out])).copy()
    fitted = ErrorSummary(**asdict(error(predicted[train], seconds[train])))
    out_error = ErrorSummary(**asdict(error(checked[held], seconds[held])))
    by_size = spread(checked[held], seconds[held])

    def kernel(which: str, called: str, first: bool, names: Sequence[str], constants: Floats) -> Kernel:
        return Kernel(
            kind=which,
            format=fmt,
            name=called,
            default=first,
            parameter=dict(zip(names, constants.tolist(), strict=True)),
            data=measured.file.name,
            train=fitted,
            held_out=out_error,
            spread=by_size,
        )

    count = len(ATTENTION_FIT)
    found = [kernel(kind, name, default, ATTENTION_FIT, values[:count])]
    if write is None:
        found.append(kernel("kv_write", WRITE_NAME, True, KV_WRITE_FIT, values[count:]))
    return found


def _near(relative: Profile | None, kind: str, fmt: str, name: str) -> Mapping[str, float] | None:
    """Constants of the relative's kernel of the same name, else of its default, of this format or else of bf16."""
    if relative is None:
        return None
    for found in (relative.find(kind, fmt, name), relative.find(kind, fmt), relative.find(kind, "bf16")):
        if found is not None:
            return found.parameter
    return None


def _ordered(measured: Measured, rows: Rows) -> Rows:
    """Rows in an order that does not depend on the file's."""
    ops = measured.ops[rows]
    work = measured.work[ops["work_start"]]
    keys = [work[n] for n in ("count", "query_len", "kv_len")]
    keys += [ops[n] for n in ("window", "num_kv_head", "num_head", "head_dim")]
    return np.asarray(rows[np.lexsort([measured.seconds[rows], *keys])])
