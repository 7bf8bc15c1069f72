"""Published schedule orders as JSON files: `{"vectors": [{p, m, times, order, results}]}`, in several spellings.

Tokens are `F<stage>.<microbatch>`; microbatches of two directions are `(direction, index)` or `D<index>` / `U<index>`,
numbered here as the generators of `workloads.schedules` number them (the second direction after the first).
"""

import json
import pathlib
import re
from typing import Any, NamedTuple

from kernels.errors import InputError
from workloads.pipeline import Order, parse_ops
from workloads.pipeline_csv import parse_cell

_PAIR = re.compile(r"\[\((\w), (\d+), (\(.*?\)|\d+)\)\|\((\w), (\d+), (\(.*?\)|\d+)\)\]")


class Timing(NamedTuple):
    """One run of an order: times of (F, I, W), the hop, and what the publisher's replay gave."""

    times: tuple[int, int, int]
    hop: int
    overlap_time: int | None
    serial: bool  # overlapped pairs run one after the other
    result: dict[str, Any]


class Published(NamedTuple):
    generator: str
    num_rank: int
    num_microbatch: int
    num_chunk: int
    order: Order
    timings: list[Timing]
    peak: list[int] | None
    memory: tuple[int, int, int]  # change by F, I, W that `peak` counts in
    limit: int | None  # memory that the generator was given, in the same unit
    raw: dict[str, Any]


def read_published(path: pathlib.Path) -> list[Published]:
    """Every vector of a file. Raises `InputError` naming file and vector for what cannot be read."""
    try:
        vectors = json.loads(path.read_text())["vectors"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"not a file of published orders: {error}", file=path) from error
    found = []
    for number, vector in enumerate(vectors):
        try:
            found.append(_read_vector(path.stem, vector))
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise InputError(f"cannot be read: {error}", file=path, field="vector", value=number) from error
    return found


def _first(vector: dict[str, Any], *names: str) -> Any:
    return next((vector[name] for name in names if vector.get(name) is not None), None)


def _read_vector(stem: str, vector: dict[str, Any]) -> Published:
    p = int(_first(vector, "p", "p_ranks"))
    m = int(_first(vector, "m", "num_chunks", "num_microbatches"))
    memory = (1, 0, -1)
    if "mem_f" in vector:
        memory = (int(vector["mem_f"]), int(vector["mem_b"]), int(vector["mem_w"]))
    peak = _first(vector, "peak_mem_per_stage", "peak_stage_activations_per_rank", "peak_chunks_per_device",
                  "peak_chunk_activations_per_device", "peak_chunk_activations_per_rank")  # fmt: skip
    limit = vector.get("max_mem")
    return Published(
        str(_first(vector, "schedule", "mode") or stem), p, m, int(vector.get("v") or 1), read_order(vector, m),
        [_read_timing(entry) for entry in vector.get("timings", [vector])],
        None if peak is None else [int(value) for value in peak], memory, None if limit is None else int(limit), vector,
    )  # fmt: skip


def read_order(vector: dict[str, Any], num_microbatch: int) -> Order:
    """The order, with its overlapped pairs: from the cells as torch dumped them where the tokens do not show pairs.
    Empty where the vector has none."""
    raw = vector.get("order_raw")
    if raw and any("OVERLAP" in str(cell) for cells in raw for cell in cells):
        return [[op for cell in cells for op in parse_cell(cell or "")] for cells in raw]
    return [parse_ops(_plain(line, num_microbatch // 2)) for line in vector.get("order") or []]


def _plain(line: str, half: int) -> str:
    """One spelling of tokens: `F0.3`, pairs as `F0.3&B3.1`.

    >>> _plain("F0.(1, 2) [(F, 0, (0, 3))|(B, 3, (1, 1))] B2.U1", 6)
    'F0.8 F0.3&B3.7 B2.7'
    """
    line = _PAIR.sub(r"\1\2.\3&\4\5.\6", line)
    line = re.sub(r"\((\d+), (\d+)\)", lambda match: str(int(match[1]) * half + int(match[2])), line)
    line = re.sub(r"\.D(\d+)", r".\1", line)
    return re.sub(r"\.U(\d+)", lambda match: f".{half + int(match[1])}", line)


def _read_timing(entry: dict[str, Any]) -> Timing:
    if "tF_chunk" in entry:
        times = (int(entry["tF_chunk"]), int(entry["tBfull_chunk"]), 0)
    else:
        times = (int(entry["tF"]), int(entry["tB"]), int(entry["tW"]))
    result = entry.get("replayer") or entry.get("summary") or entry
    overlap = entry.get("tFB")
    return Timing(times, int(entry["tComm"]), None if overlap is None else int(overlap), overlap is None, result)
