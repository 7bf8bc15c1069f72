"""Configurations as they are saved: by a later library, under later names, or as differences from their class. Each
must be read as the model that the plain form describes."""

import pytest

from kernels.errors import InputError
from tests.workloads.published_configs import PUBLISHED, QWEN3_14B, QWEN3_NEXT
from workloads import formats, kv, models
from workloads.models import class_defaults
from workloads.models.catalogue import from_dict
from workloads.placement import Placement

LATER = {"M": "linear_attention", "*": "full_attention", "-": "mlp", "E": "moe"}


def same(one, other):
    """Whether two descriptions are the same model, layer by layer."""
    return (one.block, one.layer, one.hidden, one.vocab, one.tied) == (
        other.block, other.layer, other.hidden, other.vocab, other.tied
    )  # fmt: skip


@pytest.mark.parametrize("name", ["Nemotron-H-8B", "Nemotron-3-Nano-30B-A3B", "Nemotron-3-Super-120B-A12B"])
def test_a_pattern_of_signs_is_a_list_of_kinds(name):
    plain = PUBLISHED[name].config
    kinds = [LATER[sign] for sign in plain["hybrid_override_pattern"]]
    saved = {key: value for key, value in plain.items() if key != "hybrid_override_pattern"}
    assert same(from_dict(plain, "x"), from_dict(saved | {"layers_block_type": kinds}, "x"))
    with pytest.raises(InputError, match="layers_block_type = 'convolution'"):
        from_dict(saved | {"layers_block_type": ["convolution", *kinds[1:]]}, "x")


def test_recurrent_layers_by_their_later_name():
    plain = PUBLISHED["granite-4.0-h-small"].config
    kinds = ["linear_attention" if kind == "mamba" else kind for kind in plain["layer_types"]]
    assert same(from_dict(plain, "x"), from_dict(plain | {"layer_types": kinds}, "x"))


def test_kimi_linear_without_its_table():
    plain = PUBLISHED["Kimi-Linear-48B-A3B"].config
    own = plain["linear_attn_config"]
    kinds = [
        "linear_attention" if i + 1 in own["kda_layers"] else "full_attention"
        for i in range(plain["num_hidden_layers"])
    ]
    saved = {key: value for key, value in plain.items() if key != "linear_attn_config"} | {
        "layer_types": kinds, "linear_num_heads": own["num_heads"], "linear_head_dim": own["head_dim"],
        "linear_conv_kernel_dim": own["short_conv_kernel_size"],
    }  # fmt: skip
    assert same(from_dict(plain, "x"), from_dict(saved, "x"))


@pytest.mark.parametrize("name", ["gemma-4-26B-A4B", "gemma-4-31B"])
def test_layers_with_fields_of_their_own(name):
    plain = PUBLISHED[name].config
    plain = plain.get("text_config", plain)
    own = {
        f"{i:02}": {"head_dim": plain["global_head_dim"], "num_key_value_heads": plain["num_global_key_value_heads"]}
        for i, kind in enumerate(plain["layer_types"])
        if kind == "full_attention"
    }
    saved = {
        key: value for key, value in plain.items() if not key.endswith(("global_head_dim", "global_key_value_heads"))
    }
    assert same(from_dict(plain, "x"), from_dict(saved | {"per_layer_config": own}, "x"))


def test_a_layer_of_its_own_width():
    wide = from_dict(QWEN3_14B | {"per_layer_config": {"3": {"intermediate_size": 2 * 17408}}}, "x")
    assert models.num_param(wide) - models.num_param(from_dict(QWEN3_14B, "x")) == 3 * 5120 * 17408
    with pytest.raises(InputError, match="per_layer_config"):
        from_dict(QWEN3_14B | {"per_layer_config": [1]}, "x")
    with pytest.raises(InputError, match="per_layer_config = "):  # a reader that asks no layer must not drop it
        from_dict(QWEN3_NEXT | {"per_layer_config": {"3": {"intermediate_size": 8}}}, "x")


@pytest.mark.parametrize(
    ("stated", "turned"),
    [
        ({}, 128),
        ({"partial_rotary_factor": 0.5}, 64),
        ({"rotary_dim": 32}, 32),
        ({"rope_parameters": {"partial_rotary_factor": 0.25, "rope_type": "default"}}, 32),
        ({"rope_parameters": {"full_attention": {"partial_rotary_factor": 0.25}}}, 32),
    ],
)
def test_turned_channels(stated, turned):
    assert from_dict(QWEN3_14B | stated, "x").block[0].attention.rope_dim == turned


# A table for each kind of layer, as Gemma 4's files have them; the kind without a share turns whole heads.
TABLES = {"full_attention": {"partial_rotary_factor": 0.25}, "sliding_attention": {"rope_theta": 1e4}}
MIXED = QWEN3_14B | {
    "layer_types": ["sliding_attention"] * 39 + ["full_attention"], "sliding_window": 1024, "use_sliding_window": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("tables", "sliding", "full"),
    [
        (TABLES, 128, 32),
        (dict(reversed(TABLES.items())), 128, 32),  # the order of the tables says nothing
        ({kind: {"partial_rotary_factor": part} for kind, part in zip(TABLES, (0.5, 0.25), strict=True)}, 32, 64),
        ({"sliding_attention": {"partial_rotary_factor": 0.5}}, 64, 128),
        (TABLES | {"full_attention": {"partial_rotary_factor": 0.25, "rope_type": "proportional"}}, 128, 128),
    ],
)
def test_turned_channels_of_each_kind_of_layer(tables, sliding, full):
    model = from_dict(MIXED | {"rope_parameters": tables}, "x")
    turned = {bool(block.attention.window): block.attention.rope_dim for block in model.block}
    assert turned == {True: sliding, False: full}
    gemma = {
        "model_type": "gemma4_text", "num_hidden_layers": 6, "hidden_size": 512, "intermediate_size": 1024,
        "num_attention_heads": 4, "head_dim": 128, "global_head_dim": 128, "rope_parameters": tables,
    }  # fmt: skip
    gemma_turned = {bool(block.attention.window): block.attention.rope_dim for block in from_dict(gemma, "x").block}
    assert gemma_turned == turned


