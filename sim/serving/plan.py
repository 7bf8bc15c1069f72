"""The plan of a lane as rows, and the spans that its decodes read together, for who carries it out or looks at it."""

from collections import Counter
from typing import NamedTuple

import numpy as np

from kernels.engine import records as at
from kernels.engine.lanes import lane_at

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


class Spans(NamedTuple):
    """Spans that decodes of a step read together: of each how many queries and keys, and of each decode, in the order
    of the plan, the leading tokens that it reads so."""

    query_len: at.Ints
    kv_len: at.Ints
    token: at.Ints


NO_SPANS = Spans(*(np.zeros(0, np.int64),) * 3)


def plan_spans(engine: at.Engine, rows: at.Records) -> Spans:
    """The spans of a plan, found by counting who holds which unit: what `kernels.engine.span` finds, by another way."""
    me = engine.me
    least_row = int(me["span_row"])
    chains = []
    for i in rows["sequence"][rows["role"] != at.PREFILL]:
        start = int(engine.seq[i]["unit_start"])
        chains.append(engine.unit_id[1, start : start + int(engine.seq[i]["shared"])].tolist() if least_row else [])
    count = Counter(unit for chain in chains for unit in chain)
    least = max(least_row, len(chains)) if me["span_common"] else least_row
    found: dict[int, tuple[int, int]] = {}  # first unit of a span: queries and keys
    token = np.zeros(len(chains), np.int64)
    for row, chain in enumerate(chains):
        k = 0
        while k < len(chain) and count[chain[k]] >= least:
            stop = k
            while stop < len(chain) and count[chain[stop]] == count[chain[k]]:
                stop += 1
            length = (stop - k) * int(me["unit_token"])
            if length < me["span_token"]:
                break
            found[chain[k]] = count[chain[k]], length
            token[row] += length
            k = stop
    if not found:
        return NO_SPANS
    query, keys = np.array(list(found.values()), np.int64).T
    return Spans(query, keys, token)


def adapter_sums(engine: at.Engine, rows: at.Records) -> tuple[int, int, int]:
    """Tokens of a plan that have an adapter, these times their ranks, and the ranks of distinct adapters."""
    adapter = engine.seq["adapter"][rows["sequence"]]
    own = np.flatnonzero(adapter) if engine.me["num_rank"] else np.zeros(0, np.int64)
    first, kinds = int(engine.me["at_rank"]), int(engine.me["num_rank"])
    sizes = engine.work[first : first + kinds * len(at.RANK_FIELDS) : len(at.RANK_FIELDS)]
    token = (rows["token"] + rows["pad"])[own]
    rank = sizes[(adapter[own] - 1) % kinds] if len(own) else token
    distinct = np.unique(adapter[own])
    return int(token.sum()), int((token * rank).sum()), int(sizes[(distinct - 1) % kinds].sum()) if len(own) else 0


def adapters_ready_ps(engine: at.Engine, rows: at.Records) -> int:
    """When the adapters of a plan have arrived from the host."""
    entry = engine.seq["entry"][rows["sequence"]]
    return int(engine.unit["ready_ps"][entry[entry > 0]].max(initial=0))
