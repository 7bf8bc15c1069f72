"""Chunks of recordings: what is masked, padded, and seen."""

import pytest

from studies import chunkformer


def test_equal_recordings_have_no_padding_to_mask() -> None:
    assert chunkformer.padded_s([120.0] * 4) == chunkformer.masked_s([120.0] * 4)


def test_every_token_is_in_one_chunk() -> None:
    lengths = chunkformer.lengths(12, 1.5)
    assert sum(chunkformer.chunks(lengths)) == sum(round(one * chunkformer.TOKEN_PER_S) for one in lengths)
    assert max(chunkformer.chunks(lengths)) <= chunkformer.CHUNK


def test_one_chunk_that_sees_itself_is_full_attention() -> None:
    assert chunkformer.pass_s([64], [64]) == chunkformer.full_s([64 / chunkformer.TOKEN_PER_S])


def test_time_of_chunks_is_linear_and_of_full_attention_is_not() -> None:
    one, two = (chunkformer.masked_s([3600.0 * h]) for h in (2, 4))
    assert two / one == pytest.approx(2.0, rel=0.02)
    assert chunkformer.full_s([14400.0]) / chunkformer.full_s([7200.0]) > 2.3
