"""`ridgeline validate training FILE`: measured steps and out-of-memory verdicts against the committed constants."""

import argparse
import pathlib
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from kernels import training as t
from kernels.training_step import score_plans
from sim.training.measured import Measured, read_measured
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
    measured = read_measured(path)
    seconds, peak = simulate(measured)
    ran = ~np.isnan(measured.step_s)
    groups = np.array(measured.group)
    rows = [_row(measured, name, groups == name, seconds, peak, ran) for name in dict.fromkeys(measured.group)]
    if len(rows) > 1:
        rows.append(_row(measured, "all", np.ones(len(groups), bool), seconds, peak, ran))
    return rows


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
