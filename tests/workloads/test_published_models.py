"""Checkpoints of current families: parameters, active parameters and KV bytes against what their publishers say."""

import pytest

from kernels.errors import InputError
from tests.shared_data import folder
from tests.workloads.published_configs import DEEPSEEK_V3, PUBLISHED, QWEN3_14B, QWEN3_NEXT
from tests.workloads.published_newer import NEWER
from workloads import formats, kv, model_check, models, placement
from workloads.models.catalogue import from_dict
from workloads.placement import Placement

ACTIVE_BOUND = 0.02  # published to two digits


@pytest.mark.parametrize("name", sorted(PUBLISHED | NEWER))
def test_published_counts(name):
    said = (PUBLISHED | NEWER)[name]
    model = from_dict(said.config, name)
    assert models.num_param(model) == pytest.approx(said.param, rel=said.bound)
    if said.active:
        assert models.num_active_param(model) == pytest.approx(said.active, rel=max(said.bound, ACTIVE_BOUND))
    if said.kv_byte:
        kept = kv.groups(model, formats.of(model), Placement())
        assert kv.token_byte(kept) == pytest.approx(said.kv_byte, rel=1e-9)


def test_qwen3_next_keeps_keys_in_a_quarter_of_its_layers():
    model = from_dict(QWEN3_NEXT, "x")
    full, conv, recurrent = sorted(kv.groups(model, formats.of(model), Placement()), key=lambda g: g.rule)
    assert (full.rule, full.num_layer, full.unit_byte) == ("linear", 12, 2 * 2 * 256 * 2)
    assert (conv.num_layer, conv.unit_byte) == (36, 3 * (2 * 16 * 128 + 32 * 128) * 2)
    assert recurrent.unit_byte == 32 * 128 * 128 * 4
    stated = from_dict(QWEN3_NEXT | {"mamba_ssm_dtype": "bfloat16"}, "x")
    assert kv.groups(stated, formats.of(stated), Placement())[1].unit_byte == 32 * 128 * 128 * 2


@pytest.mark.parametrize(
    ("scaling", "stated", "context"),
    [
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 32768, 131_072),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 40960, 131_072),
        ({"type": "yarn", "factor": 4.0}, 32768, 131_072),
        ({"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096}, 163840, 163_840),
        ({"type": "linear", "factor": 2.0}, 4096, 8192),
        ({"type": "dynamic", "factor": 2.5}, 262144, 655_360),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}, 131072, 131_072),
        ({"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}, 131072, 131_072),
        ({"rope_type": "default", "mrope_section": [16, 24, 24]}, 128000, 128_000),
        (None, 40960, 40_960),
    ],
)  # fmt: skip
def test_scaled_positions(scaling, stated, context):
    model = from_dict(QWEN3_14B | {"rope_scaling": scaling, "max_position_embeddings": stated}, "x")
    assert model.max_context == context


def test_positions_named_by_the_later_field():
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768, "rope_theta": 1e6}
    assert from_dict(QWEN3_14B | {"rope_parameters": yarn}, "x").max_context == 131_072
    gemma = PUBLISHED["gemma-4-31B"].config
    assert from_dict(gemma, "x").max_context == 262_144  # a table a kind of layer, none of which scales


def test_prediction_heads_are_no_part_of_the_model():
    with_head, without = from_dict(DEEPSEEK_V3, "x"), from_dict(DEEPSEEK_V3 | {"num_nextn_predict_layers": 0}, "x")
    assert models.num_param(with_head) == models.num_param(without)
    # arXiv 2412.19437: 14 B of weights, of which embedding and head (1.85 B, counted once more there) and 0.1 B apart
    assert models.num_mtp_param(with_head) == pytest.approx(11.6e9, rel=0.01)
    assert models.num_mtp_param(without) == 0


