"""The page of combinations: `python -m tests.matrix.combinations` runs every cell and writes `docs/combinations.md`."""

import itertools
import pathlib
import tempfile
from collections.abc import Mapping

from tests.matrix.mechanisms import ENGINE, MECHANISM, outcome

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "combinations.md"
SHORT = ("yes", "-")
HEAD = """# What works with what

Every mechanism with chunked prefill, small pages, preemption, tensor and pipeline parallelism, and with every other
mechanism. Each cell is a run of eight requests (`tests/matrix/mechanisms.py`): **yes** where every request was served
to its last token and both left their mark on the run (drafts verified, blocks found, sequences preempted, ...); a
number where the combination is refused by name, or one of the two has no effect and the report says so, in words below;
**-** where there cannot be both (two models, two rules). `tests/matrix/test_combinations.py` runs every cell anew and
holds this page, which `python -m tests.matrix.combinations` writes.
"""
Cells = dict[tuple[str, str], str]


def pairs(row: str) -> list[str]:
    """The mechanisms that come after this one."""
    names = list(MECHANISM)
    return names[names.index(row) + 1 :]


def run_row(row: str, folder: pathlib.Path) -> Cells:
    """What comes of every cell of a row, in both tables."""
    others = {name: ENGINE[name] for name in ENGINE} | {name: MECHANISM[name] for name in pairs(row)}
    return {(row, name): outcome(MECHANISM[row], other, folder) for name, other in others.items()}


def markdown(cells: Mapping[tuple[str, str], str]) -> str:
    """The page of all cells."""
    order = [cells[key] for key in keys() if cells[key] not in SHORT]
    number = {said: str(k) for k, said in enumerate(dict.fromkeys(order), 1)}
    lines = [HEAD, "## With what an engine does", "", f"| | {' | '.join(ENGINE)} |", "|---" * (len(ENGINE) + 1) + "|"]
    for row in MECHANISM:
        shown = [cells[row, name] for name in ENGINE]
        lines.append(f"| {row} | {' | '.join(number.get(said, said) for said in shown)} |")
    heads = [chr(ord("A") + k) for k in range(len(MECHANISM))]
    lines += ["", "## With one another", "", f"| | | {' | '.join(heads)} |", "|---" * (len(MECHANISM) + 2) + "|"]
    for letter, row in zip(heads, MECHANISM, strict=True):
        shown = [cells[key] if (key := tuple(sorted((row, name), key=list(MECHANISM).index))) in cells else ""
                 for name in MECHANISM]  # fmt: skip
        lines.append(f"| {letter} | {row} | {' | '.join(number.get(said, said) for said in shown)} |")
    lines += ["", "## Why not", "", *(f"{k}. {said}" for said, k in number.items())]
    return "\n".join(lines) + "\n"


def keys() -> list[tuple[str, str]]:
    """Every cell: rows with what an engine does, then with one another."""
    return [*itertools.product(MECHANISM, ENGINE), *itertools.combinations(MECHANISM, 2)]


def parse(text: str) -> Cells:
    """The cells that a page states."""
    part: dict[str, str] = dict(piece.split("\n", 1) for piece in text.split("\n## ")[1:])  # type: ignore[misc]
    reason = dict(line.split(". ", 1) for line in part["Why not"].strip().splitlines())
    tables = {
        title: [[cell.strip() for cell in line.strip("|").split("|")]
                for line in part[title].splitlines() if line.startswith("|")][2:]
        for title in ("With what an engine does", "With one another")
    }  # fmt: skip
    cells = {(row[0], name): row[1 + k] for row in tables["With what an engine does"] for k, name in enumerate(ENGINE)}
    every = {(row[1], name): row[2 + k] for row in tables["With one another"] for k, name in enumerate(MECHANISM)}
    cells |= {key: every[key] for key in itertools.combinations(MECHANISM, 2)}
    return {key: reason.get(said, said) for key, said in cells.items()}


if __name__ == "__main__":
    found: Cells = {}
    with tempfile.TemporaryDirectory() as name:
        for mechanism in MECHANISM:
            found |= run_row(mechanism, pathlib.Path(name))
    PAGE.write_text(markdown(found))
