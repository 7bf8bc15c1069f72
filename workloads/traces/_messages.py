"""Prompts that a row writes out instead of counting: a text, messages of a conversation, or the body of a request.

Rows of AIPerf's extension of the Mooncake format have one of four: `input_length`, `text_input`, `messages` (with
`tools`), `payload`. Messages and payloads are sent as they stand, history and answers included.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from workloads.traces._rows import Row

KINDS = ("input_length", "text_input", "messages", "payload")
OUTPUTS = ("max_completion_tokens", "max_tokens")  # of a payload
TEXT_PARTS = ("text", "input_text", "output_text")
UNIT_TOKEN = 16  # tokens of a block that texts share


@dataclass(frozen=True)
class Written:
    """A prompt: its text, whether it holds the conversation before it, and the tokens of the answer where a payload
    says them."""

    text: str
    whole: bool
    output: int | None = None


def kind_of(row: Row) -> str:
    """Which of the four a row has; an `InputError` for none or several."""
    found = [name for name in KINDS if row.has(name)]
    if len(found) > 1:
        raise row.error(found[1], f"stands beside {found[0]}", "one of " + ", ".join(KINDS))
    if not found:
        raise row.error("input_length", "is missing", "one of " + ", ".join(KINDS))
    if found[0] != "input_length" and row.has("hash_ids"):
        raise row.error("hash_ids", f"stands beside {found[0]}, whose blocks are those of its text", "input_length")
    if row.has("tools") and found[0] != "messages":
        raise row.error("tools", f"stands beside {found[0]}", "messages")
    return found[0]


def written(row: Row, kind: str) -> Written:
    """The prompt of a row that has a text, messages or a payload."""
    if kind == "text_input":
        return Written(row.text("text_input"), False)
    if kind == "messages":
        return Written(_conversation(row), True)
    body = row.inner("payload")
    output = next((body.token(name) for name in OUTPUTS if body.has(name)), None)
    if body.has("messages"):
        return Written(_conversation(body), True, output)
    if not isinstance(body.value.get("prompt"), str):
        raise body.error("prompt", "not a text", "a text, or messages")
    return Written(body.text("prompt"), True, output)


def _conversation(row: Row) -> str:
    """All that a server reads: definitions of tools, roles, texts and calls, in order. (What a model's own template
    adds around them nobody knows here.)"""
    parts = [json.dumps(tool, ensure_ascii=False) for tool in row.items("tools")] if row.has("tools") else []
    found = False
    for message in row.objects("messages"):
        found = True
        parts.append(message.text("role"))
        parts += _content(message)
        if message.has("tool_calls"):
            parts += [json.dumps(call, ensure_ascii=False) for call in message.items("tool_calls")]
    if not found:
        raise row.error("messages", "is empty", "one message at least")
    return "\n".join(parts)


def _content(message: Row) -> list[str]:
    """The texts of a message: one, a list of parts, or none (a call of a tool)."""
    if not message.has("content"):
        return []
    if isinstance(message.value["content"], str):
        return [message.text("content")]
    texts = []
    for part in message.objects("content"):
        if part.value.get("type") not in TEXT_PARTS:
            raise part.error("type", "not a text, and no one says how many tokens it has", ", ".join(TEXT_PARTS))
        texts.append(part.text("text"))
    return texts


def units_of(text: str, char_per_token: float, unit_token: int = UNIT_TOKEN) -> list[int]:
    """Names of the whole units of a text: equal for texts that are equal up to a unit's end. They are below zero and
    beyond 64 bits, so that they meet no hash of a file.

    >>> a, b = units_of("x" * 130, 4.0), units_of("x" * 127 + "yzz", 4.0)
    >>> len(a), a[0] == b[0], a[1] == b[1]
    (2, True, False)
    """
    found, before, behind = [], 0, hashlib.blake2b(digest_size=8)
    for k in range(1, int(len(text) / (unit_token * char_per_token)) + 1):
        end = round(k * unit_token * char_per_token)
        behind.update(text[before:end].encode("utf-8", "surrogatepass"))
        found.append(-(1 << 64) - int.from_bytes(behind.digest(), "big"))
        before = end
    return found


def says_output(row: Row) -> bool:
    """Whether a row or its payload says the tokens of the answer."""
    body = row.value.get("payload")
    return row.has("output_length") or (isinstance(body, dict) and any(body.get(name) is not None for name in OUTPUTS))


def output_of(row: Row, said: Written | None, given: Any) -> int:
    """Tokens of the answer: of the row, of its payload, or what the user gives."""
    if row.has("output_length") or (given is None and (said is None or said.output is None)):
        return row.token("output_length")
    return said.output if said is not None and said.output is not None else int(given)
