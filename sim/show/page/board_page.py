"""The page of the board: what was judged study by study in one table that sorts, then each study's rows."""

from collections.abc import Sequence
from html import escape

import pandas as pd

from sim.show.board import NUMBERS, SHOWN, counts, judged, percent
from sim.show.page.page import cell, page
from sim.show.tables import number

KINDS = ("number", "order", "fitted")
STYLE = """<style>
td{white-space:normal;vertical-align:top}td:has(a){white-space:nowrap}td.claim{min-width:14rem}td.setup{min-width:9rem}
tr.miss td.verdict{color:var(--c3);font-weight:600}tr.said td.verdict{color:var(--faint)}
ol{font-size:.85rem;color:var(--faint);max-width:60rem}a{color:var(--c0)}
</style>"""


def board_page(rows: pd.DataFrame) -> str:
    """Rows of studies (`sim.show.board.read`) as one self-contained HTML page."""
    studies = list(judged(rows).groupby("study", sort=False))
    parts = [STYLE, _overview(studies)] + [_study(str(name), part) for name, part in studies]
    return page("Studies: paper against simulated", parts, [counts(rows)])


def _overview(studies: Sequence[tuple[object, pd.DataFrame]]) -> str:
    """A line a study: of each kind the rows that are reproduced and those that were judged."""
    head = ["study", *(f"{kind} {word}" for kind in KINDS for word in ("reproduced", "judged")), "said", "seconds"]
    lines = []
    for name, part in studies:
        judged_part = part[part["verdict"] != "said"]
        values: list[int | float] = []
        for kind in KINDS:
            of = judged_part[judged_part["kind"] == kind]
            values += [int((of["verdict"] == "reproduced").sum()), len(of)]
        values += [len(part) - len(judged_part), float(part["seconds"].iloc[0])]
        word = escape(str(name))
        lines.append(f'<tr><td><a href="#{word}">{word}</a></td>{"".join(map(cell, values))}</tr>')
    heads = "".join(f"<th><button>{escape(one)}</button></th>" for one in head)
    return _table(heads, lines)


def _table(heads: str, lines: list[str]) -> str:
    body = "\n".join(lines)
    return f"<div class=wide><table><thead><tr>{heads}</tr></thead><tbody>\n{body}\n</tbody></table></div>"


def _study(name: str, part: pd.DataFrame) -> str:
    """One study's rows; what they assume stands below, each once, and a row names it by its number."""
    notes = [note for note in dict.fromkeys(part["assumptions"]) if note]
    columns = [column for column in SHOWN if (part[column].astype(str) != "").any()]
    lines = []
    for row, note in zip(percent(part[list(SHOWN)]).to_dict("records"), part["assumptions"], strict=True):
        cells = ""
        for column in columns:
            kind = "n" if column in NUMBERS else column
            cells += f"<td class={kind}>{escape(number(row[column]))}</td>"
        verdict = {"not reproduced": "miss", "said": "said"}.get(str(row["verdict"]), "good")
        lines.append(f"<tr class={verdict}>{cells}<td class=n>{notes.index(note) + 1 if note else ''}</td></tr>")
    heads = "".join(f"<th>{escape(one)}</th>" for one in (*columns, "note"))
    listed = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return (
        f'<section id="{escape(name)}"><h2>{escape(name)}</h2>{_table(heads, lines)}'
        f"{f'<ol>{listed}</ol>' if listed else ''}</section>"
    )
