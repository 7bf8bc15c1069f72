"""Ready models: parameter counts against the published ones, and reading configurations."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.errors import InputError
from tests.workloads.published_configs import PUBLISHED as CONFIGS
from tests.workloads.published_newer import NEWER
from workloads import models, placement
from workloads.formats import Formats
from workloads.lowering import lower_dense
from workloads.models.catalogue import FOLDER, families, from_dict
from workloads.models.fields import read_json

TYPED = CONFIGS | NEWER

# Published parameter counts. Counts to the last digit are those that Hugging Face shows for the checkpoint or
# that its model class counts; others are as the named paper or card rounds them.
PUBLISHED = {
    "llama-2-7b": 6_738_415_616,  # checkpoint
    "llama-2-13b": 13_015_864_320,  # checkpoint
    "llama-2-70b": 68_976_648_192,  # checkpoint
    "llama-3-8b": 8_030_261_248,  # checkpoint
    "llama-3-70b": 70_553_706_496,  # checkpoint
    "llama-3.1-8b": 8_030_261_248,
    # the authors' modules (cartesia-ai/edge) by hand: in and out projections, convolution, D, gate bias, MLP, norms
    "llamba-8b": 2 * 128_256 * 4096 + 4096 + 32 * (4096 * 16_416 + 8192 * 5 + 4128 + 3 * 4096 * 14_336 + 2 * 4096),
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,  # checkpoint
    "llama-3.2-1b": 1_235_814_400,  # checkpoint, tied
    "llama-4-scout": 108_641_793_536 - 873_000_000,  # checkpoint less its vision encoder of 0.87 B
    "llama-4-maverick": 401_583_781_376 - 873_000_000,  # the same encoder
    "mistral-7b": 7_241_732_096,  # checkpoint
    "mistral-7b-v0.2": 7_241_732_096,  # checkpoint
    "mixtral-8x7b": 46_702_792_704,  # checkpoint; arXiv 2401.04088: 47 B
    "mixtral-8x22b": 140_630_071_296,  # checkpoint; card: 141 B
    "qwen2.5-7b": 7_615_616_512,  # checkpoint; card: 7.61 B
    "qwen2.5-72b": 72_706_203_648,  # checkpoint; card: 72.7 B
    "qwen3-4b": 4_022_468_096,  # checkpoint; card: 4.0 B
    "qwen3-8b": 8_190_735_360,  # checkpoint; card: 8.2 B
    "qwen3-14b": 14_768_307_200,  # checkpoint; card: 14.8 B
    "qwen3-32b": 32_762_123_264,  # checkpoint; card: 32.8 B
    "qwen3-30b-a3b": 30_532_122_624,  # checkpoint; card: 30.5 B
    "qwen3-235b-a22b": 235_093_634_560,  # checkpoint; card: 235 B
    "qwen3-coder-480b-a35b": 480.2e9,  # card: 480 B
    "qwen1.5-7b": 7_721_324_544,  # checkpoint
    "yi-34b": 34_388_917_248,  # checkpoint; arXiv 2403.04652: 34 B
    "codellama-34b": 33_743_970_304,  # checkpoint
    "falcon-7b": 6_921_720_704,  # model class, head tied
    "falcon-40b": 41_303_293_952,  # model class, head tied (the checkpoint stores the head again: 41.8 B)
    "falcon-180b": 179_522_565_120 - 65_024 * 14_848,  # checkpoint less the tied head that it stores again
    "gpt2": 124_439_808,  # model class
    "gpt2-xl": 1_557_611_200,  # model class
    "gpt3-7b": 6.66e9,  # 12 L E^2 + (V + 2048) E, which arXiv 2005.14165, table 2.1 rounds to 6.7 B
    "gpt3-13b": 12.85e9,  # 12 L E^2 + (V + 2048) E of the NPU-PIM paper's 40 layers of 5,120; GPT-3's own has 5,140
    "gpt3-30b": 30e9,  # the same paper's 48 layers of 7,168
    "gpt3-175b": 175.0e9,  # arXiv 2005.14165, table 2.1 (175.0 B)
    "megatron-22b": 22.0e9,  # Korthikanti et al. 2022, table 3
    "megatron-530b": 529.6e9,
    "megatron-1t": 1008.0e9,
    "opt-6.7b": 6.66e9,  # 12 L E^2 + (V + 2050) E, which arXiv 2205.01068, table 1 rounds to 6.7 B
    "opt-30b": 30e9,  # arXiv 2205.01068, table 1
    "opt-13b": 12_853_473_280,  # model class
    "opt-66b": 65.7e9,  # model class, rounded
    "opt-175b": 175e9,  # arXiv 2205.01068
    "bloom-176b": 176_247_271_424,  # model card
    "palm-540b": 540.35e9,  # arXiv 2204.02311, table 1
    "gemma-7b": 8_537_680_896,  # checkpoint
    "gemma-2-27b": 27_227_128_320,  # checkpoint
    "gemma-3-4b": 4_300_079_472 - 420e6,  # checkpoint less vision encoder and projector, as the 27B
    "gemma-3-12b": 12_187_325_040 - 420e6,
    "gemma-3-27b": 27_009_346_304,  # checkpoint less vision encoder and projector (27.43 B - 0.42 B)
    "phi-2": 2_779_683_840,  # checkpoint
    "phi-3-mini": 3_821_079_552,  # checkpoint
    "deepseek-v2-lite": 15_706_484_224,  # checkpoint; arXiv 2405.04434: 15.7 B
    "deepseek-v2": 235_741_434_880,  # checkpoint; arXiv 2405.04434: 236 B
    "deepseek-v3": 671_026_419_200,  # arXiv 2412.19437: 671 B, without the multi-token-prediction layer
    "gpt-oss-20b": 20_914_757_184,  # arXiv 2508.10925: 20.91 B
    "gpt-oss-120b": 116_829_156_672,  # arXiv 2508.10925: 116.83 B
    "command-r": 34_980_831_232,  # checkpoint
    "deepseek-v3.2": 671_026_419_200 + 61 * (1536 * 8192 + 7168 * 192 + 256),  # V3 and 61 indexers
    "deepseek-v4-flash": 284.3e9,  # card: 284 B
    "falcon-h1-7b": 7.59e9,  # checkpoint
    "gemma-4-26b-a4b": 25.23e9,  # card: 25.2 B
    "gemma-4-31b": 30.7e9,  # card
    "glm-4.5-air": 106.85e9,  # arXiv 2508.06471: 106 B
    "glm-5": 744e9,  # card
    "granite-3.1-8b": 8_170_848_256,  # checkpoint
    "granite-4.0-h-small": 32.2e9,  # card
    "jamba-mini": 51_570_323_328,  # checkpoint; arXiv 2403.19887: 52 B
    "kimi-k2": 1026.4e9,  # checkpoint without scales; arXiv 2507.20534: 1.04 T
    "kimi-linear-48b-a3b": 49.12e9,  # checkpoint
    "mimo-v2-flash": 309e9,  # card
    "minimax-m2": 228.69e9,  # checkpoint; card: 230 B
    "minimax-m3": 426.17e9,  # the sum of `published_configs`
    "nemotron-3-nano-30b-a3b": 31.58e9,  # arXiv 2512.20848: 31.6 B
    "nemotron-3-super-120b-a12b": 120.67e9,  # card: 120.6 B
    "nemotron-h-8b": 8.10e9,  # checkpoint
    "olmo-2-7b": 7_298_617_344,  # checkpoint
    "olmoe-1b-7b": 6.919e9,  # arXiv 2409.02060
    "phi-3.5-moe": 41.873e9,  # card: 41.9 B
    "qwen3-next-80b-a3b": 79.67e9,  # checkpoint without its prediction head; card: 80 B
    "seed-oss-36b": 36_151_104_512,  # checkpoint
    "smollm3-3b": 3_075_098_624,  # checkpoint
    "glam-143b": 143e9,  # arXiv 2112.06905, table 4 (8B/64E)
    "grok-1": 314e9 + 131_072 * 6_144,  # 314 B by its release note, in which the embedding is not counted
}
# Parameters that a token meets; "less embedding" where the publication leaves the input embedding out.
ACTIVE = {
    "mixtral-8x7b": (12.9e9, 0),  # arXiv 2401.04088: 13 B
    "mixtral-8x22b": (39e9, 0),  # release note
    "qwen3-235b-a22b": (22e9, 0),  # arXiv 2505.09388
    "deepseek-v2": (21e9, 102_400 * 5_120),  # arXiv 2405.04434
    "deepseek-v3": (37e9, 129_280 * 7_168),  # arXiv 2412.19437
    "gpt-oss-20b": (3.61e9, 201_088 * 2_880),  # arXiv 2508.10925
    "gpt-oss-120b": (5.13e9, 201_088 * 2_880),  # arXiv 2508.10925
    "llama-4-scout": (17e9, 0),  # model card
    "llama-4-maverick": (17e9, 0),  # model card
}


def test_every_ready_model_has_a_published_count():
    assert sorted(PUBLISHED) == models.names()


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_parameters_equal_the_published(name):
    assert models.num_param(models.load(name)) == pytest.approx(PUBLISHED[name], rel=0.005)


@pytest.mark.parametrize("name", sorted(ACTIVE))
def test_active_parameters(name):
    published, embedding = ACTIVE[name]
    assert models.num_active_param(models.load(name)) - embedding == pytest.approx(published, rel=0.02)  # two digits


def test_layer_patterns():
    def windows(name):
        model = models.load(name)
        return [model.block[i].attention.window for i in model.layer]

    assert windows("gemma-2-27b")[:4] == [4096, 0, 4096, 0]  # local first
    assert windows("gemma-3-27b")[:7] == [1024] * 5 + [0, 1024]  # five local, one global
    assert windows("gpt-oss-20b")[:2] == [128, 0]
    assert windows("llama-4-scout")[:4] == [8192] * 3 + [0]  # every fourth layer full, without positions
    scout = models.load("llama-4-scout")
    assert [scout.block[i].attention.rope_dim for i in scout.layer][:4] == [128] * 3 + [0]
    glam = models.load("glam-143b")
    assert [glam.block[i].ffn.num_expert for i in glam.layer][:4] == [0, 64, 0, 64]
    v3 = models.load("deepseek-v3")
    assert [v3.block[i].ffn.num_expert for i in v3.layer][:4] == [0, 0, 0, 256]
    maverick = models.load("llama-4-maverick")
    assert [maverick.block[i].ffn.num_expert for i in maverick.layer][:4] == [0, 128, 0, 128]


def test_head_dim_is_read_not_assumed():
    qwen = models.load("qwen3-30b-a3b")
    assert qwen.block[0].attention.head_dim == 128
    assert qwen.hidden // 32 == 64  # what an assumption would have given


def test_falcon_7b_is_multi_query_and_parallel():
    block = models.load("falcon-7b").block[0]
    assert block.attention.num_kv_head == 1
    assert (block.parallel, block.num_norm) == (True, 1)
    assert models.load("falcon-40b").block[0].num_norm == 2


def config(**changes):
    return read_json(FOLDER / "configs" / "llama-2-7b.json") | changes


def test_nested_text_config():
    whole = {"model_type": "mistral3", "vision_config": {}, "text_config": config()}
    assert from_dict(whole, "x").hidden == 4096


def test_gemma3_leaves_out_what_equals_its_defaults():
    small = {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "hidden_size": 2560,
             "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024}}  # fmt: skip
    model = from_dict(small, "gemma-3-4b")
    assert models.num_param(model) == pytest.approx(3.88e9, rel=0.005)  # card: 4.3 B with the 0.42 B vision encoder


def test_llama4_lists_of_layers():
    raw = read_json(FOLDER / "configs" / "llama-4-scout.json")
    raw["text_config"] |= {"no_rope_layers": [0] + [1] * 47, "moe_layers": [2, 5]}
    model = from_dict(raw, "x")
    blocks = [model.block[i] for i in model.layer]
    assert [i for i, block in enumerate(blocks) if not block.attention.rope_dim] == [0]
    assert [i for i, block in enumerate(blocks) if block.ffn.num_expert] == [2, 5]


def test_ready_names_come_before_folders(tmp_path, monkeypatch):
    (tmp_path / "gpt2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert models.load("gpt2").num_layer == 12
    with pytest.raises(InputError, match="no such model"):
        models.load("")


def test_window_by_layer_types():
    kinds = ["sliding_attention", "full_attention"] * 16
    model = from_dict(config(model_type="qwen2", layer_types=kinds, sliding_window=512), "x")
    assert [model.block[i].attention.window for i in model.layer][:2] == [512, 0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "lama"}, ["model_type = 'lama'", "unknown architecture", "nearest: llama"]),
        ({"model_type": None}, ["model_type is missing", "LlamaForCausalLM"]),
        ({"hidden_size": None}, ["hidden_size", "missing"]),
        ({"hidden_size": -4096}, ["hidden_size = -4096", "1 to"]),
        ({"hidden_size": 4096.5}, ["hidden_size = 4096.5"]),
        ({"hidden_size": "big"}, ["hidden_size = 'big'"]),
        ({"hidden_size": float("nan")}, ["hidden_size = nan"]),
        ({"num_hidden_layers": 10**9}, ["num_hidden_layers", "10000"]),
        ({"num_hidden_layers": True}, ["num_hidden_layers = True"]),
        ({"num_key_value_heads": 5}, ["num_key_value_heads = 5", "divisor of 32"]),
        ({"num_attention_heads": 31, "num_key_value_heads": 31}, ["num_attention_heads = 31"]),
        ({"tie_word_embeddings": "yes"}, ["tie_word_embeddings = 'yes'", "true, false"]),
        ({"text_config": 3}, ["text_config = 3"]),
        ({"layer_types": ["full_attention"]}, ["layer_types", "32 words"]),
        ({"head_dim": 10_000, "num_attention_heads": 10_000, "num_key_value_heads": 10_000}, []),
    ],
)  # fmt: skip
def test_bad_fields_are_named_with_their_file(tmp_path, changes, words):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config(**changes)))
    if not words:
        assert models.read_config(path).name == tmp_path.name
        return
    with pytest.raises(InputError) as caught:
        models.read_config(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", ["is not JSON", ":1"]),
        ("[]", ["is not a JSON object"]),
        ("[" * 100_000, ["nested too deep"]),
        ('{"a": ' + "9" * 5000 + "}", ["is not JSON"]),
    ],
)
def test_files_that_are_not_configurations(tmp_path, text, words):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        models.load(path)
    assert all(word in str(caught.value) for word in words)
    with pytest.raises(InputError, match="cannot be read"):
        models.load(tmp_path / "absent.json")


def test_a_new_model_is_one_file(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config(num_hidden_layers=2)))
    assert models.load(tmp_path).num_layer == 2
    assert models.load(str(tmp_path / "config.json")).num_layer == 2


def test_every_family_has_a_model_that_is_read():
    known = {models.load(name).family for name in models.names()}
    known |= {from_dict(said.config, name).family for name, said in TYPED.items()}
    assert known == {reader.__module__.rsplit(".", 1)[1] for reader in families().values()}


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**12),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=3),
)


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(models.names() + sorted(TYPED)), data=st.data())
def test_any_configuration_is_read_or_refused(name, data):
    """Whatever stands in a file, the answer is a usable model or an `InputError`."""
    raw = copy.deepcopy(TYPED[name].config) if name in TYPED else read_json(FOLDER / "configs" / f"{name}.json")
    inner = raw.get("text_config", raw)
    for key in data.draw(st.lists(st.sampled_from(sorted(inner)), min_size=1, max_size=3)):
        inner[key] = data.draw(JUNK)
    try:
        model = from_dict(raw, name)
        flop = lower_dense(model, Formats(), placement.make(model), 0, 8)["flop"]
    except InputError:
        return
    assert (flop >= 0).all()