def test_vision_encoders_stand_apart():
    text = {name: value for name, value in QWEN3_14B.items() if name != "model_type"} | {"model_type": "qwen3_vl_text"}
    vision = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "patch_size": 16,
              "temporal_patch_size": 2, "spatial_merge_size": 2, "out_hidden_size": 5120,
              "deepstack_visual_indexes": [8, 16, 24]}  # fmt: skip
    model = from_dict({"model_type": "qwen3_vl", "text_config": text, "vision_config": vision}, "x")
    assert models.num_param(model) == models.num_param(from_dict(QWEN3_14B, "x"))
    # 27 layers of 15.2 M, and four mergers of 4608 x 4608 and 4608 x 5120
    assert models.vision.num_param(model.vision) == pytest.approx(27 * 15.24e6 + 4 * 44.8e6 + 1.8e6, rel=0.005)
    assert model.vision.num_token(1024, 768) == 32 * 24


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"compress_ratios": [4] * 3}, ["compress_ratios", "43 whole numbers"]),
        ({"hc_mult": "four"}, ["hc_mult = 'four'"]),
    ],
)
def test_wrong_fields_of_v4(changes, words):
    with pytest.raises(InputError) as caught:
        from_dict(PUBLISHED["DeepSeek-V4-Flash"].config | changes, "x")
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("Nemotron-H-8B", {"hybrid_override_pattern": "MX*"}, "M, *, - and E"),
        ("Nemotron-H-8B", {"hybrid_override_pattern": "M*-"}, "52 signs"),
        ("Nemotron-NAS-like", {"block_configs": None}, "block_configs"),
        ("Nemotron-NAS-like", {"num_hidden_layers": 5}, "5 objects"),
        ("Kimi-Linear-48B-A3B", {"linear_attn_config": 3}, "linear_attn_config = 3"),
        ("Qwen3-14B", {"rope_scaling": {"type": "yarn", "factor": -4}}, "factor = -4"),
    ],
)
def test_wrong_fields_of_layer_patterns(name, changes, words):
    with pytest.raises(InputError) as caught:
        from_dict(PUBLISHED[name].config | changes, "x")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_experts", 64),
        ("kv_lora_rank", 512),
        ("index_topk", 2048),
        ("linear_attn_config", {"num_heads": 8}),
        ("cross_attention_layers", [3, 8]),
        ("is_encoder_decoder", True),
        ("attn_output_gate", True),
        ("zero_expert_num", 128),
    ],
)
def test_fields_that_a_family_does_not_know_are_not_dropped(field, value):
    with pytest.raises(InputError, match=f"{field} = "):
        from_dict(QWEN3_14B | {field: value}, "x")
    from_dict(QWEN3_14B | {field: None}, "x")


def test_layers_block_type_spells_the_pattern_out():
    said = PUBLISHED["Nemotron-3-Nano-30B-A3B"]
    words = {"M": "mamba", "*": "attention", "E": "moe"}
    listed = [words[sign] for sign in said.config["hybrid_override_pattern"]]
    other = from_dict(said.config | {"hybrid_override_pattern": None, "layers_block_type": listed}, "x")
    assert models.num_param(other) == models.num_param(from_dict(said.config, "x"))


def test_recurrent_heads_are_divided_by_tensor_parallelism():
    model = from_dict(QWEN3_NEXT, "x")
    one, two = (kv.state_byte(kv.groups(model, formats.of(model), Placement(tp=tp))) for tp in (1, 2))
    assert two == one / 2
    with pytest.raises(InputError, match="attention heads"):
        placement.make(model, tp=32)


def test_every_shared_configuration_loads():
    rows = model_check.check(folder("model_configs"))
    assert [row["file"] for row in rows if row["reason"]] == []
    named = {row["file"]: row for row in rows}
    assert named["typed--olmoe-1b-7b.json"]["param"] == pytest.approx(6.919e9, rel=5e-4)
    assert named["nvidia--Llama-3_3-Nemotron-Super-49B-v1_config.json"]["param"] == pytest.approx(49.87e9, rel=5e-4)


def test_a_null_in_a_nested_model_means_none():
    """Kimi-VL's language model has queries of full rank: what its class would fill in is not for it."""
    inner = PUBLISHED["Moonlight-16B-A3B"].config | {"q_lora_rank": None}
    nested = from_dict({"model_type": "kimi_vl", "text_config": inner}, "x")
    assert models.num_param(nested) == models.num_param(from_dict(inner, "x"))
    assert all(not block.attention.q_rank for block in nested.block)


def test_experts_that_give_back_their_input_cost_nothing():
    """LongCat: of the 12 that a token chooses out of 512 real and 256 idle experts, 8 are real on average."""
    said = NEWER["LongCat-Flash-Chat"].config
    some, none = from_dict(said, "x"), from_dict(said | {"zero_expert_num": 0}, "x")
    assert [model.block[0].ffn.topk for model in (some, none)] == [8, 12]
    assert some.num_layer == 2 * said["num_layers"]


def test_weights_that_uses_share_are_stored_once():
    """Zamba2: nine uses of one block, of which eight add their adapters and projection alone."""
    said = NEWER["Zamba2-2.7B-class"].config
    once, twice = (from_dict(said | {"num_mem_blocks": number}, "x") for number in (1, 2))
    shared = 3 * 5120 * 5120 + 5120 * 2560 + 3 * 2560 * 10240 + 3 * 2560
    assert models.num_param(twice) - models.num_param(once) == shared
    assert kv.token_byte(kv.groups(once, formats.of(once), Placement())) == 9 * 2 * 32 * 160 * 2


def test_rotary_shares_of_gemma():
    """A share that the file states holds for Gemma too, in all layers or in those of a kind."""
    said = PUBLISHED["Qwen3-14B"].config | {"model_type": "gemma2", "sliding_window": 4096}
    assert {block.attention.rope_dim for block in from_dict(said, "x").block} == {128}
    half = from_dict(said | {"partial_rotary_factor": 0.5}, "x")
    assert {block.attention.rope_dim for block in half.block} == {64}
