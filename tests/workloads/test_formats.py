"""Format texts, stored bytes and conversions."""

import pytest

from kernels import optable as op
from kernels.errors import InputError
from workloads import models, placement
from workloads.formats import KV_BITS, parse
from workloads.lowering import lower_dense, lower_head

LLAMA = models.load("llama-2-7b")
ONE = placement.make(LLAMA)


def named(ops, name):
    return ops[ops["name"] == name.encode()][0]


@pytest.mark.parametrize(
    ("text", "bit"),
    # 16-bit scale a group of 128; fp8 scale a group of 16; 8-bit exponent a group of 32; fp32 a 128 x 128 block
    [("bf16", 16), ("fp16", 16), ("fp8", 8), ("int8", 8), ("w8a8", 8), ("w4a4", 4), ("w8a16", 8), ("w4a16", 4.125),
     ("nvfp4", 4.5), ("mxfp4", 4.25), ("fp8_block", 8 + 32 / 128**2)],
)  # fmt: skip
def test_weight_bytes_of_each_format(text, bit):
    down = named(lower_dense(LLAMA, parse(text), ONE, 0, 1), "mlp_down")
    assert down["weight_byte"] == 4096 * 11008 * bit / 8
    assert down["write_byte"] == 4096 * 2  # accumulators leave as 16 bits


@pytest.mark.parametrize(
    ("text", "narrow"), [("bf16", 0), ("w4a16", 0), ("w8a16", 0), ("fp8", 8), ("w8a8", 8), ("nvfp4", 4.5)]
)
def test_narrow_activations_are_converted_before_each_projection(text, narrow):
    ops = lower_dense(LLAMA, parse(text), ONE, 0, 10)
    converts = ops[ops["kind"] == op.CONVERT]
    assert len(converts) == (4 if narrow else 0)  # before qkv, o, up and down
    if narrow:
        convert = named(ops, "quant_mlp_up")
        assert (convert["act_byte"], convert["write_byte"]) == (10 * 4096 * 2, 10 * 4096 * narrow / 8)
        assert named(ops, "mlp_up")["act_byte"] == convert["write_byte"]


@pytest.mark.parametrize("bit", [16, 8, 4, 2, 1])
def test_kv_bits(bit):
    formats = parse(f"bf16:kv={bit}")
    assert formats.kv == KV_BITS[str(bit)]
    write = named(lower_dense(LLAMA, formats, ONE, 0, 10), "kv_write")
    assert write["write_byte"] == 10 * 2 * 32 * 128 * bit / 8
    assert write["act_byte"] == 10 * 2 * 32 * 128 * 2
    assert (write["flop"] > 0) == (bit < 16)  # narrowing costs


def test_head_keeps_16_bits_unless_named():
    assert named(lower_head(LLAMA, parse("w4a16"), ONE, 0, 1), "lm_head")["weight_byte"] == 32000 * 4096 * 2
    assert named(lower_head(LLAMA, parse("fp8:head=fp8"), ONE, 0, 1), "lm_head")["weight_byte"] == 32000 * 4096


def test_gpt_oss_is_narrow_in_its_experts_alone():
    formats = parse("mxfp4_a16", family=models.load("gpt-oss-20b").family)
    assert (formats.expert, formats.attention, formats.ffn, formats.head) == ("mxfp4_a16", "bf16", "bf16", "bf16")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fp9", "nearest: fp8"),
        ("bf16:kv=3", "kv = '3'"),
        ("bf16:kv", "not part=format"),
        ("bf16:weights=fp8", "not part=format"),
        ("int2", "no such format"),
        ("bf16:activation=fp8", "activation = 'fp8'"),
    ],
)
def test_wrong_names(text, words):
    with pytest.raises(InputError) as caught:
        parse(text)
    assert words in str(caught.value)
