"""`ridgeline validate training FILE`: measured steps and out-of-memory verdicts against the committed constants."""

import argparse
import pathlib
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from kernels import training as t
from kernels.training_step import score_plans
from sim.training.measured import Measured, read_frame, read_measured
from sim.training.offload import offload_iteration
from sim.training.offload_measured import is_offload, read_offload
from sim.validation_rows import error_row, report

HELP = "measured training runs: step times, MFU, what does not fit"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="CSV of training runs, recognised by its columns")
    parser.add_argument("--json", metavar="FILE", help="write the rows")


def run(arguments: argparse.Namespace) -> int:
    print(report(validate_training(arguments.file), arguments.json))
    return 0


def validate_training(path: str | pathlib.Path) -> list[dict[str, Any]]:
    """A row of step time (or of MFU) a group of the file and one for all, with the rank correlation inside the group;
    `oom_n` runs that were tried for memory and `oom_wrong` wrong verdicts among them."""
    table = read_frame(path)
    if is_offload(table):
        return _offload_rows(table, path)
    measured = read_measured(table, path)
    seconds, peak = simulate(measured)
    ran = ~np.isnan(measured.step_s)
    groups = np.array(measured.group)
    rows = [_row(measured, name, groups == name, seconds, peak, ran) for name in dict.fromkeys(measured.group)]
    if len(rows) > 1:
        rows.append(_row(measured, "all", np.ones(len(groups), bool), seconds, peak, ran))
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


def _row(measured: Measured, name: str, chosen: Any, seconds: Any, peak: Any, ran: Any) -> dict[str, Any]:
    """MFU where the file is of layouts (its error is that of 1 / step time), else step time."""
    used = chosen & ran
    ours, theirs = seconds[used], measured.step_s[used]
    if measured.kind == "layout":
        ours, theirs = 1 / ours, 1 / theirs
    kind = "mfu" if measured.kind == "layout" else "step_time"
    row = error_row(kind, measured.stack.name, "dgx_a100", ours, theirs, int(used.sum()), size_class=name)
    row["rank_correlation"] = float(spearmanr(ours, theirs).statistic) if used.sum() > 2 else float("nan")
    if (~ran).any():
        wrong = (peak > measured.hardware[t.MEM_BYTE]) == ran
        row |= {"oom_n": int(chosen.sum()), "oom_wrong": int((wrong & chosen).sum())}
    return row
