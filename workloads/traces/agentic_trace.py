"""Agentic traces of SGLang's benchmark: `{"conversations": [[turn, ...], ...]}`, a turn with `prompt_tokens` of its
whole context; answers of a length that `output_token=` says. A turn follows the end of the one before, after
`think_s`."""

import pathlib
from collections.abc import Mapping
from typing import Any

from kernels.errors import InputError, NothingServedError
from kernels.units import to_ps
from workloads.parameters import Parameter
from workloads.requests import MAX_TOKEN, Requests
from workloads.traces._rows import Row, whole
from workloads.traces._sessions import Shared, Turn, history_units, sessions

HELP = "SGLang agentic trace, JSON: conversations of turns with prompt_tokens (needs output_token=)"
OPTIONS: dict[str, Parameter] = {
    "output_token": Parameter("tokens of an answer (needed)", "int", low=1, high=MAX_TOKEN),
    "turns": Parameter("turns of a conversation, at most", "int", low=1, high=1e6),
    "think_s": Parameter("seconds from an answer to the next turn", default=0.0, high=1e6),
}
UNIT_TOKEN = 16


def sniff(head: bytes) -> bool:
    """Whether this is an object of conversations of counted turns."""
    return head.lstrip().startswith(b"{") and b'"conversations"' in head and b'"prompt_tokens"' in head


def read(path: pathlib.Path, options: Mapping[str, Any], seed: int) -> Requests:
    """Conversations as requests."""
    del seed  # everything is in the file
    output = options["output_token"]
    if output is None:
        raise InputError("the file does not say how long answers are: give output_token=", file=path,
                         field="output_token", value=None, allowed=f"1 to {MAX_TOKEN}")  # fmt: skip
    found, units, fresh = [], [], 0
    for index, turns in enumerate(whole(path).items("conversations")):
        holder = Row(path, {"turn": turns}, None, f"conversations[{index}].")
        lengths = [(turn.token("prompt_tokens"), output) for turn in holder.objects("turn")][: options["turns"]]
        if not lengths:
            continue
        think = to_ps(options["think_s"])
        found.append([Turn(0, *pair, think if k else 0) for k, pair in enumerate(lengths)])
        units.append(history_units(lengths, fresh, UNIT_TOKEN))
        fresh += max(len(one) for one in units[-1])
    if not found:
        raise NothingServedError("no conversation has a turn", file=path)
    return sessions(found, Shared(UNIT_TOKEN, units), "each turn's context begins with that of the turn before it")
