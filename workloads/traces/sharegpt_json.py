"""ShareGPT's JSON: a list of conversations, `conversations` of `from` and `value` (or `messages` of `role` and
`content`), texts without counts or times.

As the serving benchmarks take it, a conversation is its first question and answer; `turns=` takes more, each with the
history before it. Conversations without an answer are left out.
"""

import itertools
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from kernels.errors import NothingServedError
from kernels.units import PS_PER_S, to_ps
from workloads.arrivals import check_times, renewal
from workloads.parameters import Parameter
from workloads.requests import Requests
from workloads.seeds import generator
from workloads.traces._rows import Row, array
from workloads.traces._sessions import Shared, Turn, accumulated, history_units, sessions
from workloads.traces._text import CHAR_PER_TOKEN, tokens_of

HELP = "ShareGPT JSON: conversations of texts (needs char_per_token=); arrivals are made"
OPTIONS: dict[str, Parameter] = {
    **CHAR_PER_TOKEN,
    "turns": Parameter("questions of a conversation, at most", "int", default=1, low=1, high=1000),
    "rate": Parameter("conversations a second (absent: all at 0)", low=1e-6, high=1e6),
    "cv": Parameter("variation of the gaps: 1 Poisson, 0 constant", default=1.0, high=20.0),
    "think_s": Parameter("seconds from an answer to the next question", default=0.0, high=1e6),
}
UNIT_TOKEN = 16
FORMS = {"conversations": ("from", "value"), "messages": ("role", "content")}
ASKS, ANSWERS = ("human", "user"), ("gpt", "assistant", "chatgpt", "bing", "bard")


def sniff(head: bytes) -> bool:
    """Whether this is a list of conversations."""
    text = head.lstrip()
    return text.startswith(b"[") and any(
        f'"{field}"'.encode() in text and f'"{who}"'.encode() in text for field, (who, _) in FORMS.items()
    )


def read(path: pathlib.Path, options: Mapping[str, Any], seed: int) -> Requests:
    """Conversations as requests."""
    found, units, fresh, left_out = [], [], 0, 0
    for row in array(path):
        turns = _turns(row, options)
        if not turns:
            left_out += 1
            continue
        lengths = accumulated(turns)
        found.append(lengths)
        units.append(history_units(lengths, fresh, UNIT_TOKEN) if len(lengths) > 1 else [[]])
        fresh += max(itertools.chain(*units[-1]), default=fresh - 1) + 1 - fresh
    if not found:
        raise NothingServedError("no conversation has an answer", file=path)
    start_ps = np.zeros(len(found), np.int64)
    if options["rate"] is not None:
        made = check_times(renewal(generator(seed, "arrival"), len(found), options["rate"], options["cv"]))
        start_ps = np.rint(made * PS_PER_S).astype(np.int64)
    think_ps = to_ps(options["think_s"])
    turns_of = [
        [Turn(int(at), prompt, output, think_ps if k else 0) for k, (prompt, output) in enumerate(lengths)]
        for at, lengths in zip(start_ps, found, strict=True)
    ]
    said = [f"{left_out} conversations without an answer left out"] if left_out else []
    said += [f"tokens are counted by their characters, {options['char_per_token']:g} each"]
    return sessions(turns_of, Shared(UNIT_TOKEN, units), "; ".join(said))


def _turns(row: Row, options: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Tokens of questions and their answers."""
    field = next((name for name in FORMS if name in row.value), "conversations")
    who, what = FORMS[field]
    found: list[tuple[int, int]] = []
    asked = 0
    for message in row.objects(field):
        size = tokens_of(row.path, message.text(what), options)
        speaker = message.text(who)
        if speaker in ANSWERS and asked and size:
            found.append((asked, size))
            asked = 0
            if len(found) == options["turns"]:
                break
        elif speaker in ASKS or speaker == "system":
            asked += size
    return found
