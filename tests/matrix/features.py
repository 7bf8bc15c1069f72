"""The page of features: `python -m tests.matrix.features` runs every cell and writes `docs/features.md`."""

import itertools
import pathlib
import tempfile
from collections.abc import Mapping

from tests.matrix.doors import DOOR, FEATURE, outcome

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "features.md"
HEAD = """# Features

Every feature of a scenario under four engine profiles, and through every door that takes a scenario: **step by step**
(`--no-run-ahead`; the numbers are those of the run ahead), **replay** (`--fidelity replay`), **pools** (`ridgeline
pools`), **programs** (`ridgeline programs`), **predictor** (`ridgeline.predictor.BatchTime`), **carried out** (plans
handed to a real device, as `ridgeline reference run` does). Each cell is a run of a few requests
(`tests/matrix/doors.py`): **yes** where all of them were served to their last token and the run shows the feature, a
number where it is refused by name, in the words below. `tests/matrix/test_features.py` runs every cell anew and holds
this page, which `python -m tests.matrix.features` writes. What works with what: [combinations](combinations.md).
"""
Cells = dict[tuple[str, str], str]


def run_row(row: str, folder: pathlib.Path) -> Cells:
    """What comes of every cell of a row."""
    return {(row, door): outcome(FEATURE[row], door, folder) for door in DOOR}


def markdown(cells: Mapping[tuple[str, str], str]) -> str:
    """The page of all cells."""
    words = dict.fromkeys(cells[key] for key in itertools.product(FEATURE, DOOR) if cells[key] != "yes")
    number = {said: str(k) for k, said in enumerate(words, 1)}
    lines = [HEAD, f"| | {' | '.join(DOOR)} |", "|---" * (len(DOOR) + 1) + "|"]
    lines += [f"| {row} | {' | '.join(number.get(cells[row, door], 'yes') for door in DOOR)} |" for row in FEATURE]
    lines += ["", "## Why not", "", *(f"{k}. {said}" for said, k in number.items())]
    return "\n".join(lines) + "\n"


def parse(text: str) -> Cells:
    """The cells that a page states."""
    table, _, why = text.partition("\n## Why not\n")
    reason = dict(line.split(". ", 1) for line in why.strip().splitlines())
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    cells = {(row[0], door): row[1 + k] for row in rows[2:] for k, door in enumerate(DOOR)}
    return {key: reason.get(said, said) for key, said in cells.items()}


if __name__ == "__main__":
    found: Cells = {}
    with tempfile.TemporaryDirectory() as name:
        for feature in FEATURE:
            found |= run_row(feature, pathlib.Path(name))
            print(feature, flush=True)
    PAGE.write_text(markdown(found))
