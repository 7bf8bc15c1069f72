"""Ten thousand hostile inputs: every one ends in exit 0 with finite output, 3 with a reason, or 2 with one line.

`pytest -m hostile` runs a hundred thousand from a seed that it prints; `HOSTILE_SEED` repeats them.
"""

import os
import pathlib
import secrets
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.properties.driver import Case, Outcome, run, shown
from tests.properties.kinds import KINDS

NUM, NUM_HOSTILE = 10_000, 100_000
PARTS = 8  # of the hundred thousand, so that processes share them


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """An empty folder that is the working directory, with a short name that no case matches."""
    with tempfile.TemporaryDirectory(prefix="hostile") as name:
        monkeypatch.chdir(name)
        yield pathlib.Path(name)


def hunt(kind: str, num: int, start: int, folder: pathlib.Path) -> None:
    """Run `num` cases of a kind; all that break the promise are named, the shortest of each place."""
    broken: dict[tuple[str, str], tuple[int, Outcome, Case]] = {}

    @seed(start)
    @settings(max_examples=num, database=None, deadline=None, suppress_health_check=list(HealthCheck),
              phases=[Phase.generate])  # fmt: skip
    @given(KINDS[kind][0])
    def body(case: Case) -> None:
        found = run(case, folder)
        if found.broken:
            key = (found.broken.split(":")[0][:40], found.place)
            count, least, of = broken.get(key, (0, found, case))
            if len(shown(case)) < len(shown(of)):
                least, of = found, case
            broken[key] = (count + 1, least, of)

    body()
    lines = [f"{count} x {found.broken} {found.place}\n{shown(case)}" for count, found, case in broken.values()]
    assert not lines, f"seed {start}, {kind}:\n" + "\n".join(lines)


@pytest.mark.parametrize("kind", KINDS)
def test_every_input_ends_well(kind: str, folder: pathlib.Path) -> None:
    hunt(kind, int(NUM * KINDS[kind][1]), 0, folder)


@pytest.mark.hostile
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("kind", KINDS)
def test_every_input_of_a_hundred_thousand_ends_well(kind: str, part: int, folder: pathlib.Path) -> None:
    start = int(os.environ.get("HOSTILE_SEED") or secrets.randbelow(10**9)) + part
    print(f"{kind}, part {part}: HOSTILE_SEED={start - part}")
    hunt(kind, int(NUM_HOSTILE * KINDS[kind][1] / PARTS), start, folder)
