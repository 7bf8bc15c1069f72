"""Reading delimited text strictly and fast: whole columns at once, and the line of the first bad value."""

import csv
import io
import pathlib
import re
import warnings
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.content import MAX_TABLE_BYTE, TooLargeError
from kernels.errors import InputError, NothingServedError
from workloads import files
from workloads.requests import MAX_TIME_S, MAX_TOKEN

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

HEAD_BYTE = 1 << 16


NUM_ROW: ContextVar[int | None] = ContextVar("NUM_ROW", default=None)
"""Rows that are wanted of the file being read, where the load says `n=`: of a file beyond the limit its beginning may
hold them."""


def read_byte(path: pathlib.Path, limit: int = MAX_TABLE_BYTE) -> bytes:
    """A file's bytes (unpacked where it is gzip); an empty one is refused, and one beyond `limit` unless its beginning
    has the rows that are wanted."""
    try:
        data = files.read_byte(path, limit)
    except TooLargeError as error:
        wanted = NUM_ROW.get()
        if wanted is None or error.data.count(b"\n") <= wanted:
            raise InputError(f"{error}; or n= of the rows that its beginning holds") from None
        data = error.data[: error.data.rindex(b"\n")]
    if not data.strip():
        raise NothingServedError("the file is empty", file=path)
    return data


def read_head(path: pathlib.Path) -> bytes:
    """The first 64 KiB, without a byte order mark."""
    data = files.read_head(path, HEAD_BYTE)
    if not data.strip():
        raise NothingServedError("the file is empty", file=path)
    return data.removeprefix(b"\xef\xbb\xbf")


@dataclass(frozen=True)
class Table:
    """Columns of a delimited file, and the means to point at a line."""

    path: pathlib.Path
    data: bytes
    columns: Any  # pandas DataFrame
    names: tuple[str, ...]  # empty: no header
    skipped_line: int  # lines before the first row of data

    @property
    def num_column(self) -> int:
        """Columns a row."""
        return self.columns.shape[1]

    def error(self, row: int, column: int, message: str, allowed: str) -> InputError:
        """The error of one cell, with its line and its text as written."""
        line = row + self.skipped_line + 1
        text = re.split(rb"\r\n|\n|\r", self.data)[line - 1].decode(errors="replace")
        cells = next(csv.reader([text]), [])
        value = cells[column] if column < len(cells) else ""
        field = self.names[column] if self.names else f"column {column + 1}"
        return InputError(message, file=self.path, line=line, field=field, value=value, allowed=allowed)


def read_table(path: pathlib.Path, header: bool = False, text: Sequence[str] = ()) -> Table:
    """A comma-separated file, with or without a header line; the columns in `text` stay text."""
    import pandas as pd

    data = read_byte(path).removeprefix(b"\xef\xbb\xbf").rstrip()
    names: tuple[str, ...] = ()
    if header:
        first = re.split(rb"\r\n|\n|\r", data, maxsplit=1)[0].decode(errors="replace")
        names = tuple(name.strip() for name in first.replace('"', "").split(","))
        if len(set(names)) < len(names):
            raise InputError("a column appears twice", file=path, line=1, field="header", value=first)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row longer than the header
            frame = pd.read_csv(
                io.BytesIO(data.replace(b'"', b"")),
                header=None,
                names=list(names) or None,
                skiprows=1 if header else 0,
                index_col=False,
                skip_blank_lines=False,
                skipinitialspace=True,
                dtype=dict.fromkeys(text, str),
                quoting=csv.QUOTE_NONE,
                encoding_errors="replace",
                low_memory=False,
            )
    except (
        pd.errors.ParserError,
        pd.errors.ParserWarning,
        pd.errors.EmptyDataError,
        ValueError,
        OverflowError,
    ) as error:
        _refuse_ragged(path, data)
        raise InputError(f"not a table of comma-separated values: {error}", file=path) from None
    if not len(frame):
        raise NothingServedError("no rows", file=path)
    _refuse_cut(path, data, names)
    return Table(path, data, frame, names, 1 if header else 0)


def _refuse_cut(path: pathlib.Path, data: bytes, names: tuple[str, ...]) -> None:
    """A last row that ends before the header does: the file is not whole, whoever reads its columns."""
    lines = re.split(rb"\r\n|\n|\r", data[-HEAD_BYTE:])
    num_field = lines[-1].count(b",") + 1
    if len(lines) > 1 and num_field < len(names):
        number = len(re.split(rb"\r\n|\n|\r", data))
        raise InputError("the last row is cut off", file=path, line=number, field=names[num_field], value="",
                         allowed=f"{len(names)} fields")  # fmt: skip


def _refuse_ragged(path: pathlib.Path, data: bytes) -> None:
    """Names the first line that has more fields than the first one."""
    lines = re.split(rb"\r\n|\n|\r", data)
    width = lines[0].count(b",") + 1
    for number, line in enumerate(lines, start=1):
        num_field = line.count(b",") + 1
        if num_field > width:
            raise InputError(
                "too many fields", file=path, line=number, field="row", value=num_field, allowed=f"{width}"
            )


def column_index(table: Table, name: str) -> int:
    """Where a named column lies."""
    if name not in table.names:
        there = [other[:40] for other in table.names]
        raise InputError("this column is not there", file=table.path, line=1, field="header", value=name, allowed=there)
    return table.names.index(name)


def numbers(table: Table, column: int | str, low: float, high: float, whole: bool = False) -> Floats:
    """A column of numbers within a range; the first that is not is an `InputError` with its line."""
    import pandas as pd

    index = column_index(table, column) if isinstance(column, str) else column
    if not index < table.num_column:
        raise InputError(
            "no such column", file=table.path, field="column", value=index + 1, allowed=f"1 to {table.num_column}"
        )
    series = table.columns.iloc[:, index]
    if series.dtype.kind not in "iuf":
        try:
            series = pd.to_numeric(series.astype(object).map(_text), errors="coerce")
        except OverflowError:  # a number of hundreds of digits
            series = series.astype(object).map(_float)
    values = series.to_numpy(np.float64, na_value=np.nan)
    bad = ~((values >= low) & (values <= high))
    if whole:
        bad |= values != np.floor(values)
    if bad.any():
        kind = "whole number" if whole else "number"
        raise table.error(int(np.argmax(bad)), index, f"not a {kind} in range", f"{low:.15g} to {high:.15g}")
    return values


def _text(cell: Any) -> Any:
    return None if isinstance(cell, bool) else cell


def _float(cell: Any) -> float:
    try:
        return float("nan" if isinstance(cell, bool) else cell)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def tokens(table: Table, column: int | str, low: int = 1) -> Ints:
    """A column of token counts."""
    return numbers(table, column, low, MAX_TOKEN, whole=True).astype(np.int64)


def rebase(table: Table, index: int, since: npt.NDArray[Any], scale_ps: int) -> tuple[Ints, Ints]:
    """Times since the first as sorted picoseconds; a span beyond 104 days is refused."""
    limit = MAX_TIME_S * 1e12 / scale_ps
    late = since > limit
    if late.any():
        raise table.error(int(np.argmax(late)), index, "too long after the first", "104 days at most")
    order = np.argsort(since, kind="stable")
    picoseconds = since[order] * scale_ps
    return (np.rint(picoseconds) if picoseconds.dtype.kind == "f" else picoseconds).astype(np.int64), order
