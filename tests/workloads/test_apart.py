"""A step lowered for two machines: nothing is lost, nothing is done twice, and what crosses is counted by hand."""

import numpy as np
import pytest

from kernels import optable as op
from kernels.errors import InputError
from workloads import apart, formats, lowering, memory, models
from workloads.formats import parse
from workloads.placement import Placement

SIDES = [
    ("llama-3-8b", Placement(), apart.ffn_placement(1, 1, 8)),
    ("llama-3-8b", Placement(tp=2), apart.ffn_placement(4, 1, 8)),
    ("mixtral-8x7b", Placement(), apart.ffn_placement(1, 1, 8)),
    ("mixtral-8x7b", Placement(tp=2), apart.ffn_placement(2, 4, 8)),
    ("deepseek-v3", Placement(tp=4), apart.ffn_placement(1, 32, 8)),
]


def both(name: str, near: Placement, ffn: Placement, token: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a device of each side."""
    model, bf16 = models.load(name), parse("bf16")
    ends, own = apart.lower_attention_side(model, bf16, near, ffn, token, 0.0)
    return np.concatenate([ends, own]), apart.lower_ffn_side(model, bf16, ffn, token, 0.0)


@pytest.mark.parametrize("name", ["llama-3-8b", "qwen3-8b", "gpt3-7b"])
def test_one_device_a_side_does_what_one_device_does(name):
    model, bf16 = models.load(name), parse("bf16")
    plain = lowering.lower_dense(model, bf16, Placement(), 0, 64)
    near, far = both(name, Placement(), apart.ffn_placement(1, 1, 8))
    rows = np.concatenate([near, far])
    rows = rows[rows["kind"] != op.P2P]
    assert sorted(row.tobytes() for row in rows) == sorted(row.tobytes() for row in plain)


@pytest.mark.parametrize(("name", "near", "ffn"), SIDES)
def test_products_of_both_sides_are_those_of_the_model(name, near, ffn):
    plain = lowering.lower_dense(models.load(name), parse("bf16"), Placement(), 0, 64)
    split = [
        (rows[(rows["kind"] == op.GEMM) | (rows["kind"] == op.MOE)], devices)
        for rows, devices in zip(both(name, near, ffn), (near.tp, ffn.stage_device), strict=True)
    ]
    flop = sum(float((rows["flop"] * rows["count"]).sum()) * devices for rows, devices in split)
    whole = plain[(plain["kind"] == op.GEMM) | (plain["kind"] == op.MOE)]
    expected = float((whole["flop"] * whole["count"]).sum())
    down = whole[whole["name"] == b"qkv_a_proj"]  # of latent attention: every device of a group computes it
    again = float((down["flop"] * down["count"]).sum()) * (near.tp - 1)
    assert flop == pytest.approx(expected + again, rel=1e-9)


def test_bytes_over_the_network_by_hand():
    # a dense layer: 64 tokens of 4096 values of 2 bytes each way, half of them from each of two devices
    near, far = both("llama-3-8b", Placement(tp=2), apart.ffn_placement(4, 1, 8))
    for rows, devices in ((near, 2), (far, 4)):
        sent = rows[rows["kind"] == op.P2P]
        assert list(sent["name"]) == [b"to_ffn", b"from_ffn"]
        assert list(sent["link_byte"] * devices) == [64 * 4096 * 2] * 2
        assert list(sent["count"]) == [32, 32]
    # experts one a device: a token goes to both of its experts, to 4 groups of two experts 4 (1 - C(6,2)/C(8,2)) times
    for ep, copies in ((8, 2.0), (4, 4 * (1 - 15 / 28)), (1, 1.0)):
        near, far = both("mixtral-8x7b", Placement(), apart.ffn_placement(1, ep, 8))
        for rows, devices in ((near, 1), (far, ep)):
            sent = rows[rows["kind"] == op.P2P]
            np.testing.assert_allclose(sent["link_byte"] * devices, 64 * 4096 * 2 * copies)


@pytest.mark.parametrize(("name", "near", "ffn"), SIDES)
def test_weights_lie_on_one_side_or_the_other(name, near, ffn):
    model, bf16 = models.load(name), parse("bf16")
    whole = memory.weight_byte(model, bf16, Placement(), 0)
    here = memory.weight_byte(apart.attention_side(model), bf16, Placement(), 0)
    there = apart.ffn_weight_byte(model, bf16, ffn)
    held = there["ffn"] * ffn.tp + there["expert"] * ffn.stage_device  # groups have whole dense parts each
    norm = model.num_layer * model.hidden * 2 * 2  # whose part went
    assert sum(whole.values()) == pytest.approx(sum(here.values()) + held, abs=norm)
    assert here["attention"] == whole["attention"]
    assert here["expert"] == 0


@pytest.mark.parametrize("name", ["gpt-oss-120b", "kimi-k2", "deepseek-v3"])
def test_a_checkpoints_own_formats_lie_where_their_modules_do(name):
    model = models.load(name)
    own, near, ffn = formats.of(model, "auto", "auto"), Placement(), apart.ffn_placement(1, 1, 8)
    here, there = memory.weight_byte(apart.attention_side(model), own, near, 0), apart.ffn_weight_byte(model, own, ffn)
    assert sum(memory.weight_byte(model, own, near, 0).values()) == sum(here.values()) + sum(there.values())
    assert here["expert"] == 0
    assert there["expert"] > 0


@pytest.mark.parametrize(("name", "why"), [
    ("nemotron-h-8b", "has recurrent layers"), ("falcon-7b", "side by side"), ("deepseek-v3.2", "indexer"),
])  # fmt: skip
def test_models_that_cannot_be_parted_are_refused(name, why):
    with pytest.raises(InputError, match=why):
        apart.check(models.load(name), "ffn_system", "h20")
