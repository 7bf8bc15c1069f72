"""Serving scenarios keep their integers; a change names every number that moved, operators among them."""

import json

import pytest

from tests.goldens.serving_golden import FILE, SCENARIOS, measure


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_serving_golden(name):
    golden = json.loads(FILE.read_text())[name]
    found = measure(name)
    moved = [
        f"{key:<60}{golden.get(key, 0):>22}{found.get(key, 0):>22}{_change(golden.get(key, 0), found.get(key, 0))}"
        for key in sorted({*golden, *found})
        if golden.get(key) != found.get(key)
    ]
    hint = "if this is meant: python -m tests.goldens.serving_golden"
    assert not moved, "\n".join([f"{name}: {len(moved)} numbers moved ({hint})", *moved])


def _change(before, after):
    return f"{(after / before - 1) * 100:+12.4f} %" if before else "         new"
