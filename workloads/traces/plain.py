"""The project's own table: columns `arrival_s`, `prompt_token`, `output_token`, and at will `priority`,
`predicted_token`, and `num_image` with `image_token` (tokens of the prompt that each image is), as CSV or Parquet."""

import io
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from kernels.errors import InputError, NothingServedError
from kernels.units import PS_PER_S
from workloads.parameters import Parameter
from workloads.requests import MAX_IMAGE, MAX_TIME_S, MAX_TOKEN, Requests, build
from workloads.traces._table import Table, numbers, read_byte, read_table, tokens

HELP = "CSV or Parquet: arrival_s, prompt_token, output_token, optional priority, predicted_token, images"
OPTIONS: dict[str, Parameter] = {}
REQUIRED = ("arrival_s", "prompt_token", "output_token")
MAX_ROW = 1 << 24  # of Parquet, whose few bytes may be as many rows as one likes
COLUMNS = (*REQUIRED, "priority", "predicted_token", "num_image", "image_token")


def sniff(head: bytes) -> bool:
    """Whether this is Parquet, or a header that names `arrival_s`."""
    first = head.split(b"\n", 1)[0].replace(b'"', b"")
    return head.startswith(b"PAR1") or b"arrival_s" in [name.strip() for name in first.split(b",")]


def read(path: pathlib.Path, options: Mapping[str, Any], seed: int) -> Requests:
    """The rows as requests in order of arrival; the clock is the file's."""
    del options, seed  # everything is in the file
    data = read_byte(path)
    return _requests(_parquet(path, data) if data.startswith(b"PAR1") else read_table(path, header=True))


def of_frame(frame: Any) -> Requests:
    """The rows of a pandas frame, as `read` takes those of a file; what is wrong is named with its row and column."""
    path = pathlib.Path("the frame")
    for name in map(str, frame.columns):
        _check_column(path, name)
    if not len(frame):
        raise NothingServedError("no rows", file=path)
    return _requests(_table_of(path, frame))


def _requests(table: Table) -> Requests:
    path = table.path
    for name in table.names:
        _check_column(path, name)
    arrival_s = numbers(table, "arrival_s", 0.0, MAX_TIME_S)
    order = np.argsort(arrival_s, kind="stable")
    has = table.names
    return build(
        np.rint(arrival_s[order] * PS_PER_S).astype(np.int64),
        tokens(table, "prompt_token")[order],
        tokens(table, "output_token")[order],
        priority=numbers(table, "priority", 0, 127, whole=True)[order].astype(np.int64) if "priority" in has else None,
        predicted_token=tokens(table, "predicted_token")[order] if "predicted_token" in has else None,
        num_image=numbers(table, "num_image", 0, MAX_IMAGE, whole=True)[order] if "num_image" in has else None,
        image_token=numbers(table, "image_token", 0, MAX_TOKEN, whole=True)[order] if "image_token" in has else None,
    )


def _check_column(path: pathlib.Path, name: str) -> None:
    if name not in COLUMNS:
        raise InputError("unknown column", file=path, line=1, field="header", value=name, allowed=COLUMNS)


def _parquet(path: pathlib.Path, data: bytes) -> Table:
    import pandas as pd

    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError("Parquet needs the extra: pip install 'ridgeline[parquet]'", file=path) from None
    try:
        about = pyarrow.parquet.ParquetFile(io.BytesIO(data))
        for name in about.schema_arrow.names:  # before anything is unpacked
            if not name.startswith("__index_level_"):  # of pandas, which reads it as no column
                _check_column(path, name)
        if about.metadata.num_rows > MAX_ROW:
            raise InputError("too many rows", file=path, field="rows", value=about.metadata.num_rows,
                             allowed=f"{MAX_ROW:,} at most")  # fmt: skip
        frame = pd.read_parquet(io.BytesIO(data), engine="pyarrow")
    except InputError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise InputError(f"not a Parquet file: {error}", file=path) from None
    if not len(frame):
        raise NothingServedError("no rows", file=path)
    return _table_of(path, frame)


def _table_of(path: pathlib.Path, frame: Any) -> Table:
    names = tuple(str(name) for name in frame.columns)
    text = ",".join(names) + "\n" + frame.to_csv(index=False, header=False)  # to show a row where one is bad
    return Table(path, text.encode(), frame, names, 1)
