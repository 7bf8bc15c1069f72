"""Chunks that may stand anywhere, in an engine that knows names of blocks."""

import pytest

from studies import cache_craft as c


def test_one_order_and_nothing_again_is_prefix_caching() -> None:
    """Without noise a topic's chunks always come in one order: whole chunks found are a prefix found."""
    ends = [
        c.serve("llama-3-8b", c.load(how, 60, 0.0)).run.requests["finish_s"].tolist() for how in (c.PREFIX, c.CRAFT)
    ]
    assert ends[0] == ends[1]


def test_everything_again_is_full_recompute() -> None:
    ends = [
        c.serve("llama-3-8b", c.load(how, 40, 1.0, share)).run.requests["finish_s"].tolist()
        for how, share in ((c.FULL, 0.0), (c.CRAFT, 1.0))
    ]
    assert ends[0] == ends[1]


def test_a_chunk_is_found_behind_others_than_before() -> None:
    found = [c.computed(c.serve("llama-3-8b", c.load(how, 150, 2.0))) for how in (c.FULL, c.PREFIX, c.CRAFT)]
    assert found[0] == 100.0
    assert found[0] > found[1] > found[2]
    chunk = c.NUM_CHUNK * c.CHUNK * c.UNIT
    assert found[2] > 100 * c.QUESTION / (chunk + c.QUESTION)
    again = c.computed(c.serve("llama-3-8b", c.load(c.CRAFT, 150, 2.0, 0.25)))
    whole, part = 100 - found[2], 100 - again
    assert part == pytest.approx(0.75 * whole, rel=0.05)
