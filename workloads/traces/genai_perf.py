"""GenAI-Perf's `profile_export.json`: experiments, each with its mode (concurrency or request rate) and its requests:
`timestamp` and `response_timestamps` in nanoseconds since 1970, and what was sent as text.

It holds no counts of tokens. A prompt's come from its text and `char_per_token=`; an answer's are the `max_tokens` that
its request asked for, else its responses, a token each.
"""

import json
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from kernels.errors import InputError
from workloads.parameters import Parameter
from workloads.requests import MAX_CONCURRENCY, MAX_TOKEN, Requests
from workloads.traces._client import OPTIONS as CLIENT
from workloads.traces._client import RUN, Client, requests_of
from workloads.traces._rows import NS_SINCE_1970, Row, pick, whole
from workloads.traces._text import CHAR_PER_TOKEN, tokens_of

HELP = "GenAI-Perf profile_export.json: experiments of requests with texts (needs char_per_token=)"
OPTIONS: dict[str, Parameter] = {**CLIENT, **RUN, **CHAR_PER_TOKEN}
MOST = ("max_tokens", "max_completion_tokens")


def sniff(head: bytes) -> bool:
    """Whether this is an object of experiments."""
    return head.lstrip().startswith(b"{") and b'"experiments"' in head and b'"requests"' in head


def read(path: pathlib.Path, options: Mapping[str, Any], seed: int) -> Requests:
    """The requests of one experiment that were answered."""
    runs = list(whole(path).objects("experiments"))
    modes = [run.inner("experiment") if run.has("experiment") else run for run in runs]
    said = [f"{mode.value.get('mode')} {mode.value.get('value')}" for mode in modes]
    at = pick(path, said, options["run"])
    start, prompt, output, counted = [], [], [], 0
    for row in runs[at].objects("requests"):
        start.append(row.number("timestamp", *NS_SINCE_1970, whole=True))
        answers = row.items("response_timestamps")
        sent = _sent(row)
        most = next((sent[name] for name in MOST if isinstance(sent.get(name), int)), None)
        counted += most is None
        prompt.append(tokens_of(path, "".join(_texts(sent)), options) if answers else 0)
        output.append(min(most or len(answers), MAX_TOKEN) if answers else 0)
    notes = ("tokens of prompts are counted by their characters", *((
        f"{counted} answers have as many tokens as responses came",) if counted else ()))  # fmt: skip
    first = min(start, default=0)
    since_s = np.array([time - first for time in start]) * 1e-9
    return requests_of(path, np.array(prompt), np.array(output), since_s, _client(modes[at]), options, seed, notes)


def _client(mode: Row) -> Client:
    if mode.value.get("mode") == "concurrency":
        return Client(math.inf, cap=mode.number("value", 1, MAX_CONCURRENCY, whole=True))
    if mode.value.get("mode") == "request_rate":
        return Client(mode.number("value", 1e-6, 1e6))
    return Client(None)


def _sent(row: Row) -> dict[str, Any]:
    """What was sent: the payload, a JSON object as text."""
    payload = row.inner("request_inputs").text("payload")
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError("not a JSON object", file=row.path, field=f"{row.prefix}request_inputs.payload",
                         value=payload[:60])  # fmt: skip
    return found


def _texts(sent: Mapping[str, Any]) -> Iterator[str]:
    """Texts of a prompt: `prompt`, `text_input`, or the contents of `messages`."""
    for name in ("prompt", "text_input"):
        if isinstance(sent.get(name), str):
            yield sent[name]
    for message in sent.get("messages") or ():
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else [content]:
            text = part.get("text") if isinstance(part, dict) else part
            if isinstance(text, str):
                yield text
