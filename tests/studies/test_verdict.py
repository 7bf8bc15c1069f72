"""The row: two sides, tags, nulls, spreads, and numbers that are said."""

import math

import pytest

from kernels.errors import InputError
from studies._verdict import COLUMNS, frame, judged, order, point, row


@pytest.mark.parametrize(("simulated", "verdict"), [(2.19, "reproduced"), (1.81, "reproduced"),
                                                    (2.21, "not reproduced"), (1.79, "not reproduced")])  # fmt: skip
def test_an_exact_number_holds_within_ten_percent_on_both_sides(simulated: float, verdict: str) -> None:
    assert row("s", "up to", "", 2.0, simulated)["verdict"] == verdict
    assert row("s", "up to", "", 2.0, simulated, tag="approx")["verdict"] == "reproduced"


def test_bounds_only_tighten() -> None:
    assert row("s", "c", "", 2.0, 2.1, bound=0.01)["verdict"] == "not reproduced"
    with pytest.raises(InputError, match="wider than an exact number allows"):
        row("s", "c", "", 2.0, 2.1, bound=0.15)
    # 3 points of 42 %, and never more than the tag's
    assert row("s", "c", "", 0.42, 0.44, points=0.03)["bound"] == pytest.approx(0.03 / 0.42)
    assert row("s", "c", "", 0.1, 0.12, points=0.03)["bound"] == 0.1


def test_no_bound_reaches_nothing_and_a_flip_is_a_row() -> None:
    near = row("s", "speedup", "here", 1.05, 1.01, null=1.0)
    assert near["bound"] == pytest.approx(0.05 / 1.05)
    assert near["verdict"] == "reproduced"
    table = frame([row("s", "speedup", "here", 1.05, 0.99, null=1.0)])
    assert table["verdict"].tolist() == ["not reproduced"] * 2
    assert table["kind"].tolist() == ["number", "order"]
    assert table["claim"].tolist() == ["speedup", "sign: speedup"]
    assert tuple(table.columns) == COLUMNS


def test_a_number_that_only_one_choice_reaches_is_not_reproduced() -> None:
    assert row("s", "c", "", 2.0, 2.0, spread=(1.9, 2.1))["verdict"] == "reproduced"
    one = row("s", "c", "", 2.0, 2.0, "note", spread=(1.0, 2.1))
    assert one["verdict"] == "not reproduced"
    assert one["assumptions"] == "1 to 2.1 over what the paper leaves open; note"


def test_said_and_points_have_no_verdict() -> None:
    said = row("s", "c", "", 2.0, 2.0, null=1.0, said=True)
    assert (said["verdict"], math.isnan(said["bound"])) == ("said", True)
    assert len(frame([row("s", "c", "", 2.0, 0.5, null=1.0, said=True)])) == 1  # no flip of what has no verdict
    table = frame([said, point("s", "curve", "1", 3.0), order("s", "o", "", True)])
    assert len(judged(table)) == 2


@pytest.mark.parametrize("paper", [0.0, math.nan, math.inf])
def test_what_no_error_can_be_told_of_is_refused(paper: float) -> None:
    with pytest.raises(InputError, match="apart from nothing"):
        row("s", "c", "", paper, 1.0)
    with pytest.raises(InputError, match="apart from nothing"):
        row("s", "c", "", 1.0, 1.0, null=1.0)
