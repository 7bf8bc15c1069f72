"""Columns of measured tables by the unit that their names say: `latency (us)`, `latency_us` and `latency_s` are all the
`latency_ms` that a reader asks for."""

import re
from collections.abc import Iterable

import pandas as pd

SECOND = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "msec": 1e-3, "us": 1e-6, "usec": 1e-6, "ns": 1e-9}
WATT = {"w": 1.0, "kw": 1e3, "mw": 1e-3}
SCALES = (SECOND, WATT)
_BRACKET = re.compile(r"^(.*\S)\s*[(\[]\s*([a-zµ]+)\s*[)\]]$")


def plain(name: str) -> str:
    """A column's name in small letters, a unit in brackets as its last word.

    >>> plain("Latency (us)"), plain("mean power [W]"), plain("Latency (us, mean)")
    ('latency_us', 'mean power_w', 'latency (us, mean)')
    """
    word = name.strip().lower()
    found = _BRACKET.match(word)
    unit = found[2].replace("µ", "u") if found else ""
    return f"{found[1]}_{unit}" if found and any(unit in scale for scale in SCALES) else word


def with_units(frame: pd.DataFrame, wanted: Iterable[str]) -> pd.DataFrame:
    """The frame with each column of `wanted` that it lacks and has in another unit; the last word of a name is its
    unit. Cells that are no numbers stay as they are.

    >>> with_units(pd.DataFrame({"latency_us": [1500.0]}), ["latency_ms"])["latency_ms"].tolist()
    [1.5]
    """
    for name in wanted:
        stem, _, unit = name.rpartition("_")
        scale = next((scale for scale in SCALES if unit in scale), {})
        other = next((word for word in scale if f"{stem}_{word}" in frame.columns), "")
        if not stem or not other or name in frame.columns:
            continue
        source = f"{stem}_{other}"
        number = pd.to_numeric(frame[source], errors="coerce") * (scale[other] / scale[unit])
        frame = frame.assign(**{source: number.where(number.notna(), frame[source])}).rename(columns={source: name})
    return frame
