"""Mooncake traces: JSON lines of `timestamp` (ms), `input_length`, `output_length`, `hash_ids`.

A hash names a block of 512 prompt tokens together with everything before it, so that equal leading ids are a
shared prefix. Hashes become dense prefix units in order of first appearance. Later traces have no `hash_ids` (no
prefix is known to be shared), or sessions: rows of one `session_id`, of which each but the first says how many
milliseconds after the one before it comes (`delay`), or when at the earliest (`timestamp`).

What a later row of a session counts is one of two things: AIPerf's replay adds it to the history, and converters of
agents' logs write whole prompts. Where its hashes begin with those of the row before it, it is whole; `context=` says
it otherwise.
Rows may write their prompt out (`text_input`, `messages`, `payload`; see `_messages`): messages and payloads are whole
whatever is asked, a text is as a row of hashes.
"""

import itertools
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels.errors import InputError
from kernels.units import PS_PER_S
from workloads.parameters import Parameter
from workloads.requests import MAX_TIME_S, MAX_TOKEN, Requests, build
from workloads.traces._clock import TIME_UNIT, first_late, since_ps, unit_ps
from workloads.traces._messages import UNIT_TOKEN, kind_of, output_of, says_output, units_of, written
from workloads.traces._rows import MAX_CLOCK, Row, lines
from workloads.traces._sessions import Shared, Turn, accumulated, dense_units, history_units, sessions
from workloads.traces._text import tokens_of

HELP = (
    "Mooncake trace, JSON lines: timestamp (ms), input_length (or messages, texts), output_length, hash_ids; sessions"
)
OPTIONS: dict[str, Parameter] = {
    "block_token": Parameter("tokens a hash stands for (absent: 512; of texts, a shared block: 16)", "int", low=1,
                             high=MAX_TOKEN),
    **TIME_UNIT,
    "context": Parameter("of later turns: new (added to the history) or whole (absent: as they begin)", "text"),
    "char_per_token": Parameter("characters a token of messages and texts (needed for them)", low=0.1, high=100.0),
    "output_token": Parameter("tokens of an answer that the file does not count", "int", low=1, high=MAX_TOKEN),
}  # fmt: skip
BLOCK_TOKEN = 512
CONTEXTS = ("new", "whole")
TEXTS = (b'"text_input"', b'"messages"', b'"payload"')
FIRST = (
    re.compile(  # the first field of a row that writes its prompt out; further ones may lie beyond a file's beginning
        rb'\{\s*"(text_input|messages|payload|tools|output_length|session_id|timestamp|delay|extra|type)"'
    )
)
OTHERS = (b'"chat_id"', b'"input_toks"')


def sniff(head: bytes) -> bool:
    """Whether the first line is an object with an `input_length` (and no field of its relatives)."""
    first = head.lstrip().split(b"\n", 1)[0]
    mine = b'"input_length"' in first or (FIRST.match(first) is not None and any(name in first for name in TEXTS))
    return first.startswith(b"{") and mine and not any(name in first for name in OTHERS)


def read(path: pathlib.Path, options: Mapping[str, Any], seed: int) -> Requests:
    """The requests of a trace, the clock starting with the first."""
    del seed  # everything is in the file
    rows = list(lines(path))
    if options["context"] not in (None, *CONTEXTS):
        raise InputError("no such context", field="context", value=options["context"], allowed=CONTEXTS)
    kinds = [kind_of(row) for row in rows]
    texts = any(kind != "input_length" for kind in kinds)
    in_sessions = any(row.has("session_id") for row in rows)
    session = _grouped(rows)
    for name, used, why in (
        ("context", in_sessions, "no row has a session_id"),
        ("context", any(len(one) > 1 for one in session), "no session has a second turn"),
        ("char_per_token", texts, "no row has a text"),
        ("block_token", in_sessions or texts or any(row.has("hash_ids") for row in rows), "no row has hash_ids"),
        ("output_token", not all(says_output(row) for row in rows), "every row says how many tokens it puts out"),
        ("time_unit", any(row.has("timestamp") for row in rows), "no row has a timestamp"),
    ):
        if options[name] is not None and not used:
            raise InputError(f"has no effect: {why}", file=path, field=name, value=options[name])
    if in_sessions or texts:
        size = options["block_token"] or (BLOCK_TOKEN if kinds.count("input_length") else UNIT_TOKEN)
        return _sessions(path, rows, kinds, session, {**options, "block_token": size})
    return hashed(path, rows, options, "ms", BLOCK_TOKEN, fraction=False, note=_idle_delays(rows))


