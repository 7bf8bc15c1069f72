"""What checkpoints say about their number formats: bytes by hand arithmetic, and the named wrong cases."""

import json

import pytest

from kernels.errors import InputError
from tests.workloads.published_configs import DEEPSEEK_V3, PUBLISHED, QWEN3_14B
from workloads import formats, kv, memory, models, placement
from workloads.formats import parse
from workloads.lowering import lower_dense
from workloads.models.catalogue import from_dict
from workloads.placement import Placement

LINEAR = 40 * (5120 * 5120 * 2 + 2 * 5120 * 1024 + 3 * 5120 * 17408)  # of Qwen3-14B: 13.21 B
REST = 14_768_307_200 - LINEAR  # both embeddings and norms
GIB = 2**30


def quantised(config, **said):
    return from_dict(config | {"quantization_config": said}, "x")


def weight_byte(model, weight_format=""):
    chosen = formats.of(model, weight_format)
    return sum(memory.weight_byte(model, chosen, Placement(), 0).values())


INT8 = {"num_bits": 8, "type": "int", "strategy": "channel"}
CASES = {
    # bits a linear weight, compute format
    "awq": ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, 4 + 16 / 128 + 4 / 128, "w4a16"),
    "awq symmetric": ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": False}, 4.125, "w4a16"),
    "gptq": ({"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True}, 4.5, "w4a16"),
    "gptq 8": ({"quant_method": "gptq", "bits": 8, "group_size": -1, "sym": True}, 8, "w8a16"),
    "nf4": ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, 4.5, "w4a16"),
    "nested nf4": ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True},
                   4 + 8 / 64 + 32 / (64 * 256), "w4a16"),
    "int8": ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 8, "int8"),
    "fp8": ({"quant_method": "fp8", "activation_scheme": "static"}, 8, "fp8"),
    "fp8 block": ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 8 + 32 / 128**2, "fp8_block"),
    "w8a8": ({"quant_method": "compressed-tensors", "ignore": ["lm_head"], "config_groups": {"group_0": {
        "targets": ["Linear"], "weights": INT8, "input_activations": INT8 | {"strategy": "token"}}}}, 8, "int8"),
    "w4a16": ({"quant_method": "compressed-tensors", "ignore": ["lm_head"], "config_groups": {"group_0": {
        "targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "group_size": 128, "symmetric": True}}}},
        4.125, "w4a16"),
    "mxfp4 pack": ({"quant_method": "compressed-tensors", "config_groups": {"group_0": {
        "targets": ["Linear"], "weights": {"num_bits": 4, "type": "float", "group_size": 32}}}}, 4.25, "mxfp4_a16"),
    "modelopt": ({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]}, 4.5, "nvfp4"),
    "modelopt fp8": ({"producer": {"name": "modelopt"}, "quant_algo": "FP8", "kv_cache_scheme": "FP8"}, 8, "fp8"),
    "quark": ({"quant_method": "quark", "exclude": ["lm_head"], "global_quant_config": {
        "weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}, "input_tensors": {"dtype": "fp8_e4m3"}}}, 8, "fp8"),
    "torchao": ({"quant_method": "torchao", "quant_type": {"default": {
        "_type": "Int4WeightOnlyConfig", "_data": {"group_size": 128}}}}, 4 + 16 / 128 + 4 / 128, "w4a16"),
    "hqq": ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}},
            4 + 32 / 64, "w4a16"),
    "mxfp8": ({"quant_method": "modelopt", "quant_algo": "MXFP8"}, 8 + 8 / 32, "mxfp8"),
    "mxfp8 pack": ({"quant_method": "compressed-tensors", "config_groups": {"group_0": {
        "targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "group_size": 32},
        "input_activations": {"num_bits": 8, "type": "float", "group_size": 32}}}}, 8 + 8 / 32, "mxfp8"),
    "blocks in words": ({"quant_method": "compressed-tensors", "config_groups": {"group_0": {
        "targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "block",
                                           "block_structure": "128x128"},
        "input_activations": {"num_bits": 8, "type": "float"}}}}, 8 + 32 / 128**2, "fp8_block"),
    "eetq": ({"quant_method": "eetq", "weights": "int8"}, 8, "w8a16"),
    "quanto": ({"quant_method": "quanto", "weights": "int8"}, 8, "w8a16"),
    "auto-round": ({"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True}, 4.125, "w4a16"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(CASES))
def test_bytes_of_every_method(name):
    said, bit, compute = CASES[name]
    model = quantised(QWEN3_14B, **said)
    chosen = formats.of(model)
    assert weight_byte(model) == pytest.approx(LINEAR * bit / 8 + 2 * REST, abs=8)
    assert (chosen.attention, chosen.ffn, chosen.head, chosen.embedding) == (compute, compute, "bf16", "bf16")
    assert chosen.weight_byte("ffn") == bit / 8  # lowering reads the same bytes
    row = lower_dense(model, chosen, Placement(), 0, 1)
    assert row[row["name"] == b"mlp_down"]["weight_byte"][0] == 5120 * 17408 * bit / 8


def test_a_14b_awq_checkpoint():
    """9.24 GiB of weights and scales, and 0.05 of zero points."""
    awq = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
    assert weight_byte(quantised(QWEN3_14B, **(awq | {"zero_point": False}))) / GIB == pytest.approx(9.24, abs=0.005)
    assert weight_byte(quantised(QWEN3_14B, **awq)) / GIB == pytest.approx(9.24 + LINEAR * 4 / 128 / 8 / GIB, abs=0.005)


def test_deepseek_r1_on_eight_h200():
    """671 GB in fp8 over 8 devices, latent down projections on each: about 79 GiB a device, which fits."""
    model = from_dict(DEEPSEEK_V3, "r1")
    placed = placement.make(model, tp=8)
    found = memory.budget(model, formats.of(model), placed, 141e9)
    assert sum(found.weight.values()) / GIB == pytest.approx(79, abs=1)
    assert found.token_capacity > 100_000
    with pytest.raises(InputError, match="does not fit"):
        memory.budget(model, parse("bf16"), placed, 141e9)


def test_the_users_format_overrides_and_says_so():
    model = quantised(QWEN3_14B, quant_method="awq", bits=4, group_size=128)
    chosen = formats.of(model, "fp8")
    assert (chosen.ffn, chosen.checkpoint) == ("fp8", None)
    assert chosen.said == "fp8 overrides the checkpoint's own awq"
    assert weight_byte(model, "fp8") == LINEAR + 2 * REST
    assert formats.of(model, "auto").said == ""
    kept = formats.of(model, "", "fp8")
    assert (kept.kv, kept.ffn) == ("fp8", "w4a16")


@pytest.mark.parametrize(
    "said",
    [
        {
            "quant_method": "compressed-tensors",
            "config_groups": {},
            "kv_cache_scheme": {"num_bits": 8, "type": "float"},
        },
        {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": None, "kv_cache_quant_algo": "FP8"}},
    ],
)
def test_a_checkpoint_may_narrow_its_cache_alone(said):
    chosen = formats.of(quantised(QWEN3_14B, **said))
    assert (chosen.attention, chosen.ffn, chosen.kv) == ("bf16", "bf16", "fp8")
    assert weight_byte(quantised(QWEN3_14B, **said)) == weight_byte(from_dict(QWEN3_14B, "x"))


def test_unknown_methods_are_refused():
    for said, words in (
        ({"quant_method": "owq"}, "quant_method = 'owq'"),
        ({"bits": 4}, "unknown method"),
        ({"quant_method": "modelopt", "quant_algo": "FP3"}, "quant_algo = 'FP3'"),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_scheme": "FP5"}, "kv_cache_scheme = 'FP5'"),
        ({"quant_method": "fp8", "weight_block_size": "big"}, "weight_block_size = 'big'"),
        ({"quant_method": "bitsandbytes"}, "load_in_4bit"),
        ({"quant_method": "aqlm", "nbits_per_codebook": 16}, "quant_method = 'aqlm'"),
        ({"quant_method": "quanto", "weights": "int3"}, "weights = 'int3'"),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, "quantises nothing"),
        ({"quant_method": "gptq", "dynamic": 3}, "cannot be read"),
    ):
        with pytest.raises(InputError) as caught:
            quantised(QWEN3_14B, **said)
        assert words in str(caught.value)


def test_a_format_without_a_kernel_is_counted_but_not_priced():
    model = quantised(QWEN3_14B, quant_method="modelopt", quant_algo="W4A8_AWQ")
    assert weight_byte(model) == pytest.approx(LINEAR * 4.125 / 8 + 2 * REST, abs=8)
    with pytest.raises(InputError, match="quantization_config = 'w4a8'"):
        lower_dense(model, formats.of(model), Placement(), 0, 1)


EXCLUSIONS = {
    "literal": ["model.layers.0.self_attn.q_proj"],
    "language model": ["model.language_model.layers.0.self_attn.q_proj"],
    "glob": ["model.layers.0.self_attn.q*"],
    "regular expression": ["re:.*layers\\.0\\.self_attn\\.q_proj"],
}


@pytest.mark.parametrize("name", sorted(EXCLUSIONS))
def test_modules_that_are_left_out(name):
    said = {"quant_method": "compressed-tensors", "config_groups": {
        "g": {"targets": ["Linear"], "weights": INT8, "input_activations": INT8}}}  # fmt: skip
    all_of_it = weight_byte(quantised(QWEN3_14B, **said, ignore=["lm_head"]))
    less = weight_byte(quantised(QWEN3_14B, **said, ignore=["lm_head", *EXCLUSIONS[name]]))
    assert less - all_of_it == 5120 * 5120  # one byte more for each weight of one projection of one layer


def test_a_part_that_is_left_out_everywhere_has_its_own_format():
    said = {"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "ignore": [
        "lm_head", "model.layers.*.self_attn*"]}  # fmt: skip
    chosen = formats.of(quantised(QWEN3_14B, **said))
    assert (chosen.attention, chosen.ffn, chosen.kv, chosen.label()) == (
        "bf16",
        "nvfp4",
        "fp8",
        "bf16:ffn=nvfp4:kv=fp8",
    )


def test_gpt_oss_keeps_its_experts_in_mxfp4():
    raw = {"model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 24,
           "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "num_local_experts": 32,
           "num_experts_per_tok": 4, "vocab_size": 201088, "sliding_window": 128, "quantization_config": {
               "quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}}  # fmt: skip
    model = from_dict(raw, "gpt-oss-20b")
    assert formats.of(model).label() == "bf16:expert=mxfp4_a16"
    assert weight_byte(model) / GIB == pytest.approx(12.8, rel=0.005)  # model card: 12.8 GiB


def test_v4_names_the_format_of_its_experts():
    fp8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    config = PUBLISHED["DeepSeek-V4-Flash"].config | {"quantization_config": fp8}
    chosen = formats.of(from_dict(config, "x"))
    assert (chosen.expert, chosen.mixer) == ("mxfp4_a16", "fp8_block")
    assert formats.of(from_dict(config | {"expert_dtype": "fp8"}, "x")).expert == "fp8_block"


def test_mixed_precision_by_module_and_experts():
    layers = {f"model.layers.{i}.mlp.experts": {"quant_algo": "NVFP4", "group_size": 16} for i in range(57 + 3)}
    layers |= {f"model.layers.{i}.self_attn.{name}": {"quant_algo": "FP8"} for i in range(60) for name in (
        "q_proj", "k_proj", "v_proj", "o_proj")}  # fmt: skip
    said = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    chosen = formats.of(from_dict(PUBLISHED["MiniMax-M3"].config | {"quantization_config": said}, "x"))
    assert (chosen.expert, chosen.attention, chosen.ffn) == ("nvfp4", "fp8", "bf16")


def test_the_file_beside_the_configuration(tmp_path):
    for config_name, beside in (("config.json", "hf_quant_config.json"), ("m_config.json", "m_hf_quant_config.json")):
        (tmp_path / config_name).write_text(json.dumps(QWEN3_14B))
        (tmp_path / beside).write_text(
            json.dumps({"producer": {"name": "modelopt"}, "quantization": {
                "quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}})
        )  # fmt: skip
        chosen = formats.of(models.read_config(tmp_path / config_name))
        assert (chosen.ffn, chosen.kv, chosen.head) == ("fp8", "fp8", "bf16")


def test_mlx_narrows_embeddings_too():
    model = quantised(QWEN3_14B, group_size=64, bits=4)
    norms = REST - 2 * 151936 * 5120
    assert weight_byte(model) == pytest.approx((LINEAR + 2 * 151936 * 5120) * 4.5 / 8 + 2 * norms, abs=8)
    assert formats.of(model).head == "w4a16"


def test_a_kimi_k2_5_checkpoint():
    """Experts in int4 with a scale a group of 32, all else in 16 bits: 595 GB as published."""
    said = {"quant_method": "compressed-tensors", "format": "pack-quantized", "ignore": [
        "lm_head", "re:.*self_attn.*", "re:.*shared_experts.*", "re:.*mlp\\.(gate|up|gate_up|down)_proj.*"],
        "config_groups": {"group_0": {"targets": ["Linear"], "input_activations": None, "weights": {
            "num_bits": 4, "type": "int", "group_size": 32, "strategy": "group", "symmetric": True}}}}  # fmt: skip
    text = PUBLISHED["Kimi-K2"].config | {"quantization_config": said}
    model = from_dict({"model_type": "kimi_k25", "text_config": text}, "x")
    assert weight_byte(model) / 1e9 == pytest.approx(595, rel=0.005)
    assert formats.of(model).label() == "bf16:expert=w4a16"


def test_fp32_checkpoints_are_stored_wide_and_served_narrow():
    model = from_dict(QWEN3_14B | {"torch_dtype": "float32"}, "x")
    assert weight_byte(model, "stored") == 4 * 14_768_307_200
    assert weight_byte(model) == 2 * 14_768_307_200
    assert formats.of(model).said == "bf16, from a checkpoint in fp32"
    assert kv.token_byte(kv.groups(model, formats.of(model, "stored"), Placement())) == 163_840


def test_kv_schemes_decide_the_cache():
    model = quantised(QWEN3_14B, quant_method="fp8", kv_cache_scheme={"num_bits": 8, "type": "float"})
    assert kv.token_byte(kv.groups(model, formats.of(model), Placement())) == 163_840 / 2


def test_w4a16_and_w8a16_differ_by_their_bytes():
    """The named wrong case: at batch 1 the two are bound by the weights they read, 4.125 bits against 8."""
    llama = models.load("llama-2-7b")
    four, eight = (lower_dense(llama, parse(text), Placement(), 0, 1)["weight_byte"] for text in ("w4a16", "w8a16"))
    linear = four < eight
    assert linear.sum() == 4
    assert (four[linear] / eight[linear]) == pytest.approx(4.125 / 8)
    assert parse("int4_wo") == parse("w4a16")
    assert parse("int8_wo") == parse("w8a16")
