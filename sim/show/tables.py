"""Frames as text: the one writer of tables, for a terminal and for Markdown."""

import math
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

FIGURE = re.compile(r"[-+]?[\d,.]*%?")  # what is a number as text
NO_FIGURE = re.compile(r"[-+]?(nan|inf|infinity)", re.I)  # what would read as one, as a name


def number(value: Any) -> str:
    """A cell as text: four digits that matter, thousands grouped; nothing where there is nothing. A name that reads
    as a number which is none stands in quotes.

    >>> number(3352.0), number(0.00123456), number("nvlink4"), number(True), number(None), number("inf")
    ('3,352', '0.001235', 'nvlink4', 'yes', '-', "'inf'")
    """
    if value is None:
        return "-"
    if hasattr(value, "item"):  # numpy's scalars
        value = value.item()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return f"{int(value):,}"
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"
    text = str(value)
    return repr(text) if NO_FIGURE.fullmatch(text) else text


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
        right = pd.api.types.is_numeric_dtype(frame[name]) or all(map(FIGURE.fullmatch, cells[1:]))
        columns.append([cell.rjust(width) if right else cell.ljust(width) for cell in cells])
    return "\n".join("  ".join(row).rstrip() for row in zip(*columns, strict=True))


def markdown(frame: pd.DataFrame) -> str:
    """The same as a Markdown table.

    >>> print(markdown(pd.DataFrame({"link": ["a|b"], "GBps": [25.0]})))
    | link | GBps |
    |---|---:|
    | a\\|b | 25 |
    """
    rule = "".join("---:|" if pd.api.types.is_numeric_dtype(frame[name]) else "---|" for name in frame.columns)
    lines = ["| " + " | ".join(map(str, frame.columns)) + " |", "|" + rule]
    cells = ([number(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in frame.to_numpy(object))
    lines += ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join(lines)


def html_frame(title: str, frame: pd.DataFrame, top: int = 10) -> str:
    """The first rows as a small HTML table, for notebooks.

    >>> html_frame("b", pd.DataFrame({"n": [1.5, 2.0]}), top=1).partition("<thead>")[2]
    '<tr><th>n</th></tr></thead><tbody><tr><td>1.5</td></tr></tbody></table>'
    """
    from html import escape

    said = title if len(frame) <= top else f"{title}, {top} of {len(frame):,} rows"
    head = "".join(f"<th>{escape(str(name))}</th>" for name in frame.columns)
    cells = (("".join(f"<td>{escape(number(cell))}</td>" for cell in row)) for row in frame.head(top).to_numpy(object))
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return f"<table><caption>{escape(said)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def html_pairs(title: str, values: Mapping[str, Any]) -> str:
    """Names and numbers as a small HTML table, for notebooks; what is no number or text is left out.

    >>> html_pairs("a < b", {"step_s": 0.25, "frame": [1]})
    '<table><caption>a &lt; b</caption><tbody><tr><td>step_s</td><td>0.25</td></tr></tbody></table>'
    """
    from html import escape

    rows = "".join(
        f"<tr><td>{escape(str(name))}</td><td>{escape(number(value))}</td></tr>"
        for name, value in values.items()
        if isinstance(value, str | int | float) or hasattr(value, "item")
    )
    return f"<table><caption>{escape(title)}</caption><tbody>{rows}</tbody></table>"
