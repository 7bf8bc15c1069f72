"""The project guards itself with its own verb: recorded scenarios give what they gave."""

import pathlib

import pytest

from sim.regress import baseline, report
from sim.regress.judge import Threshold
from sim.regress.run import regress

FILE = pathlib.Path(__file__).with_name("regress.json")
ROUNDING = Threshold(relative=1e-9)  # of means, whose order of summing is numpy's and the processor's


@pytest.mark.parametrize("name", [entry.name for entry in baseline.read(FILE).entry])
def test_recorded_scenarios(name: str) -> None:
    found = regress(FILE, ROUNDING, [name])
    hint = f"if this is meant: ridgeline regress --baseline tests/goldens/regress.json --record --only {name}"
    assert [one.name for one in found] == [name]
    assert found[0].holds, f"{hint}\n{report.text(found)}"
    assert not found[0].new, hint  # a user's baseline may be older than a release, the project's own is not
