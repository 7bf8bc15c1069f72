"""Mooncake traces: JSON lines of `timestamp` (ms), `input_length`, `output_length`, `hash_ids`.

A hash names a block of 512 prompt tokens together with everything before it, so that equal leading ids are a
shared prefix. Hashes become dense prefix units in order of first appearance. Later traces have no `hash_ids` (no
prefix is known to be shared), or sessions: rows of one `session_id`, of which each but the first says how many
milliseconds after the one before it comes (`delay`) and what is new in its prompt.
"""

import itertools
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from kernels.errors import InputError
from workloads.parameters import Parameter
from workloads.requests import MAX_TOKEN, Requests, build
from workloads.traces._clock import TIME_UNIT, first_late, since_ps, unit_ps
from workloads.traces._rows import MAX_CLOCK, Row, lines
from workloads.traces._sessions import Shared, Turn, accumulated, dense_units, history_units, sessions

HELP = "Mooncake trace, JSON lines: timestamp (ms), input_length, output_length, hash_ids of 512-token blocks; sessions"
OPTIONS: dict[str, Parameter] = {
    "block_token": Parameter("tokens a hash stands for", "int", default=512, low=1, high=MAX_TOKEN),
    **TIME_UNIT,
}
OTHERS = (b'"chat_id"', b'"input_toks"')


def sniff(head: bytes) -> bool:
    """Whether the first line is an object with an `input_length` (and no field of its relatives)."""
    first = head.lstrip().split(b"\n", 1)[0]
    mine = b'"input_length"' in first or (b'"text_input"' in first and b'"output_length"' in first)
    return first.startswith(b"{") and mine and not any(name in first for name in OTHERS)


def read(path: pathlib.Path, options: Mapping[str, Any], seed: int) -> Requests:
    """The requests of a trace, the clock starting with the first."""
    del seed  # everything is in the file
    rows = list(lines(path))
    if any(row.has("session_id") for row in rows):
        return _sessions(path, rows, options)
    return hashed(path, rows, options, "ms", fraction=False)


def hashed(
    path: pathlib.Path, rows: list[Row], options: Mapping[str, Any], published: str, fraction: bool
) -> Requests:  # fmt: skip
    """Rows with a `timestamp` each, and hashes where they have them."""
    size = options["block_token"]
    times = np.array([row.number("timestamp", -MAX_CLOCK, MAX_CLOCK) for row in rows], np.float64)
    lengths = [(_input(row), row.token("output_length")) for row in rows]
    ids = [_hashes(row, size) for row in rows]
    scale = _scale(path, rows, times, options, published, fraction)
    arrival_ps, order = since_ps(times, scale)
    prompt, output = (np.array(column)[order] for column in zip(*lengths, strict=True))
    stop = np.cumsum([len(one) for one in ids])
    start = stop - [len(one) for one in ids]
    return build(
        arrival_ps, prompt, output, unit_start=start[order], unit_stop=stop[order], unit_id=dense_units(ids),
        unit_token=size,
    )  # fmt: skip


def _scale(
    path: pathlib.Path, rows: list[Row], times: Any, options: Mapping[str, Any], published: str, fraction: bool
) -> int:  # fmt: skip
    """Picoseconds of the unit of the timestamps; the first that lies too far from the earliest is refused."""
    from workloads.traces._clock import UNIT_PS

    late = first_late(times, UNIT_PS.get(options["time_unit"] or published, 1))
    if late >= 0:
        raise rows[late].error("timestamp", "too long after the first", "104 days at most")
    return unit_ps(path, options["time_unit"], published, times, fraction)


def _input(row: Row) -> int:
    if not row.has("input_length") and row.has("text_input"):
        raise row.error("text_input", "a text, of which no tokenizer says how many tokens it has", "input_length")
    return row.token("input_length")


def _hashes(row: Row, size: int) -> list[int]:
    if not row.has("hash_ids"):
        return []
    ids = row.ids("hash_ids")
    need = -(-row.value["input_length"] // size)
    if len(ids) > need:
        raise InputError("too many blocks", file=row.path, line=row.line, field="hash_ids", value=len(ids),
                         allowed=f"0 to {need} of {size} tokens")  # fmt: skip
    return ids


def _sessions(path: pathlib.Path, rows: list[Row], options: Mapping[str, Any]) -> Requests:
    """Rows in sessions, in the order of the file; a row without a session is one of its own. Units of a session are its
    own from the first turn's hashes on, which others may begin with too."""
    size, session = options["block_token"], dict[Any, list[Row]]()
    for number, row in enumerate(rows):
        name = row.value["session_id"] if row.has("session_id") else ("row", number)
        if row.has("session_id") and not isinstance(name, str | int):
            raise row.error("session_id", "not a name", "a text or a whole number")
        session.setdefault(name, []).append(row)
    firsts = [(turns[0], turns[0].has("timestamp")) for turns in session.values()]
    timed = [row for row, has in firsts if has]
    times = np.array([row.number("timestamp", -MAX_CLOCK, MAX_CLOCK) for row in timed], np.float64)
    scale = _scale(path, timed, times, options, "ms", fraction=False) if timed else 0
    least = times.min() if timed else 0.0
    found, unit, fresh, later = [], [], itertools.count(-1, -1), 0
    for turns in session.values():
        at = 0
        if turns[0].has("timestamp"):
            at = round((turns[0].value["timestamp"] - least) * scale)
        lengths = accumulated([(_input(row), row.token("output_length")) for row in turns])
        made = []
        for (prompt, output), row, first in zip(lengths, turns, [True] + [False] * len(turns), strict=False):
            wait = 0.0 if first or not row.has("delay") else row.number("delay", 0, 9e9)
            made.append(Turn(at, prompt, output, round(wait * 10**9)))
            later += int(not first and row.has("hash_ids") and bool(row.ids("hash_ids")))
        found.append(made)
        own = _hashes(turns[0], size)[: lengths[0][0] // size]
        units = history_units(lengths, 0, size) if len(turns) > 1 else [list(range(len(own)))]
        name = dict(enumerate(own)) | {k: next(fresh) for k in range(len(own), max(map(len, units), default=0))}
        unit.append([[name[k] for k in one] for one in units])
    said = f"hash_ids of {later} later turns name no place of their history and are left out" if later else ""
    return sessions(found, Shared(size, unit), said)
