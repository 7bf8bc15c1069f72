"""Orders in torch's pipeline CSV: a row a rank, `<stage><F|B|I|W><microbatch>` a cell, as torch dumps and loads them.

`(0F3;7B1)OVERLAP_F_B` is an overlapped pair. Cells of communication (SEND_F, RECV_B, UNSHARD, RESHARD, REDUCE_GRAD)
are accepted and left out: they follow from the order. Empty cells are torch's idle slots.
"""

import csv
import io
import pathlib
import re
from collections.abc import Iterable

from kernels.content import MAX_JSON_BYTE
from kernels.errors import InputError
from workloads import files
from workloads.pipeline import KIND_CODE, Op, Order

MAX_STAGE, MAX_MICROBATCH = 65_535, 10_000_000
_CELL = re.compile(r"(\d+)([A-Z_]+?)(\d*)")
_PAIR = re.compile(r"\((.+);(.+)\)OVERLAP_F_B")
_COMMUNICATION = {"SEND_F", "RECV_F", "SEND_B", "RECV_B", "UNSHARD", "RESHARD", "REDUCE_GRAD"}


def parse_cell(cell: str) -> list[Op]:
    """The operations of one cell: none for communication and idle slots, two for an overlapped pair.

    >>> [str(op) for op in parse_cell("(0F3;7B1)OVERLAP_F_B")]
    ['F0.3', 'B7.1']
    """
    cell = cell.strip()
    if not cell:
        return []
    pair = _PAIR.fullmatch(cell)
    if pair:
        first, second = parse_cell(pair[1]), parse_cell(pair[2])
        return [op._replace(overlap=True) for op in first] + second
    match = _CELL.fullmatch(cell)
    if match and match[2] in _COMMUNICATION:
        return []
    if not match or match[2] not in KIND_CODE or not match[3]:
        raise InputError(
            "not a pipeline action", field="cell", value=cell, allowed="like 0F3, 2I1, (0F3;7B1)OVERLAP_F_B"
        )
    for field, text, most in (("stage", match[1], MAX_STAGE), ("microbatch", match[3], MAX_MICROBATCH)):
        if len(text) > 9 or int(text) > most:
            raise InputError("out of range", field=field, value=text, allowed=f"0 to {most}")
    return [Op(match[2], int(match[1]), int(match[3]))]


def read_csv(path: str | pathlib.Path) -> Order:
    """The order in a CSV file; raises `InputError` naming file and line."""
    try:
        rows = list(csv.reader(io.StringIO(files.read_byte(path, MAX_JSON_BYTE).decode("utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"not CSV: {error}", file=path) from None
    order: Order = []
    for number, row in enumerate(rows, 1):
        try:
            order.append([op for cell in row for op in parse_cell(cell)])
        except InputError as error:
            raise InputError(str(error), file=path, line=number) from error
    if not any(order):
        raise InputError("no action in this file", file=path)
    return order


def csv_text(order: Iterable[Iterable[Op]]) -> str:
    """Computation only; torch adds the communication on loading (`format="compute_only"`)."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(_cells(list(ops)) for ops in order)
    return text.getvalue()


def _cells(ops: list[Op]) -> list[str]:
    cells: list[str] = []
    held = ""
    for op in ops:
        text = f"{op.stage}{op.kind}{op.microbatch}"
        if op.overlap:
            held = text
        else:
            cells.append(f"({held};{text})OVERLAP_F_B" if held else text)
            held = ""
    return cells
