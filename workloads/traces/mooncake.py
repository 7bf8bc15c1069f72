"""Mooncake traces: JSON lines of `timestamp` (ms), `input_length`, `output_length`, `hash_ids`.

A hash names a block of 512 prompt tokens together with everything before it, so that equal leading ids are a
shared prefix. Hashes become dense prefix units in order of first appearance.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from kernels.content import json_of
from kernels.errors import InputError
from workloads.parameters import Parameter
from workloads.requests import MAX_TIME_S, MAX_TOKEN, Requests, build
from workloads.traces._table import read_byte

HELP = "Mooncake trace, JSON lines: timestamp (ms), input_length, output_length, hash_ids of 512-token blocks"
OPTIONS: dict[str, Parameter] = {
    "block_token": Parameter("tokens a hash stands for", "int", default=512, low=1, high=MAX_TOKEN),
}
PS_PER_MS = 1_000_000_000
FIELDS = ("timestamp", "input_length", "output_length", "hash_ids")


def sniff(head: bytes) -> bool:
    """Whether the first line is an object with an `input_length`."""
    return head.lstrip().startswith(b"{") and b'"input_length"' in head.lstrip().split(b"\n", 1)[0]


def read(path: pathlib.Path, options: Mapping[str, Any], seed: int) -> Requests:
    """The requests of a trace, the clock starting with the first."""
    del seed  # everything is in the file
    block_token = options["block_token"]
    rows: list[tuple[float, int, int]] = []
    count: list[int] = []
    hashes: list[int] = []
    for number, line in enumerate(read_byte(path).rstrip().split(b"\n"), start=1):
        row = _row(path, number, line)
        ids = row["hash_ids"]
        need = -(-row["input_length"] // block_token)
        if len(ids) > need:
            allowed = f"0 to {need} of {block_token} tokens"
            raise InputError(
                "too many blocks", file=path, line=number, field="hash_ids", value=len(ids), allowed=allowed
            )
        rows.append((row["timestamp"], row["input_length"], row["output_length"]))
        count.append(len(ids))
        hashes.extend(ids)
    time_ms, prompt, output = (np.array(column) for column in zip(*rows, strict=True))
    since = time_ms - time_ms.min()
    if since.max() > MAX_TIME_S * 1000:
        late = int(np.argmax(since))
        value = time_ms[late].item()
        raise InputError(
            "too long after the first",
            file=path,
            line=late + 1,
            field="timestamp",
            value=value,
            allowed="104 days at most",
        )
    order = np.argsort(since, kind="stable")
    _, first, inverse = np.unique(np.array(hashes, np.int64), return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    stop = np.cumsum(count)
    return build(
        np.rint(since[order] * PS_PER_MS).astype(np.int64),
        prompt[order],
        output[order],
        unit_start=(stop - count)[order],
        unit_stop=stop[order],
        unit_id=rank[inverse],
        unit_token=block_token,
    )


def _row(path: pathlib.Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json_of(line, path, number)
    except InputError:
        shown = line[:60].decode(errors="replace")
        raise InputError("not a JSON object", file=path, line=number, field="line", value=shown) from None
    if not isinstance(row, dict):
        raise InputError("not a JSON object", file=path, line=number, field="line", value=row)
    for field in FIELDS:
        if field not in row:
            raise InputError(f"field {field} is missing", file=path, line=number)
    _check(path, number, "timestamp", row["timestamp"], -1e15, 1e15, whole=False)
    for field in ("input_length", "output_length"):
        _check(path, number, field, row[field], 1, MAX_TOKEN)
    if not isinstance(row["hash_ids"], list):
        raise InputError("not a list", file=path, line=number, field="hash_ids", value=row["hash_ids"])
    for item in row["hash_ids"]:
        _check(path, number, "hash_ids", item, 0, 2**63 - 1)
    return row


def _check(path: pathlib.Path, line: int, field: str, value: Any, low: float, high: float, whole: bool = True) -> None:
    kinds = int if whole else int | float
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        allowed = f"{low:.15g} to {high:.15g}"
        raise InputError(f"not {kind} in range", file=path, line=line, field=field, value=value, allowed=allowed)
