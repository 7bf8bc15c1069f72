"""Published schedule orders as JSON files: `{"vectors": [{p, m, times, order, results}]}`, in several spellings.

Tokens are `F<stage>.<microbatch>`; microbatches of two directions are `(direction, index)` or `D<index>` / `U<index>`,
numbered here as the generators of `workloads.schedules` number them (the second direction after the first).
"""

import pathlib
import re
from typing import Any, NamedTuple

from kernels.errors import InputError
from workloads import files
from workloads.pipeline import Order, parse_ops
from workloads.pipeline_csv import parse_cell

MAX_WHOLE = 1 << 40  # a tick, a size or a memory of a published order
_PAIR = re.compile(r"\[\((\w), (\d+), (\(.*?\)|\d+)\)\|\((\w), (\d+), (\(.*?\)|\d+)\)\]")


Times = tuple[int | list[int], int | list[int], int | list[int]]


class Timing(NamedTuple):
    """One run of an order: times of (F, I, W), the hop, and what the publisher's replay gave."""

    times: Times  # one for all stages, or one a stage
    hop: int | list[int]  # one for all boundaries, or one a boundary
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


def read_published(path: pathlib.Path, odd: list[InputError] | None = None) -> list[Published]:
    """Every vector of a file. What cannot be read goes to `odd`; without such a list, and where nothing can be read, it
    is an `InputError` naming file and vector."""
    content = files.read_json(path)
    vectors = content.get("vectors") if isinstance(content, dict) else None
    if not isinstance(vectors, list):
        raise InputError("not a file of published orders", file=path, field="vectors", value=vectors, allowed="a list")
    found, amiss = [], []
    for number, vector in enumerate(vectors):
        try:
            found.append(_read_vector(path.stem, vector))
        except KeyError as error:
            amiss.append(InputError(f"{error} is missing", file=path, field="vector", value=number))
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            amiss.append(InputError(f"cannot be read: {error}", file=path, field="vector", value=number))
    if amiss and (odd is None or not found):
        raise amiss[0]
    if odd is not None:
        odd += amiss
    return found


def _whole(value: Any, name: str, least: int | None = 0) -> int:
    """The integer that was published. Raises for a fraction, and for what is below `least`.

    >>> _whole("5", "tF"), _whole(4.0, "tF")
    (5, 4)
    """
    if not abs(float(value)) <= MAX_WHOLE:
        raise InputError("out of range", field=name, value=value, allowed=f"{-MAX_WHOLE} to {MAX_WHOLE}")
    if float(value) != int(float(value)) or (least is not None and float(value) < least):
        raise InputError("not a whole number" + ("" if least is None else f" >= {least}"), field=name, value=value)
    return int(float(value))


def _each(value: Any, name: str) -> int | list[int]:
    """One time for all stages, or a list with one a stage."""
    return [_whole(one, name) for one in value] if isinstance(value, list) else _whole(value, name)


def _first(vector: dict[str, Any], *names: str) -> Any:
    return next((vector[name] for name in names if vector.get(name) is not None), None)


def _read_vector(stem: str, vector: Any) -> Published:
    if not isinstance(vector, dict):
        raise TypeError("a vector is an object with p, m, times and an order")
    p = _whole(_first(vector, "p", "p_ranks"), "p", 1)
    m = _whole(_first(vector, "m", "num_chunks", "num_microbatches"), "m", 1)
    memory = (1, 0, -1)
    if "mem_f" in vector:
        forward, input_grad, weight_grad = (_whole(vector[name], name, None) for name in ("mem_f", "mem_b", "mem_w"))
        memory = (forward, input_grad, weight_grad)
    peak = _first(vector, "peak_mem_per_stage", "peak_stage_activations_per_rank", "peak_chunks_per_device",
                  "peak_chunk_activations_per_device", "peak_chunk_activations_per_rank")  # fmt: skip
    limit = vector.get("max_mem")
    order = read_order(vector, m)
    given = (len(order), 1 + max((op.microbatch for ops in order for op in ops), default=m - 1))
    if order and given != (p, m):
        raise InputError("the order is of other (ranks, microbatches)", field="order", value=given, allowed=str((p, m)))
    return Published(
        str(_first(vector, "schedule", "mode") or stem), p, m, int(vector.get("v") or 1), order,
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
        times: Times = (_each(entry["tF_chunk"], "tF_chunk"), _each(entry["tBfull_chunk"], "tBfull_chunk"), 0)
    else:
        times = (_each(entry["tF"], "tF"), _each(entry["tB"], "tB"), _each(entry["tW"], "tW"))
    result = entry.get("replayer") or entry.get("summary") or entry
    if not isinstance(result, dict):
        raise TypeError("what was measured is an object")
    overlap = entry.get("tFB")
    return Timing(times, _each(entry["tComm"], "tComm"), None if overlap is None else _whole(overlap, "tFB"),
                  overlap is None, result)  # fmt: skip
