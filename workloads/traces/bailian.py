"""Traces of a Qwen service on Alibaba Cloud's Bailian (Wang et al., KVCache in the wild, ATC 2025): JSON lines of
`chat_id`, `parent_chat_id`, `timestamp` in *seconds*, `input_length`, `output_length`, `type`, `turn`, `hash_ids`.

A row holds its whole context, so turns are requests of their own at their recorded times; a hash stands for 16 tokens.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

from kernels.errors import InputError, NothingServedError
from workloads.parameters import Parameter
from workloads.requests import MAX_TOKEN, Requests
from workloads.traces._clock import TIME_UNIT
from workloads.traces._rows import lines
from workloads.traces.mooncake import hashed

HELP = "Qwen-Bailian trace, JSON lines: chat_id, timestamp (s), input_length, output_length, hash_ids of 16 tokens"
BLOCK_TOKEN = 16
OPTIONS: dict[str, Parameter] = {
    "block_token": Parameter("tokens a hash stands for (absent: 16)", "int", low=1, high=MAX_TOKEN),
    "type": Parameter("only requests of this type: text, search, image, file", "text"),
    **TIME_UNIT,
}


def sniff(head: bytes) -> bool:
    """Whether the first line is an object with a `chat_id` and an `input_length`."""
    first = head.lstrip().split(b"\n", 1)[0]
    return first.startswith(b"{") and b'"chat_id"' in first and b'"input_length"' in first


def read(path: pathlib.Path, options: Mapping[str, Any], seed: int) -> Requests:
    """The requests of a trace, the clock starting with the first."""
    del seed  # everything is in the file
    rows = list(lines(path))
    if options["type"] is not None:
        kinds = sorted({str(row.value.get("type")) for row in rows})
        if options["type"] not in kinds:
            raise InputError("no such type", file=path, field="type", value=options["type"], allowed=kinds)
        rows = [row for row in rows if row.value.get("type") == options["type"]]
    if not rows:
        raise NothingServedError("no request", file=path)
    return hashed(path, rows, options, "s", BLOCK_TOKEN, fraction=True)
