"""Keys and values in blocks with a shared scale."""

import pytest

from kernels.formats import FORMAT_CODE, FORMATS
from studies import block_float


def test_a_format_like_the_model_saves_nothing() -> None:
    assert block_float.budget("llama-2-7b", "bf16") == block_float.budget("llama-2-7b", "fp16")


@pytest.mark.parametrize("fmt", ["fp8", "mxfp4"])
def test_a_sequence_is_as_many_bytes_as_its_bits_say(fmt: str) -> None:
    plain, own = (block_float.budget("llama-2-7b", name)[0] for name in ("fp16", fmt))
    bits = FORMATS[FORMAT_CODE[fmt]].weight_bit
    assert plain / own == pytest.approx(16 / bits, rel=0.01)


def test_twice_as_many_fit_in_half() -> None:
    first, second = (block_float.budget("llama-2-7b", fmt)[1] for fmt in ("fp16", "fp8"))
    assert abs(second - 2 * first) <= 0.06 * second + 1
