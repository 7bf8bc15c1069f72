"""Frames as text for a terminal."""

import math
from typing import Any

import pandas as pd


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
