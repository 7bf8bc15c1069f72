"""Inputs of AIPerf and GenAI-Perf: JSON lines of sessions, `turns` of `text` with a `delay` in milliseconds after the
answer before, or of single `text`s; texts without counts, answers of a length that `output_token=` says.

A turn's text is what is new: its prompt holds the history. A `timestamp` (ms) says when a session begins.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from kernels.errors import InputError, NothingServedError
from workloads.parameters import Parameter
from workloads.requests import MAX_TOKEN, Requests
from workloads.traces._clock import TIME_UNIT, unit_ps
from workloads.traces._rows import MAX_CLOCK, Row, lines
from workloads.traces._sessions import Shared, Turn, accumulated, history_units, sessions
from workloads.traces._text import CHAR_PER_TOKEN, tokens_of

HELP = "AIPerf input, JSON lines: turns of text and delay (needs char_per_token= and output_token=)"
OPTIONS: dict[str, Parameter] = {
    **CHAR_PER_TOKEN,
    "output_token": Parameter("tokens of an answer (needed)", "int", low=1, high=MAX_TOKEN),
    **TIME_UNIT,
}
UNIT_TOKEN = 16
PS_PER_MS = 10**9


def sniff(head: bytes) -> bool:
    """Whether the first line is a session of turns, or a text."""
    first = head.lstrip().split(b"\n", 1)[0]
    return first.startswith(b"{") and (b'"turns"' in first or b'"text"' in first[:32]) and b'"text"' in first


def read(path: pathlib.Path, options: Mapping[str, Any], seed: int) -> Requests:
    """Sessions as requests."""
    del seed  # everything is in the file
    if options["output_token"] is None:
        raise InputError("the file does not say how long answers are: give output_token=", file=path,
                         field="output_token", value=None, allowed=f"1 to {MAX_TOKEN}")  # fmt: skip
    rows = list(lines(path))
    turns = [list(row.objects("turns")) if "turns" in row.value else [row] for row in rows]
    turns = [one for one in turns if one]
    if not turns:
        raise NothingServedError("no session has a turn", file=path)
    begin = _begin(path, [one[0] for one in turns], options)
    found, units, fresh = [], [], 0
    for one, at in zip(turns, begin, strict=True):
        lengths = accumulated([(tokens_of(path, turn.text("text"), options), options["output_token"]) for turn in one])
        wait = [turn.number("delay", 0, 9e9) if k and turn.has("delay") else 0 for k, turn in enumerate(one)]
        found.append([Turn(at, *pair, round(ms * PS_PER_MS)) for pair, ms in zip(lengths, wait, strict=True)])
        units.append(history_units(lengths, fresh, UNIT_TOKEN) if len(lengths) > 1 else [[]])
        fresh += max((len(one) for one in units[-1]), default=0)
    said = f"tokens are counted by their characters, {options['char_per_token']:g} each"
    return sessions(found, Shared(UNIT_TOKEN, units), said)


def _begin(path: pathlib.Path, firsts: list[Row], options: Mapping[str, Any]) -> list[int]:
    """Picoseconds at which the sessions begin; all at 0 where no time is written."""
    if not any(row.has("timestamp") for row in firsts):
        return [0] * len(firsts)
    times = np.array([row.number("timestamp", -MAX_CLOCK, MAX_CLOCK) for row in firsts], np.float64)
    scale = unit_ps(path, options["time_unit"], "ms", times, fraction=False)
    return [int(time) for time in np.rint((times - times.min()) * scale)]
