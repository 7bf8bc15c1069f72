"""`ridgeline validate training FILE`: measured training runs against the committed stacks.

Rows are read in the common form (`sim.validate._training_rows`) or with the older headers of the shared files
(`_training_old`, `sim.training.offload_measured`). Kinds: `step` (seconds), `mfu`, `memory` (bytes), `fits` (its
mape is the share of wrong verdicts). What cannot be run is counted against coverage, with its reason.
"""

import argparse
import pathlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from kernels.errors import InputError
from sim.record.export import write_json
from sim.show.tables import table as text_table
from sim.training.estimate import estimate, known_site
from sim.training.offload import offload_iteration
from sim.training.offload_measured import is_offload, read_offload
from sim.validate._rows import error_row, exit_code
from sim.validate._training_names import named
from sim.validate._training_old import read_old
from sim.validate._training_rows import ReadRows, TrainRow, is_common, read_rows
from workloads.files import read_frame
from workloads.training_flop import model_flop

HELP = "measured training runs: step times, MFU, memory, what does not fit"
KINDS = ("step", "mfu", "memory", "fits")


class Found(NamedTuple):
    """A row with what the simulation says of it."""

    row: TrainRow
    step_s: float
    mfu: float
    measured_mfu: float  # a share, whatever the file gave
    peak_byte: float
    fits: bool  # as written
    changed: bool  # timed as the nearest plan that fits
    inherited: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="CSV of training runs, recognised by its columns")
    parser.add_argument("--json", metavar="FILE", help="write the rows")


def run(arguments: argparse.Namespace) -> int:
    rows, reasons, notes = validate_file(arguments.file)
    if arguments.json:
        write_json({"rows": rows, "reasons": reasons}, arguments.json)
    print(text_table(pd.DataFrame(rows)))
    for note in notes:
        print(note)
    for reason in reasons[:10]:
        print(f"not run ({reason['n']}): {reason['reason']}")
    return exit_code(rows)


def validate_training(path: str | pathlib.Path) -> list[dict[str, Any]]:
    """The error rows of a file."""
    return validate_file(path)[0]