def test_a_layer_s_own_table_goes_before_the_file_s_share():
    both = MIXED | {"rope_parameters": TABLES, "partial_rotary_factor": 0.5}
    turned = {bool(block.attention.window): block.attention.rope_dim for block in from_dict(both, "x").block}
    assert turned == {True: 64, False: 32}
    with pytest.raises(InputError, match="rope_parameters = "):
        from_dict(QWEN3_14B | {"rope_parameters": [1]}, "x")


# Fields of text_config that the publisher's file has; everything else is the class's. Counts: the checkpoints' own
# (safetensors index) less a SigLIP encoder of 416,866,032 and a projection of 1152 x hidden + 1152; LLaVA 1.5's
# language model is Llama 2 7B's with 64 rows more.
BRIEF = {
    "gemma-3-4b-it": ("gemma3", {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text",
                                 "num_hidden_layers": 34, "sliding_window": 1024},
                      4_300_079_472 - 416_866_032 - 1152 * 2561),
    "gemma-3-27b-it": ("gemma3", {"head_dim": 128, "hidden_size": 5376, "intermediate_size": 21504,
                                  "model_type": "gemma3_text", "num_attention_heads": 32, "num_hidden_layers": 62,
                                  "num_key_value_heads": 16, "sliding_window": 1024},
                       27_432_406_640 - 416_866_032 - 1152 * 5377),
    "llava-1.5-7b-hf": ("llava", {"model_type": "llama", "max_position_embeddings": 4096, "vocab_size": 32064},
                        6_738_415_616 + 2 * 64 * 4096),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(BRIEF))
def test_what_the_class_fills_in(name):
    kind, text, count = BRIEF[name]
    assert models.num_param(from_dict({"model_type": kind, "text_config": text}, name)) == count


def test_absent_is_the_class_and_null_is_none():
    mixtral = {"model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
               "num_attention_heads": 32, "num_experts_per_tok": 2, "vocab_size": 32000,
               "max_position_embeddings": 32768}  # fmt: skip
    brief = from_dict(mixtral, "x")
    assert models.num_param(brief) == 46_702_792_704  # 8 experts, 8 key-value heads
    assert brief.block[0].attention.num_kv_head == 8
    assert from_dict(mixtral | {"num_key_value_heads": None}, "x").block[0].attention.num_kv_head == 32


def test_a_file_of_its_own_states_its_sizes():
    for field in ("hidden_size", "num_hidden_layers", "vocab_size"):
        with pytest.raises(InputError, match=f"{field}.* is missing"):
            from_dict({key: value for key, value in QWEN3_14B.items() if key != field}, "x")


def test_what_the_class_says_is_never_said_twice():
    """A field under another of its names is there: the class's value under the first must not win over it."""
    raw = {"model_type": "qwen3_moe", "num_local_experts": 64}
    assert "num_experts" not in class_defaults.filled(raw, True)
    assert class_defaults.filled({"model_type": "nobody"}, True) == {"model_type": "nobody"}


def test_the_head_is_the_whole_models():
    text = {key: value for key, value in QWEN3_14B.items() if key != "model_type"} | {"model_type": "qwen3_vl_text"}
    tied = {"model_type": "qwen3_vl", "tie_word_embeddings": False, "text_config": text | {"tie_word_embeddings": True}}
    assert not from_dict(tied, "x").tied
    assert from_dict({**tied, "tie_word_embeddings": None}, "x").tied


def test_patches_by_height_and_width():
    vision = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
              "patch_size": [14, 14]}  # fmt: skip
    text = QWEN3_14B | {"model_type": "qwen3"}
    assert from_dict({"model_type": "internvl", "text_config": text, "vision_config": vision}, "x").vision.patch == 14
    with pytest.raises(InputError, match="patch_size"):
        from_dict(
            {"model_type": "internvl", "text_config": text, "vision_config": vision | {"patch_size": [14, 7]}}, "x"
        )


def test_recurrent_state_in_the_format_of_the_class():
    plain = PUBLISHED["Nemotron-H-8B"].config
    said = {key: value for key, value in plain.items() if key != "mamba_ssm_cache_dtype"}
    half = from_dict(said | {"mamba_ssm_cache_dtype": "bfloat16"}, "x")
    model = from_dict(said, "x")
    whole, narrow = (kv.state_byte(kv.groups(m, formats.of(m), Placement())) for m in (model, half))
    conv = narrow - 24 * 128 * 64 * 128 * 2  # 24 Mamba-2 layers of 128 heads of 64 channels and a state of 128
    assert whole - conv == 24 * 128 * 64 * 128 * 4
