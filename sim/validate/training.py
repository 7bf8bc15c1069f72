"""`ridgeline validate training FILE`: measured steps and out-of-memory verdicts against the committed constants."""

import argparse
import pathlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import spearmanr

from kernels import training as t
from kernels.training_step import score_plans
from sim.training.measured import Measured, read_measured
from sim.training.measured_column import read_frame
from sim.training.offload import offload_iteration
from sim.training.offload_measured import is_offload, read_offload
from sim.validate._rows import error_row, report

HELP = "measured training runs: step times, MFU, what does not fit"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="CSV of training runs, recognised by its columns")
    parser.add_argument("--json", metavar="FILE", help="write the rows")


def run(arguments: argparse.Namespace) -> int:
    print(report(validate_training(arguments.file), arguments.json))
    return 0


def validate_training(path: str | pathlib.Path) -> list[dict[str, Any]]:
    """A row of step time (or of MFU) a group of the file and one for all, with the rank correlation inside the group;
    `oom_n` runs that were tried for memory and `oom_wrong` wrong verdicts among them; `otherwise_n` runs that ran
    though our memory rules them out as written, timed as the nearest plan that fits (`as_it_ran`)."""
    table = read_frame(path)
    if is_offload(table):
        return _offload_rows(table, path)
    measured = read_measured(table, path)
    seconds, peak = simulate(measured)
    other, changed = as_it_ran(measured, peak)
    if changed.any():
        seconds[changed] = simulate(other)[0][changed]
    ran = ~np.isnan(measured.step_s)
    groups = np.array(measured.group)
    rows = [_row(measured, name, groups == name, seconds, peak, ran, changed) for name in dict.fromkeys(measured.group)]
    if len(rows) > 1:
        rows.append(_row(measured, "all", np.ones(len(groups), bool), seconds, peak, ran, changed))
    return rows


def _offload_rows(table: pd.DataFrame, path: str | pathlib.Path) -> list[dict[str, Any]]:
    """Forward, backward, update and the whole iteration on each machine, and the iterations of all."""
    rows, every = [], []
    for host, runs, measured in read_offload(table, path):
        forward, backward, update = offload_iteration(runs, host)
        ours = (forward, backward, update, forward + backward + update)
        every.append((ours[-1], measured[:, -1]))
        for column, (kind, values) in enumerate(zip(("forward", "backward", "update", "iteration"), ours, strict=True)):
            rows.append(
                error_row(
                    kind, "zero3_offload", host.name, values.tolist(), measured[:, column].tolist(), len(measured)
                )
            )
    both = [np.concatenate(parts) for parts in zip(*every, strict=True)]
    return [*rows, error_row("iteration", "zero3_offload", "all", both[0].tolist(), both[1].tolist(), len(table))]


def simulate(measured: Measured) -> tuple[t.Floats, t.Floats]:
    """Step seconds of every run, whether or not it fits, and peak bytes."""
    seconds, peak = np.zeros((2, len(measured.model)))
    boundless = measured.hardware.copy()
    boundless[t.MEM_BYTE] = np.inf
    for i, model in enumerate(measured.model):
        one = slice(i, i + 1)
        score_plans(model, measured.plan[one], boundless, measured.stack.fit, seconds[one], peak[one])
    return seconds, peak


def as_it_ran(measured: Measured, peak: t.Floats) -> tuple[Measured, npt.NDArray[np.bool_]]:
    """What ran fitted: a run that our memory rules out as written gets the first of the file's other plans that fits.

    Its time is of that plan, its verdict of the one written. Returns the runs and which of them changed.
    """
    limit, plan = measured.hardware[t.MEM_BYTE], measured.plan.copy()
    changed = np.zeros(len(plan), bool)
    memory = np.zeros(len(t.MEMORY))
    for i in np.flatnonzero((peak > limit) & ~np.isnan(measured.step_s) & measured.doubt).tolist():
        for column, value in measured.otherwise:
            tried = plan[i].copy()
            tried[column] = value
            if t.peak_byte(measured.model[i], tried, measured.stack.fit, memory) <= limit:
                plan[i], changed[i] = tried, True
                break
    return measured._replace(plan=plan), changed


def _row(measured: Measured, name: str, chosen: Any, seconds: Any, peak: Any, ran: Any, changed: Any) -> dict[str, Any]:
    """MFU where the file is of layouts (its error is that of 1 / step time), else step time."""
    used = chosen & ran
    ours, theirs = seconds[used], measured.step_s[used]
    if measured.kind == "layout":
        ours, theirs = 1 / ours, 1 / theirs
    kind = "mfu" if measured.kind == "layout" else "step_time"
    row = error_row(kind, measured.stack.name, "dgx_a100", ours, theirs, int(used.sum()), size_class=name)
    row["coverage"] = 1.0  # a run that did not fit was tried too, for memory
    row["rank_correlation"] = float(spearmanr(ours, theirs).statistic) if used.sum() > 2 else float("nan")
    if (chosen & changed).any():  # contradicted by memory as written
        row["otherwise_n"] = int((chosen & changed).sum())
    if (~ran).any():
        wrong = (peak > measured.hardware[t.MEM_BYTE]) == ran
        row |= {"oom_n": int(chosen.sum()), "oom_wrong": int((wrong & chosen).sum())}
    return row
