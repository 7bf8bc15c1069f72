"""Azure inference traces (AzurePublicDataset, 2023 and 2024): `TIMESTAMP,ContextTokens,GeneratedTokens`; the multimodal
one of 2025 has `NumImages` beside.

Time stamps carry six or seven decimals (100 ns) and are kept to the last one; those of 2024 have a time zone.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from kernels.errors import InputError
from workloads.parameters import Parameter
from workloads.requests import Requests, build
from workloads.traces._table import Table, column_index, numbers, read_table, rebase, tokens

HELP = "Azure LLM inference trace, CSV: TIMESTAMP, ContextTokens, GeneratedTokens, optional NumImages"
OPTIONS: dict[str, Parameter] = {}
COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
IMAGES = "NumImages"
PS_PER_NS = 1000


def sniff(head: bytes) -> bool:
    """Whether the header is that of an Azure trace."""
    return head.startswith((b"TIMESTAMP,ContextTokens,", b"TIMESTAMP,NumImages,"))


def read(path: pathlib.Path, options: Mapping[str, Any], seed: int) -> Requests:
    """The requests of a trace, the clock starting with the first."""
    del options, seed  # everything is in the file
    table = read_table(path, header=True, text=["TIMESTAMP"])
    for name in COLUMNS:
        column_index(table, name)
    for name in table.names:
        if name not in (*COLUMNS, IMAGES):
            raise InputError("unknown column", file=path, line=1, field="header", value=name, allowed=COLUMNS)
    note = ""
    if IMAGES in table.names and (num := int((numbers(table, IMAGES, 0, 1e6, whole=True) > 0).sum())):
        note = f"{num} requests have images: their tokens count as ContextTokens has them, encoding them takes no time"
    nanosecond = _nanosecond(table)
    arrival_ps, order = rebase(table, column_index(table, "TIMESTAMP"), nanosecond - nanosecond.min(), PS_PER_NS)
    return build(arrival_ps, tokens(table, "ContextTokens")[order], tokens(table, "GeneratedTokens")[order],
                 note=note)  # fmt: skip


def _nanosecond(table: Table) -> Any:
    """Nanoseconds since 1970 of every time stamp."""
    import pandas as pd

    index = column_index(table, "TIMESTAMP")
    text = table.columns.iloc[:, index]
    stamps = pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True)
    year = stamps.dt.year.to_numpy(np.float64, na_value=np.nan)
    bad = ~((year >= 1970) & (year <= 2200)) | ~text.str.fullmatch(
        r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?"
    ).fillna(value=False).to_numpy(bool)
    if bad.any():
        allowed = "YYYY-MM-DD HH:MM:SS.fffffff, 1970 to 2200"
        raise table.error(int(np.argmax(bad)), index, "not a time stamp", allowed)
    return stamps.dt.as_unit("ns").astype("int64").to_numpy()