def validate_file(path: str | pathlib.Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """(error rows, reasons of rows that were not run, what the result rests on). Raises `InputError` for a file that
    has no row that can be run."""
    table = named(read_frame(path))
    if is_offload(table):
        odd: Counter[str] = Counter()
        rows = _offload_rows(table, path, odd)
        return rows, [{"reason": reason, "n": number} for reason, number in odd.most_common()], []
    read = read_rows(table, path) if is_common(table) else read_old(table, path)
    found, reasons = [], list(read.reasons)
    for row in read.rows:
        try:
            found.append(simulate(row))
        except InputError as error:
            reasons.append(f"{path}:{row.line}: {error}")
    if not found:
        raise InputError(f"no row can be run; {reasons[0]}", file=path)
    counted = Counter(_kind_of_reason(reason, path) for reason in reasons)
    return (
        error_rows(found, read, len(reasons)),
        [{"reason": reason, "n": number} for reason, number in counted.most_common()],
        notes(found),
    )


def simulate(row: TrainRow) -> Found:
    """One row: its time as it can have run, its verdict as it is written."""
    stated = _estimate(row)
    chosen, changed = stated, False
    ran = row.fits is not False and not (np.isnan(row.step_s) and np.isnan(row.mfu))
    if ran and not stated[0].fits:
        for change in row.otherwise:
            other = row._replace(plan=replace(row.plan, **change))
            tried = _estimate(other)
            if tried[0].fits:
                chosen, changed, row = tried, True, other._replace(otherwise=row.otherwise)
                break
    result, where = chosen
    peak = where.peak_flop_per_s
    flop = model_flop(row.model, row.plan, causal=row.mfu_causal)
    measured = -row.mfu / peak if row.mfu < 0 else row.mfu
    if np.isnan(measured) and row.step_s == row.step_s:
        measured = flop / (row.step_s * row.plan.num_device * peak)
    mfu = flop / (result.step_s * row.plan.num_device * peak)
    return Found(row, result.step_s, mfu, measured, stated[0].peak_byte, stated[0].fits, changed, where.inherited)


def _estimate(row: TrainRow) -> Any:
    plan = row.plan
    where = known_site(row.system, plan.num_device, row.stack, plan.attention, row.precision, row.power_limit_w)
    return estimate(row.model, plan, where), where


def error_rows(found: Sequence[Found], read: ReadRows, num_failed: int) -> list[dict[str, Any]]:
    """Of each kind: one row over the whole file, then by system and precision, by model and by sequence length."""
    out: list[dict[str, Any]] = []
    for kind in KINDS:
        pick = _MEASURED[kind]
        some = [one for one in found if pick(one)]
        if not some:
            continue
        out.append(_row(kind, some, num_failed))
        groups: list[tuple[dict[str, str], Callable[[Found], str]]] = [
            ({"column": "system"}, lambda f: f"{f.row.system}|{f.row.precision}"),
            ({"column": "size_class"}, lambda f: f.row.group),
            ({"column": "size_class"}, lambda f: f"seq {f.row.plan.seq}"),
        ]
        for where, key in groups:
            names = dict.fromkeys(key(one) for one in some)
            if len(names) < 2:
                continue
            for name in names:
                chosen = [one for one in some if key(one) == name]
                system, _, form = name.partition("|")
                label = {"system": system, "number_format": form} if form else {where["column"]: name}
                out.append(_row(kind, chosen, 0, **label))
    return out


_MEASURED: dict[str, Callable[[Found], bool]] = {
    "step": lambda f: f.row.step_s == f.row.step_s,
    "mfu": lambda f: f.measured_mfu == f.measured_mfu,
    "memory": lambda f: f.row.memory_byte == f.row.memory_byte,
    "fits": lambda f: f.row.fits is not None or f.row.step_s == f.row.step_s,
}


def _row(kind: str, some: Sequence[Found], num_failed: int, **label: str) -> dict[str, Any]:
    if kind == "fits":  # a run that has a time fitted
        wrong = [float(one.fits != (one.row.fits is not False)) for one in some]
        ours, theirs = [1 + value for value in wrong], [1.0] * len(wrong)
    elif kind == "memory":
        ours, theirs = [one.peak_byte for one in some], [one.row.memory_byte for one in some]
    elif kind == "mfu":
        ours, theirs = [one.mfu for one in some], [one.measured_mfu for one in some]
    else:
        ours, theirs = [one.step_s for one in some], [one.row.step_s for one in some]
    stacks = dict.fromkeys(one.row.stack for one in some)
    made = error_row(kind, "all", label.get("system", "all"), ours, theirs, len(some) + num_failed,
                     number_format=label.get("number_format", "all"),
                     size_class=label.get("size_class", "all"))  # fmt: skip
    made["stack"] = ", ".join(stacks)
    if kind in ("step", "mfu"):
        made["rank_correlation"] = float(spearmanr(ours, theirs).statistic) if len(some) > 2 else float("nan")
        made["otherwise_n"] = sum(one.changed for one in some)
    return made


def notes(found: Sequence[Found]) -> list[str]:
    """What the result rests on: which stack and whose calibration."""
    used = Counter((one.row.stack, one.row.system, one.inherited or "none: speed of light") for one in found)
    return [f"{n} rows of {system}: stack {stack}, calibration of {by}" for (stack, system, by), n in used.items()]


def _kind_of_reason(reason: str, path: Any) -> str:
    """A reason without its line, so that equal ones are counted together."""
    text = reason.removeprefix(str(path))
    head, _, rest = text.partition(": ")
    return rest if head.lstrip(":").isdigit() else text


def _offload_rows(table: pd.DataFrame, path: str | pathlib.Path, odd: Counter[str]) -> list[dict[str, Any]]:
    """Forward, backward, update and the whole iteration on each machine, then each of them, and the step, over all."""
    kinds = ("forward", "backward", "update", "iteration")
    rows: list[dict[str, Any]] = []
    ours: dict[str, list[float]] = {kind: [] for kind in kinds}
    theirs: dict[str, list[float]] = {kind: [] for kind in kinds}
    for host, runs, measured in read_offload(table, path, odd):
        parts = offload_iteration(runs, host)
        for kind, values, column in zip(kinds, (*parts, np.sum(parts, axis=0)), measured.T, strict=True):
            pair = np.asarray(values).tolist(), column.tolist()
            rows.append(error_row(kind, "zero3_offload", host.name, *pair, len(measured)))
            ours[kind] += pair[0]
            theirs[kind] += pair[1]
    ours["step"], theirs["step"] = ours["iteration"], theirs["iteration"]
    rows += [error_row(kind, "all", "all", ours[kind], theirs[kind], len(table), number_format="all") for kind in ours]
    return rows
