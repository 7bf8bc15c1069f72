"""Sessions of a trace as requests: each turn waits for the end of the one before, and for a while."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workloads import prefixes
from workloads.requests import MAX_TOKEN, Requests, build


@dataclass(frozen=True)
class Turn:
    """A request of a session: picoseconds of its earliest arrival, its prompt and output in tokens, and picoseconds
    from the end of the turn before."""

    arrival_ps: int
    prompt: int
    output: int
    wait_ps: int = 0


@dataclass(frozen=True)
class Shared:
    """What the turns of a session share: ids of units of `unit_token` tokens, by turn."""

    unit_token: int
    unit: Sequence[Sequence[Sequence[int]]]  # [session][turn][unit], any whole numbers


def sessions(found: Sequence[Sequence[Turn]], shared: Shared | None = None, note: str = "") -> Requests:
    """Requests in order of arrival, turns linked to the ones before."""
    flat = [turn for session in found for turn in session]
    arrival = np.array([turn.arrival_ps for turn in flat], np.int64)
    starts = np.cumsum([0, *(len(session) for session in found)])
    for begin, end in itertools.pairwise(starts):
        arrival[begin:end] = np.maximum.accumulate(arrival[begin:end])
    arrival -= arrival.min()
    order = np.argsort(arrival, kind="stable")
    place = np.empty(len(flat), np.int64)
    place[order] = np.arange(len(flat))
    parent = np.full(len(flat), -1, np.int64)
    later = np.ones(len(flat), bool)
    later[starts[:-1]] = False
    parent[place[later]] = place[np.flatnonzero(later) - 1]
    column: dict[str, Any] = {
        "prompt_token": np.array([turn.prompt for turn in flat])[order],
        "output_token": np.array([turn.output for turn in flat])[order],
        "think_ps": np.array([turn.wait_ps for turn in flat], np.int64)[order],
    }
    if shared is None or not any(ids for session in shared.unit for ids in session):
        return build(arrival[order], parent=parent, note=note, **column)
    ids = [list(turn) for session in shared.unit for turn in session]
    count = np.array([len(one) for one in ids])[order]
    dense = dense_units([ids[k] for k in order])
    stop = np.cumsum(count)
    return build(
        arrival[order], parent=parent, unit_start=stop - count, unit_stop=stop, unit_id=dense,
        unit_token=shared.unit_token, note=note, **column,
    )  # fmt: skip


def dense_units(ids: Sequence[Sequence[int]]) -> np.ndarray:
    """Whole numbers of any size as 0, 1, ... in order of first appearance, one list after another."""
    known: dict[int, int] = {}
    return np.array([known.setdefault(item, len(known)) for one in ids for item in one], np.int64)


def accumulated(turns: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Prompts that hold the history: of turns that say what is new, (prompt, output) with all before it.

    >>> accumulated([(10, 5), (3, 4)])
    [(10, 5), (18, 4)]
    """
    question, output = (np.array(column, np.int64) for column in zip(*turns, strict=True))
    prompt, _ = prefixes.histories(np.zeros(1, np.int64), question, output, np.array([len(turns)]))
    return list(zip(prompt.tolist(), output.tolist(), strict=True))


def history_units(turns: Sequence[tuple[int, int]], first: int, unit_token: int) -> list[list[int]]:
    """Names of the units that the turns of one growing conversation share, from `first` on: each turn names those of
    its prompt and output, as far as the longest prompt goes."""
    last = -(-max(prompt for prompt, _ in turns) // unit_token)
    return [list(range(first, first + min(last, -(-(prompt + output) // unit_token)))) for prompt, output in turns]


def fits(prompt: int) -> bool:
    """Whether a prompt is one that a request may have."""
    return 1 <= prompt <= MAX_TOKEN
