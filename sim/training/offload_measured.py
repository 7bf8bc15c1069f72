"""Measured ZeRO-3 iterations with the optimizer on the host: a log's name says what ran."""

import re
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from hw_models.calibration.odd_rows import OddRows
from kernels.errors import InputError
from kernels.train_plan import Floats
from sim.training.offload import Host, OffloadRun

COLUMNS = ("log", "fwd_ms", "bwd_ms", "step_ms")  # "dir" says the machine, "iter_ms" is their sum where it lacks
FIELDS = ("tp", "dp", "l", "h", "sl", "gbs", "mbs", "ratio", "prefetch")

# Fitted on 151 measured iterations of 7B to 70B models (Deep Optimizer States results), least squares on log time of
# forward, backward, update and the whole, beside a share of peak for the operators of a pass. These are since priced as
# every training step is, the constants of the host left as they were: the iteration is 3.0 %, 4.7 % and 5.4 % off.
# Runs whose folder names "a100" or "twinflow" (four H100) come from machines of their own. The single-node ones keep
# the network's rate of the many-node one.
HOSTS = {
    "twinflow": Host("h100_x4", "dgx_h100", 3.06e-3, 5.8e-10, 1.65e-10, 1.3e-12, 1.5e-12, 5.75e-10, 1.44e-10, 0.424,
                     0.233, 6.76e-11, 0.0, 7.3e9, 4),
    "a100": Host("a100_x4", "dgx_a100", 3.95e-3, 5.5e-10, 1.37e-10, 1.43e-11, 3.27e-11, 6.0e-10, 3.24e-10, 0.473,
                 0.349, 4.4e-12, 0.0, 7.3e9, 4),
    "": Host("a100_x4_slow_host", "dgx_a100", 5.16e-3, 6.38e-10, 2.65e-10, 2.8e-12, 1.18e-10, 6.26e-10, 4.67e-10,
             0.559, 0.215, 1.0e-12, 0.04, 7.3e9, 4),
}  # fmt: skip
MOST_MS = 1e9
DEFAULT_GAP = 5  # of interleaved updates whose log does not say


def is_offload(frame: pd.DataFrame) -> bool:
    """Whether the columns are those of such a file."""
    return set(COLUMNS) <= set(frame.columns)


def read_offload(
    frame: pd.DataFrame, path: Any, reasons: Counter[str] | None = None
) -> list[tuple[Host, OffloadRun, Floats]]:
    """(host, runs, seconds `[n, 4]` of forward, backward, update and iteration) for each machine in the file. Rows that
    are no measurement are counted in `reasons`; without it, and where no row stands, the first is an `InputError`."""
    odd = OddRows(path)
    named = [name for name in (*COLUMNS[1:], "iter_ms") if name in frame.columns]
    times = {name: odd.number(frame, name, positive=True, most=MOST_MS) for name in named}
    logs = []
    for row, log in enumerate(frame["log"]):
        try:
            logs.append(_parse(log, path, row + 2))
        except InputError as error:
            odd.add(row, "log: its name does not say what ran", error)
            logs.append({})
    if reasons is None:
        odd.check()
    stands = odd.stands(len(frame))
    odd.count(Counter() if reasons is None else reasons)
    times = {name: values[stands] for name, values in times.items()}
    frame = frame[stands].reset_index(drop=True)
    whole = times.pop("iter_ms") if "iter_ms" in times else sum(times.values())
    seconds = np.stack([*times.values(), whole], axis=1) / 1e3
    parsed = pd.DataFrame([log for log, good in zip(logs, stands, strict=True) if good])
    folder = frame["dir"].astype(str) if "dir" in frame.columns else pd.Series([""] * len(frame))
    machine = np.array([next(name for name in HOSTS if name in text) for text in folder])
    # logs without the field: the study of group sizes flushed asynchronously, the motivation runs did not
    flushed = parsed["flush_async"].fillna(folder.str.contains("subg-size").astype(float)).to_numpy(float)
    gap = np.where(parsed["opt_gaps"].fillna(0) > 0, parsed["opt_gaps"], DEFAULT_GAP)
    out = []
    for name in dict.fromkeys(machine.tolist()):
        f = {field: parsed[field].to_numpy(float)[machine == name] for field in FIELDS}
        run = OffloadRun(
            12 * f["l"] * f["h"] ** 2, f["l"], f["h"], f["sl"], f["tp"], f["dp"], f["mbs"],
            f["gbs"] / f["mbs"] / f["dp"], f["ratio"], np.where(f["prefetch"] > 0, gap[machine == name], 0.0),
            flushed[machine == name],
        )  # fmt: skip
        out.append((HOSTS[name], run, seconds[machine == name]))
    return out


def _parse(log: str, path: Any, line: int) -> dict[str, float]:
    """`log-7B-tp1-dp4-l32-...` by field.

    >>> _parse("log-7B-tp1-dp4-l32-h4096-a32-sl2048-gbs4-mbs1-ratio0.8-subg100-prefetch0", "x.csv", 2)["ratio"]
    0.8
    """
    names = "|".join([*FIELDS, "a", "subg", "flush_async", "opt_gaps"])
    values = {name: float(value) for name, value in re.findall(rf"-({names})([\d.]+)(?=-|$)", str(log))}
    for name in FIELDS:
        if name not in values:
            raise InputError(f"the log's name lacks {name}", file=path, line=line, field="log", value=log)
        if values[name] == 0 and name not in ("ratio", "prefetch"):
            raise InputError(f"{name} must be above 0", file=path, line=line, field="log", value=log)
    return {"flush_async": np.nan, "opt_gaps": np.nan} | values
