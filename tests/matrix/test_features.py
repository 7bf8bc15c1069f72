"""The page of features says what runs: every cell is run again."""

import itertools
import pathlib

import pytest

from tests.matrix.doors import DOOR, FEATURE
from tests.matrix.features import PAGE, markdown, parse, run_row


@pytest.mark.parametrize("row", FEATURE)
def test_what_the_page_says_of_a_feature_is_what_comes_of_it(row: str, tmp_path: pathlib.Path) -> None:
    said = parse(PAGE.read_text())
    found = run_row(row, tmp_path)
    assert {key: said[key] for key in found} == found


def test_the_page_is_as_it_is_written() -> None:
    text = PAGE.read_text()
    assert list(parse(text)) == list(itertools.product(FEATURE, DOOR))
    assert markdown(parse(text)) == text
