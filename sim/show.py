"""Frames as text for a terminal and as JSON for a file."""

import json
import math
from typing import Any

import pandas as pd

from kernels.errors import InputError


def number(value: Any) -> str:
    """A cell as text: four digits that matter, thousands grouped.

    >>> number(3352.0), number(0.00123456), number("nvlink4"), number(True)
    ('3,352', '0.001235', 'nvlink4', 'yes')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return f"{int(value):,}"
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def table(frame: pd.DataFrame) -> str:
    """Columns aligned (numbers to the right), the column names as head.

    >>> print(table(pd.DataFrame({"link": ["pcie5", "nvlink4"], "GBps": [63.015, 25.0]})))
    link      GBps
    pcie5    63.02
    nvlink4     25
    """
    columns = []
    for name in frame.columns:
        cells = [str(name), *(number(value) for value in frame[name].tolist())]
        width = max(map(len, cells))
        right = pd.api.types.is_numeric_dtype(frame[name])
        columns.append([cell.rjust(width) if right else cell.ljust(width) for cell in cells])
    return "\n".join("  ".join(row).rstrip() for row in zip(*columns, strict=True))


def write_json(value: dict[str, Any], path: str) -> None:
    """Write to a file, or to standard output where `path` is "-". Not-a-number becomes null."""
    text = json.dumps(_plain(value), indent=2, allow_nan=False)
    if path == "-":
        print(text)
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", file=path) from error


def _plain(value: Any) -> Any:
    if isinstance(value, pd.DataFrame):
        return [_plain(row) for row in value.to_dict("records")]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.item() if hasattr(value, "item") else value
