"""The plan of a lane as rows, for who carries it out or looks at it."""

import numpy as np

from kernels.engine import records as at
from kernels.engine.verbs import lane_at

ROW = np.dtype([(name, "i8") for name in ("sequence", "role", "token", "pad", "start")])


def plan_rows(engine: at.Engine, lane: int) -> at.Records:
    """Rows of the plan that a lane holds, from its making to the end of its step: the sequence, its role
    (`kernels.engine.records`: PREFILL, DECODE, IDLE), tokens computed, padding, and the tokens computed before."""
    num = int(engine.lane[lane]["num_plan"])
    first = lane_at(engine, lane) + int(engine.me["in_plan"])
    raw = engine.work[first : first + at.ROW * num].reshape(num, at.ROW)
    rows = np.zeros(num, ROW)
    for name, column in (("sequence", at.SEQ), ("role", at.ROLE), ("token", at.TOKEN), ("pad", at.PAD)):
        rows[name] = raw[:, column]
    held = engine.seq[rows["sequence"]]
    rows["start"] = held["kv"] + held["ahead"] - np.where(rows["role"] == at.IDLE, 0, rows["token"])
    return rows
