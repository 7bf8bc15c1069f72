"""Who shares which tokens: system prompts, few prompts that repeat, sessions whose history grows."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.errors import InputError
from workloads.requests import MAX_TOKEN

Ints = npt.NDArray[np.int64]

MAX_UNIT = 1 << 27  # distinct units and units listed: half a gigabyte


class Units(NamedTuple):
    """Prefix units of requests: request i names `unit_id[start[i]:stop[i]]`."""

    start: Ints
    stop: Ints
    unit_id: Ints


def system_prompts(system: Ints, num_system: int, system_token: int, unit_token: int) -> Units:
    """Requests that begin with one of `num_system` prompts of `system_token` tokens and go on alone.

    Only units that lie whole in the system prompt are shared.

    >>> units = system_prompts(np.array([1, 0, 1]), 2, 33, 16)
    >>> units.start.tolist(), units.stop.tolist(), units.unit_id.tolist()
    ([2, 0, 2], [4, 2, 4], [0, 1, 2, 3])
    """
    whole = system_token // unit_token
    _check(num_system * whole, unit_token)
    ids = np.arange(num_system * whole, dtype=np.int64)
    return Units(system * whole, system * whole + whole, ids)


def streams(system: Ints, num_system: int, system_token: int, stream_token: Ints, unit_token: int) -> Units:
    """Token streams of `stream_token` tokens (distinct prompts, whole sessions), each after a system prompt.

    `system[i]` is the system prompt of stream i and counts within its tokens; with `num_system` 0 there is none.
    A stream's last, partial unit has an id too.

    >>> units = streams(np.array([0, 0]), 1, 16, np.array([48, 20]), 16)
    >>> units.start.tolist(), units.stop.tolist(), units.unit_id.tolist()
    ([0, 3], [3, 5], [0, 1, 2, 0, 3])
    """
    shared = system_token // unit_token if num_system else 0
    count = -(-stream_token // unit_token)
    _check(num_system * shared + int(count.sum()), unit_token)
    stop = np.cumsum(count)
    start = stop - count
    position = np.arange(int(count.sum())) - np.repeat(start, count)
    own = np.cumsum(count - shared) - (count - shared)  # where a stream's own ids begin
    common = np.repeat(system * shared, count) + position
    alone = num_system * shared + np.repeat(own, count) + position - shared
    return Units(start, stop, np.where(position < shared, common, alone))


def histories(system_token: Ints, question: Ints, output: Ints, num_turn: Ints) -> tuple[Ints, Ints]:
    """Prompts of sessions: each turn's holds all earlier questions and answers. (`prompt`, `stream_token`).

    Lists go session after session; `system_token` is per session. `stream_token` is what a session's turns can
    share: its last prompt, whole.

    >>> prompt, stream = histories(np.array([10]), np.array([5, 5]), np.array([3, 7]), np.array([2]))
    >>> prompt.tolist(), stream.tolist()
    ([15, 23], [23])
    """
    start = np.cumsum(num_turn) - num_turn
    spoken = np.cumsum(question + output) - (question + output)
    prompt = np.repeat(system_token - spoken[start], num_turn) + spoken + question
    if len(prompt) and int(prompt.max()) > MAX_TOKEN:
        raise InputError(
            "a session's history", field="turns", value=int(prompt.max()), allowed=f"up to {MAX_TOKEN} tokens"
        )
    return prompt, prompt[start + num_turn - 1]


def _check(num_unit: int, unit_token: int) -> None:
    if num_unit > MAX_UNIT:
        allowed = f"a larger unit: {num_unit} are more than {MAX_UNIT}"
        raise InputError("too many prefix units", field="unit_token", value=unit_token, allowed=allowed)
