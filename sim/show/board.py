"""The rows of studies for people: one study's table, and the board of all, on a terminal, in Markdown and as a page."""

import math
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd

from kernels.content import json_of
from kernels.errors import InputError
from sim.run.study import COLUMNS
from sim.show.tables import markdown as markdown_table
from sim.show.tables import number, table
from workloads.files import read_byte

SHOWN = ("system", "claim", "setup", "paper", "simulated", "error", "bound", "verdict", "kind")
MAX_BYTE = 1 << 28  # of a file of rows
NUMBERS = ("paper", "simulated", "error", "bound")


def read(files: Sequence[str]) -> pd.DataFrame:
    """The rows of files that `ridgeline study run --json` wrote, one after another; `InputError` for any other file."""
    tables: list[pd.DataFrame] = []
    failed: dict[str, str] = {}
    complete = True
    for file in files:
        content = json_of(read_byte(pathlib.Path(file), MAX_BYTE), file)
        found = content.get("rows") if isinstance(content, dict) else None
        if not isinstance(found, list) or not found:
            raise InputError("not the rows of a study", file=file, field="rows", value=found)
        for at, row in enumerate(found):
            _check(row, at, file)
        rows = pd.DataFrame(found)
        if "study" not in rows.columns:
            rows.insert(0, "study", pathlib.Path(file).stem)
        tables.append(rows)
        complete &= content.get("complete") is not False
        named = content.get("failed")
        failed |= {str(key): str(value) for key, value in named.items()} if isinstance(named, dict) else {}
    board = pd.concat(tables, ignore_index=True)
    board.attrs.update(complete=complete, failed=failed)
    return board


def _check(row: Any, at: int, file: str) -> None:
    """A row has every column, with numbers or nothing where numbers belong."""
    if not isinstance(row, dict):
        raise InputError("not the row of a study", file=file, field=f"rows[{at}]", value=row)
    for name in (*COLUMNS, *(("study",) if "study" in row else ())):
        if name not in row:
            raise InputError("no such column", file=file, field=f"rows[{at}]", value=name, allowed=COLUMNS)
        value, is_number = row[name], name in (*NUMBERS, "seconds")
        good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
        if value is not None and not (good if is_number else isinstance(value, str)):
            raise InputError("not a number" if is_number else "not a text", file=file, field=f"rows[{at}].{name}",
                             value=value)  # fmt: skip


def judged(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that something was published for; the others are points of pictures."""
    return rows[rows["paper"].notna()]


def text(rows: pd.DataFrame) -> str:
    """One study: its rows, what it assumes (each once, with the rows that it belongs to), and its counts."""
    shown = judged(rows)
    note_of = {note: at + 1 for at, note in enumerate(dict.fromkeys(n for n in shown["assumptions"] if n))}
    if shown.empty:
        return table(rows[["system", "claim", "setup", "simulated"]])
    lines = [table(percent(shown[list(SHOWN)]).assign(note=[note_of.get(n, "") for n in shown["assumptions"]])), ""]
    lines += [f"[{at}] {note}" for note, at in note_of.items()]
    return "\n".join([*lines, "", counts(rows)])


def board(rows: pd.DataFrame) -> str:
    """Every row, a line each, and the counts by kind, for a terminal; what rows assume is in the files."""
    shown = judged(rows)
    return f"{table(percent(shown[['study', *SHOWN]]))}\n\n{table(summary(rows))}\n\n{counts(rows)}"


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Counts a kind: `kind, rows, reproduced, not_reproduced, said, share_reproduced`, of those with a verdict."""
    shown = judged(rows)
    out = []
    for kind in ("number", "order", "fitted"):
        verdict = shown[shown["kind"] == kind]["verdict"].value_counts()
        good, bad, said = (int(verdict.get(name, 0)) for name in ("reproduced", "not reproduced", "said"))
        share = good / (good + bad) if good + bad else math.nan
        out.append({"kind": kind, "rows": good + bad + said, "reproduced": good, "not_reproduced": bad, "said": said,
                    "share_reproduced": share})  # fmt: skip
    return pd.DataFrame(out)


def markdown(rows: pd.DataFrame) -> str:
    """The board as a Markdown page: counts, then a table a study with everything that it assumes."""
    parts = ["# Studies: paper against simulated", markdown_table(summary(rows)), counts(rows)]
    for name, part in judged(rows).groupby("study", sort=False):
        seconds = number(float(part["seconds"].iloc[0]))
        parts += [f"## {name}", f"{seconds} s", markdown_table(percent(part[[*SHOWN, "assumptions"]]))]
    return "\n\n".join(parts) + "\n"


def percent(rows: pd.DataFrame) -> pd.DataFrame:
    """Errors and bounds as people read them; an order has none."""
    shown = rows.copy()
    for name, form in (("error", "{:+.1%}"), ("bound", "{:.1%}")):
        shown[name] = [
            "" if kind == "order" or math.isnan(float("nan" if value is None else value)) else form.format(value)
            for value, kind in zip(rows[name], rows["kind"], strict=True)
        ]
    return shown


def counts(rows: pd.DataFrame) -> str:
    """In one line: what was judged and how it came out."""
    shown = judged(rows)
    words = []
    for kind, noun in (("number", "numbers"), ("order", "orders"), ("fitted", "fitted numbers")):
        of = shown[(shown["kind"] == kind) & (shown["verdict"] != "said")]
        if len(of):
            words.append(f"{int((of['verdict'] == 'reproduced').sum())} of {len(of)} {noun} reproduced")
    said = int((shown["verdict"] == "said").sum())
    if said:
        words.append(f"{said} said without a verdict")
    words.append(f"{len(rows) - len(shown)} points of pictures")
    if not rows.attrs.get("complete", True):
        failed = rows.attrs.get("failed") or {}
        words.append(f"not complete{', failed: ' if failed else ''}{', '.join(failed)}")
    return "; ".join(words)