def _grouped(rows: list[Row]) -> list[list[int]]:
    """The rows of each session, in the order of the file; a row without a session is one of its own."""
    session = dict[Any, list[int]]()
    for number, row in enumerate(rows):
        name = row.value["session_id"] if row.has("session_id") else ("row", number)
        if row.has("session_id") and not isinstance(name, str | int):
            raise row.error("session_id", "not a name", "a text or a whole number")
        session.setdefault(name, []).append(number)
    return list(session.values())


def hashed(
    path: pathlib.Path, rows: list[Row], options: Mapping[str, Any], published: str, published_token: int,
    fraction: bool, note: str = "",
) -> Requests:  # fmt: skip
    """Rows with a `timestamp` each, and hashes where they have them: of `published_token` tokens each, where nothing is
    given and as many of them are there."""
    size = options["block_token"] or published_token
    if options["block_token"] is None:
        _check_size(rows, size)
    times = np.array([row.number("timestamp", -MAX_CLOCK, MAX_CLOCK) for row in rows], np.float64)
    lengths = [(row.token("input_length"), output_of(row, None, options.get("output_token"))) for row in rows]
    ids = [_hashes(row, size) for row in rows]
    scale = _scale(path, rows, times, options, published, fraction)
    arrival_ps, order = since_ps(times, scale)
    prompt, output = (np.array(column)[order] for column in zip(*lengths, strict=True))
    stop = np.cumsum([len(one) for one in ids])
    start = stop - [len(one) for one in ids]
    return build(
        arrival_ps, prompt, output, unit_start=start[order], unit_stop=stop[order], unit_id=dense_units(ids),
        unit_token=size, note=note,
    )  # fmt: skip


def _check_size(rows: list[Row], size: int) -> None:
    """Asks for the tokens of a hash where a row has fewer hashes than its prompt has whole blocks."""
    for row in rows:
        num = len(row.items("hash_ids")) if row.has("hash_ids") else 0
        if num and num < row.token("input_length") // size:
            prompt = row.value["input_length"]
            raise InputError(f"the tokens of a hash cannot be told: {num} of {size} are fewer than the prompt has,"
                             f" {prompt}", file=row.path, line=row.line, field="block_token", value="",
                             allowed=f"{-(-prompt // num)}, by this row, or more")  # fmt: skip


def _scale(
    path: pathlib.Path, rows: list[Row], times: Any, options: Mapping[str, Any], published: str, fraction: bool
) -> int:  # fmt: skip
    """Picoseconds of the unit of the timestamps; the first that lies too far from the earliest is refused."""
    from workloads.traces._clock import UNIT_PS

    late = first_late(times, UNIT_PS.get(options["time_unit"] or published, 1))
    if late >= 0:
        raise rows[late].error("timestamp", "too long after the first", "104 days at most")
    return unit_ps(path, options["time_unit"], published, times, fraction)


