"""Codes of coupled channels as a storage format."""

import pytest

from studies import coupled_quantization as c


def test_sixteen_bits_and_free_look_ups_are_the_plain_system() -> None:
    assert c.rate("fp16", 256, 32) == c.rate("fp16", 256, 32, 1.0)
    assert c.rate("int1", 256, 32, 0.01) < c.rate("int1", 256, 32, 1.0)


def test_centroids_double_with_a_bit_and_follow_heads_of_keys() -> None:
    assert c.centroid_percent("llama-2-7b", 9) == pytest.approx(2 * c.centroid_percent("llama-2-7b", 8))
    assert c.centroid_percent("mistral-7b", 8) < c.centroid_percent("llama-2-7b", 8) / 4 * 1.01
