"""Rows of every study's quick pass: simulated values to four digits, and verdicts.

`python -m tests.goldens.study_golden` writes them anew, after a change that is meant to move them; with names behind it
those of these studies.
"""

import json
import pathlib
import sys
from collections.abc import Sequence

import pandas as pd

from sim.run import study

FILE = pathlib.Path(__file__).with_name("studies.json")


def golden(table: pd.DataFrame) -> dict[str, str]:
    """`system; claim; setup` of each row that something was published for: simulated to four digits, verdict."""
    rows = table[table["paper"].notna()].to_dict("records")
    return {
        "; ".join((one["system"], one["claim"], one["setup"])): f"{one['simulated']:.4g} {one['verdict']}"
        for one in rows
    }


def moved(name: str, table: pd.DataFrame) -> list[str]:
    """What differs from the file, a line a row: before, now."""
    known: dict[str, str] = json.loads(FILE.read_text()).get(name, {})
    now = golden(table)
    return [
        f"{key}: {known.get(key)} -> {now.get(key)}"
        for key in {**known, **now}
        if not same(known.get(key, ""), now.get(key, ""))
    ]


def same(before: str, now: str) -> bool:
    """The same verdict, and a value within one in a thousand."""
    (value, _, verdict), (other, _, now_verdict) = before.partition(" "), now.partition(" ")
    if not value or not other or verdict != now_verdict:
        return False
    return abs(float(value) - float(other)) <= 1e-3 * abs(float(value))


def main(names: Sequence[str]) -> None:
    """Writes the goldens, or those of `names`; a study that is gone leaves the file."""
    known: dict[str, dict[str, str]] = json.loads(FILE.read_text()) if names else {}
    for name in names or study.names():
        module = study.find(name)
        known[name] = golden(study.run_module(module, **getattr(module, "SMALL", {})))
    FILE.write_text(json.dumps({name: known[name] for name in study.names() if name in known}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