def _hashes(row: Row, size: int) -> list[int]:
    if not row.has("hash_ids"):
        return []
    ids = row.ids("hash_ids")
    need = -(-row.value["input_length"] // size)
    if len(ids) > need:
        raise InputError("too many blocks", file=row.path, line=row.line, field="hash_ids", value=len(ids),
                         allowed=f"0 to {need} of {size} tokens")  # fmt: skip
    return ids


@dataclass(frozen=True)
class _Asked:
    """A row: its tokens, the names of the blocks that it says, its text where it has one, and whether what it writes
    holds the conversation before it by its kind."""

    prompt: int
    output: int
    unit: list[int]
    text: str | None
    whole: bool


def _asked(row: Row, kind: str, options: Mapping[str, Any]) -> _Asked:
    size = options["block_token"]
    if kind == "input_length":
        output = output_of(row, None, options["output_token"])
        return _Asked(row.token("input_length"), output, _hashes(row, size), None, False)
    said = written(row, kind)
    prompt = tokens_of(row.path, said.text, options)
    if not prompt:
        raise row.error(kind, "has no character", "one at least")
    output = output_of(row, said, options["output_token"])
    return _Asked(prompt, output, units_of(said.text, options["char_per_token"], size), said.text, said.whole)


def _sessions(
    path: pathlib.Path, rows: list[Row], kinds: list[str], session: list[list[int]], options: Mapping[str, Any]
) -> Requests:  # fmt: skip
    """Rows in sessions, in the order of the file."""
    size = options["block_token"]
    timed = [row for row in rows if row.has("timestamp")]
    times = np.array([row.number("timestamp", -MAX_CLOCK, MAX_CLOCK) for row in timed], np.float64)
    scale = _scale(path, timed, times, options, "ms", fraction=False) if timed else 0
    least = times.min() if timed else 0.0
    tick = scale or PS_PER_S // 1000  # a unit of the file's times
    found, unit, fresh = [], [], itertools.count(-1, -1)
    num = {"whole": 0, "later hashes": 0, "texts": sum(kind != "input_length" for kind in kinds)}
    for numbers in session:
        turns = [rows[k] for k in numbers]
        if timed and not turns[0].has("timestamp"):
            raise turns[0].error("timestamp", "is missing where a session begins, and other rows have one")
        asked = [_asked(rows[k], kinds[k], options) for k in numbers]
        for row, one in zip(turns, asked, strict=True):
            if (one.text is None) != (asked[0].text is None) or (one.text is not None and one.whole != asked[0].whole):
                kind = kinds[numbers[0]]
                raise row.error("session_id", f"the turns of a session write their prompts in two ways, first {kind}")
        if options["context"] == "new" and asked[0].whole and len(turns) > 1:
            raise InputError(f"{kinds[numbers[1]]} holds the whole prompt", file=path, line=turns[1].line,
                             field="context", value="new", allowed="whole")  # fmt: skip
        whole = asked[0].whole or options["context"] == "whole"
        whole = whole or (options["context"] is None and _grow(asked, size))
        lengths = [(one.prompt, one.output) for one in asked]
        units = _whole_units(asked, size) if whole else _new_units(asked, lengths := accumulated(lengths), size, fresh)
        num["whole"] += len(turns) > 1 and whole
        num["later hashes"] += 0 if whole else sum(one.text is None and bool(one.unit) for one in asked[1:])
        made = []
        for place, ((prompt, output), row) in enumerate(zip(lengths, turns, strict=True)):
            at = round((row.value["timestamp"] - least) * scale) if row.has("timestamp") else 0
            wait = _delay(row) if place else 0.0
            if wait and row.has("timestamp"):
                raise row.error("delay", "stands beside timestamp: which of them counts is not known", "one of both")
            if wait * tick > MAX_TIME_S * PS_PER_S:
                raise row.error("delay", "too long", "104 days at most")
            made.append(Turn(at, prompt, output, round(wait * tick)))
        found.append(made)
        unit.append(units)
    said = [_said(num, len(session), bool(timed), options), _idle_delays([rows[numbers[0]] for numbers in session])]
    return sessions(found, Shared(size, unit), "; ".join(filter(None, said)))


def _delay(row: Row) -> float:
    return float(row.number("delay", 0, 9e9)) if row.has("delay") else 0.0


def _idle_delays(first: Sequence[Row]) -> str:
    """What the report says of delays of rows that have none before them."""
    num = sum(_delay(row) > 0 for row in first)
    return f"delays of {num} rows that begin a session have nothing to wait for and are left out" if num else ""


def _grow(asked: list[_Asked], size: int) -> bool:
    """Whether every later row begins with the blocks of the one before it: it then holds the whole prompt."""
    pairs = [(one.unit[: one.prompt // size], after.unit) for one, after in itertools.pairwise(asked)]
    return any(before for before, _ in pairs) and all(after[: len(before)] == before for before, after in pairs)


def _whole_units(asked: list[_Asked], size: int) -> list[list[int]]:
    """Of rows that say their whole prompt: their own names, and those of the next one for the answer, where that one
    goes on from here."""
    units = [one.unit for one in asked]
    for place, (one, after) in enumerate(itertools.pairwise(asked)):
        begins = after.text.startswith(one.text) if one.text is not None and after.text is not None else False
        if begins:
            units[place] = after.unit[: max(len(one.unit), (one.prompt + one.output) // size)]
    return units


def _new_units(
    asked: list[_Asked], lengths: list[tuple[int, int]], size: int, fresh: Iterator[int]
) -> list[list[int]]:  # fmt: skip
    """Of rows that say what is new: the first one's own names, which others may begin with too, then names of their
    own."""
    own = asked[0].unit[: lengths[0][0] // size]
    units = history_units(lengths, 0, size) if len(asked) > 1 else [list(range(len(own)))]
    name = dict(enumerate(own)) | {k: next(fresh) for k in range(len(own), max(map(len, units), default=0))}
    return [[name[k] for k in one] for one in units]


def _said(num: dict[str, int], num_session: int, timed: bool, options: Mapping[str, Any]) -> str:
    """What was made of the file, for the report."""
    said = []
    if num["later hashes"]:
        said.append(f"hash_ids of {num['later hashes']} later turns name no place of their history and are left out")
    if num["whole"]:
        said.append(f"in {num['whole']} sessions every turn holds its whole prompt")
    if num["texts"]:
        said.append(f"tokens are counted by their characters, {options['char_per_token']:g} each")
    if not timed:
        said.append(f"no row has a timestamp: {num_session} sessions begin at once")
    return "; ".join(said)
