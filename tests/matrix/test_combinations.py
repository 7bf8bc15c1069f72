"""The page of combinations says what runs: every cell is run again."""

import pathlib

import pytest

from tests.matrix.combinations import PAGE, keys, markdown, parse, run_row
from tests.matrix.mechanisms import MECHANISM


@pytest.mark.parametrize("row", MECHANISM)
def test_what_the_page_says_of_a_mechanism_is_what_comes_of_it(row: str, tmp_path: pathlib.Path) -> None:
    said = parse(PAGE.read_text())
    found = run_row(row, tmp_path)
    assert {key: said[key] for key in found} == found


def test_the_page_is_as_it_is_written() -> None:
    text = PAGE.read_text()
    assert list(parse(text)) == keys()
    assert markdown(parse(text)) == text
