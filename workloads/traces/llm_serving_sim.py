"""Workloads of LLMServingSim: JSON lines of `input_toks`, `output_toks`, `arrival_time_ns` and at will the token ids;
or sessions, `sub_requests` of which each waits for the one before and for its tool (`tool_duration_ns`).

Without `input_tok_ids` no prefix is shared. With them, whole blocks of `block_token` tokens are named by the ids of the
prompt, then of the output, up to there.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from kernels.errors import InputError, NothingServedError
from workloads.parameters import Parameter
from workloads.requests import MAX_TOKEN, Requests
from workloads.traces._clock import TIME_UNIT, first_late, unit_ps
from workloads.traces._rows import MAX_CLOCK, Row, lines
from workloads.traces._sessions import Shared, Turn, sessions

HELP = "LLMServingSim workload, JSON lines: input_toks, output_toks, arrival_time_ns, token ids; or sub_requests"
OPTIONS: dict[str, Parameter] = {
    "block_token": Parameter("tokens of a block that requests may share", "int", default=16, low=1, high=MAX_TOKEN),
    **TIME_UNIT,
}


def sniff(head: bytes) -> bool:
    """Whether the first line is an object with an `arrival_time_ns` and lengths in `toks`."""
    first = head.lstrip().split(b"\n", 1)[0]
    return first.startswith(b"{") and b'"arrival_time_ns"' in first and b'"input_toks"' in first


def read(path: pathlib.Path, options: Mapping[str, Any], seed: int) -> Requests:
    """The requests of a workload, the clock starting with the first."""
    del seed  # everything is in the file
    rows = [row for row in lines(path) if not ("sub_requests" in row.value and row.items("sub_requests") == [])]
    if not rows:
        raise NothingServedError("no request", file=path)
    times = np.array([row.number("arrival_time_ns", 0, MAX_CLOCK * 100) for row in rows], np.float64)
    scale = unit_ps(path, options["time_unit"], "ns", times)
    if (late := first_late(times, scale)) >= 0:
        raise rows[late].error("arrival_time_ns", "too long after the first", "104 days at most")
    known: dict[tuple[int, ...], int] = {}
    found, unit = [], []
    for row, time in zip(rows, times, strict=True):
        calls = list(row.objects("sub_requests")) if "sub_requests" in row.value else [row]
        wait, turns, names = 0, [], []
        for call in calls:
            turns.append(Turn(round((time - times.min()) * scale), call.token("input_toks"), call.token("output_toks"),
                              wait * 1000))  # fmt: skip
            wait = call.number("tool_duration_ns", 0, 9e15, whole=True) if call.has("tool_duration_ns") else 0
            names.append(_blocks(call, options["block_token"], known))
        found.append(turns)
        unit.append(names)
    return sessions(found, Shared(options["block_token"], unit))


def _ids(row: Row, side: str) -> list[int]:
    """The ids of a prompt or an output, as many as it has tokens."""
    ids, need = row.ids(f"{side}_tok_ids"), row.value[f"{side}_toks"]
    if len(ids) != need:
        raise InputError(f"not as long as {side}_toks", file=row.path, line=row.line,
                         field=f"{row.prefix}{side}_tok_ids", value=len(ids), allowed=str(need))  # fmt: skip
    return ids


def _blocks(row: Row, size: int, known: dict[tuple[int, ...], int]) -> list[int]:
    """Names of the whole blocks of a request's tokens: one a block and all that comes before it."""
    if not row.has("input_tok_ids"):
        return []
    ids = [token for side in ("input", "output") if row.has(f"{side}_tok_ids") for token in _ids(row, side)]
    before, names = -1, []
    for start in range(0, len(ids) - size + 1, size):
        key = (before, *ids[start : start + size])
        before = known.setdefault(key, len(known))
        names.append(before)
    return names
