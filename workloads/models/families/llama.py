"""One decoder architecture under many names: Llama, Mistral, Qwen, Granite, OLMo, GLM, MiniMax-M2, Step and others.

Norm, attention with rotary positions and grouped queries, norm, feed-forward part or experts. Its members differ in
biases, norms of queries and keys, windows, gates and experts; `TRAIT` holds what their configurations leave to the
code, everything else is read.
"""

from dataclasses import dataclass

from workloads.models.families._experts import DENSE, expert_layers, has_experts, routed
from workloads.models.fields import Fields
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec, pattern


@dataclass(frozen=True)
class Trait:
    qkv_bias: bool = False  # whatever the file says
    out_bias: str = "attention_bias"  # the field that gives the output projection one; empty: it never has
    qk_norm: str = ""  # norms of queries and keys: "" none, "head" a weight a channel, "full" one of the whole width
    window: bool = False  # `sliding_window` counts without `use_sliding_window`
    expert: bool = False
    shared_gate: bool = False
    router_bias: bool = False
    norm: str = "rms"
    norm_bias: bool = False
    gated: bool = True
    bias: bool = False  # of the feed-forward part, where the file says nothing
    num_norm: int = 2
    parallel: bool = False
    tied: bool = False  # where the file says nothing
    rotary: float = 1.0  # share of a head's channels, where the file says nothing
    gate: str = ""  # a gate on attention's result: "head" a value a head, "full" a channel each
    kv_head: int = 0  # where the file says nothing; 0: as many as query heads
    sink: bool = False  # a learned logit a head


TRAIT = {
    "llama": Trait(),
    "yi": Trait(),
    "Yi": Trait(),
    "mistral": Trait(window=True),
    "ministral": Trait(window=True),
    "ministral3": Trait(),
    "mixtral": Trait(window=True, expert=True),
    "phi3": Trait(window=True),
    "phi3_v": Trait(window=True),
    "phi4mm": Trait(),
    "phi4_multimodal": Trait(),
    "minicpm": Trait(),
    "phimoe": Trait(window=True, expert=True, norm="layer", norm_bias=True),
    "qwen2": Trait(qkv_bias=True, out_bias=""),
    "qwen2_vl": Trait(qkv_bias=True, out_bias=""),
    "qwen2_5_vl": Trait(qkv_bias=True, out_bias=""),
    "qwen2_5_omni": Trait(qkv_bias=True, out_bias=""),
    "qwen2_5_omni_thinker": Trait(qkv_bias=True, out_bias=""),
    "qwen2_moe": Trait(qkv_bias=True, out_bias="", expert=True, shared_gate=True),
    "llava_llama": Trait(),
    "llava_mistral": Trait(),
    "llava_qwen": Trait(qkv_bias=True, out_bias=""),
    "dots_ocr": Trait(qkv_bias=True, out_bias=""),
    "GOT": Trait(qkv_bias=True, out_bias=""),
    "mimo_audio": Trait(qkv_bias=True, out_bias=""),
    "qwen3": Trait(qk_norm="head"),
    "Keye": Trait(qk_norm="head"),
    "KeyeVL1_5": Trait(qk_norm="head"),
    "LLaVAOneVision1_5": Trait(qk_norm="head"),
    "qwen3_vl": Trait(qk_norm="head"),
    "qwen3_moe": Trait(qk_norm="head", expert=True),
    "qwen3_vl_moe": Trait(qk_norm="head", expert=True),
    "qwen3_omni_moe_thinker": Trait(qk_norm="head", expert=True),
    "qwen3_omni_moe": Trait(qk_norm="head", expert=True),
    "mimo": Trait(out_bias=""),
    "internlm": Trait(out_bias="bias"),
    "internlm2": Trait(),
    "internlm3": Trait(out_bias="bias"),
    "granite": Trait(),
    "granitemoe": Trait(expert=True),
    "granitemoeshared": Trait(expert=True),
    "granite_swa": Trait(sink=True),
    "granitemoe_swa": Trait(expert=True, sink=True),
    "granite4_vision": Trait(),
    "granite_docling": Trait(),
    "hyperclovax": Trait(num_norm=4),
    "olmo": Trait(),
    "olmo2": Trait(qk_norm="full"),
    "olmo3": Trait(qk_norm="full"),
    "olmoe": Trait(qk_norm="full", expert=True),
    "flex_olmo": Trait(qk_norm="full", expert=True),
    "smollm3": Trait(tied=True),
    "seed_oss": Trait(out_bias="attention_out_bias"),
    "glm": Trait(out_bias="", rotary=0.5),
    "glm4": Trait(out_bias="", num_norm=4, rotary=0.5),
    "glm4v": Trait(out_bias="", num_norm=4, rotary=0.5),
    "glm_ocr": Trait(out_bias="", num_norm=4),
    "glm4_moe": Trait(out_bias="", expert=True, router_bias=True, rotary=0.5),
    "glm4v_moe": Trait(out_bias="", expert=True, router_bias=True, rotary=0.5),
    "minimax_m2": Trait(qk_norm="full", expert=True, router_bias=True),
    "step3": Trait(expert=True),
    "step3p5": Trait(qk_norm="head", expert=True, router_bias=True, gate="head"),
    "step3p7": Trait(qk_norm="head", expert=True, router_bias=True),
    "dots1": Trait(qk_norm="head", expert=True, router_bias=True),
    "ernie4_5": Trait(out_bias="use_bias", tied=True),
    "ernie4_5_moe": Trait(out_bias="use_bias", expert=True, router_bias=True, tied=True),
    "paddleocr_vl": Trait(out_bias="use_bias", tied=True),
    "hunyuan_v1_dense": Trait(qk_norm="head"),
    "hunyuan_vl": Trait(qk_norm="head"),
    "hunyuan": Trait(qk_norm="head", expert=True),
    "hunyuan_v1_moe": Trait(qk_norm="head", expert=True),
    "bailing_moe": Trait(out_bias="use_bias", expert=True),
    "bailing_moe_v2": Trait(out_bias="use_bias", qk_norm="head", expert=True, router_bias=True),
    "exaone": Trait(),
    "exaone4": Trait(qk_norm="head"),
    "exaone_moe": Trait(qk_norm="head", expert=True, router_bias=True),
    "arcee": Trait(gated=False),
    "afmoe": Trait(qk_norm="head", expert=True, router_bias=True, num_norm=4, gate="full"),
    "apertus": Trait(qk_norm="head", gated=False),
    "muse_glimmer": Trait(num_norm=4, gate="full"),
    "muse_spark": Trait(num_norm=4, gate="full", expert=True),
    "apertus1p5": Trait(qk_norm="head", gated=False),
    "jais2": Trait(norm="layer", norm_bias=True, gated=False),
    "nanochat": Trait(gated=False),
    "cosmos3_edge": Trait(gated=False),
    "bitnet": Trait(),
    "emu3_text_model": Trait(),
    "molmo2": Trait(qk_norm="head"),
    "aria": Trait(expert=True),
    "kolibri1": Trait(qk_norm="head", expert=True, num_norm=4),
    "flint": Trait(qk_norm="head", expert=True, sink=True),
    "laguna": Trait(qk_norm="head", expert=True, router_bias=True, gate="head"),
    "deepseek_ocr2": Trait(expert=True),
    "unlimited_ocr": Trait(expert=True),
    "solar": Trait(),
    "cwm": Trait(),
    "helium": Trait(),
    "iquestcoder": Trait(),
    "mellum": Trait(qk_norm="head", expert=True),
    "hy_v3": Trait(qk_norm="head", expert=True),
    "sarvam_moe": Trait(expert=True),
    "solar_open": Trait(expert=True, router_bias=True, out_bias=""),
    "aquila": Trait(),
    "xverse": Trait(),
    "skywork": Trait(),
    "orion": Trait(norm="layer", norm_bias=True),
    "telechat3": Trait(),
    "PanguEmbedded": Trait(out_bias="bias"),
    "baichuan": Trait(),
    "deepseek": Trait(expert=True),
    "cohere": Trait(norm="layer", num_norm=1, parallel=True, tied=True),
    "cohere2": Trait(norm="layer", num_norm=1, parallel=True, tied=True),
    "cohere_compass": Trait(norm="layer", num_norm=1, parallel=True, tied=True),
    "cohere2_moe": Trait(norm="layer", num_norm=1, parallel=True, tied=True, expert=True),
    "starcoder2": Trait(qkv_bias=True, norm="layer", norm_bias=True, gated=False, bias=True, tied=True, window=True),
    "stablelm": Trait(norm="layer", norm_bias=True, rotary=0.25),
    "persimmon": Trait(qkv_bias=True, norm="layer", norm_bias=True, gated=False, bias=True, rotary=0.5),
    "nemotron": Trait(norm="layer", norm_bias=True, gated=False, rotary=0.5),
    "gpt_neox": Trait(qkv_bias=True, norm="layer", norm_bias=True, gated=False, bias=True, parallel=True, rotary=0.25),
}
MODEL_TYPES = tuple(TRAIT)
LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
CONTEXT = ("max_position_embeddings", "max_position_embedding", "max_sequence_length", "n_positions", "seq_length",
           "max_seq_len", "model_max_length")  # fmt: skip
KINDS = ("full_attention", "sliding_attention", "chunked_attention", "attention", "reference_sliding_attention")
CONTEXT_DEFAULT = {"starcoder2": 4096, "stablelm": 4096}  # of the architectures' own code


def read(fields: Fields, name: str) -> ModelSpec:
    kind = fields.word("model_type")
    trait = TRAIT[kind.removesuffix("_text")]
    num_layer = fields.size(*LAYERS, high=10_000)
    with_experts = expert_layers(fields, num_layer) if trait.expert and has_experts(fields) else [False] * num_layer
    kinds = [_block(fields, trait, i, num_layer, with_experts[i]) for i in range(num_layer)]
    block, layer = pattern(kinds)
    return ModelSpec(
        name=name,
        family="llama",
        hidden=fields.size("hidden_size"),
        vocab=fields.size("vocab_size"),
        max_context=fields.size(*CONTEXT, default=CONTEXT_DEFAULT.get(kind)),
        block=block,
        layer=layer,
        norm=trait.norm,
        norm_bias=trait.norm_bias,
        tied=fields.flag("tie_word_embeddings", default=trait.tied),
        head_bias=fields.flag("lm_head_bias", default=False),
        mtp=(kinds[-1],) * num_mtp(fields),
    )


def num_mtp(fields: Fields) -> int:
    """Multi-token-prediction layers that the checkpoint has."""
    return fields.size(
        "num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules", default=0, low=0, high=100
    )


def _block(fields: Fields, trait: Trait, layer: int, num_layer: int, experts: bool) -> Block:
    parallel = trait.parallel and fields.flag("use_parallel_residual", default=True)
    num_norm = 2 if fields.word("model_type") == "gpt_neox" else trait.num_norm
    attention = _attention(fields, trait, layer, num_layer)
    fields = fields.layer(layer)
    if experts:
        latent = fields.size("moe_hidden_size", default=0, low=0)  # Muse Spark's experts work in another width
        ffn = routed(
            fields, shared_gate=trait.shared_gate, router_bias=trait.router_bias, latent=latent, latent_norm=latent > 0
        )
    else:
        bias = fields.flag("mlp_bias", "use_bias", default=trait.bias)
        ffn = FeedForward(fields.size(*DENSE), gated=trait.gated, bias=bias)
    return Block(attention, ffn, num_norm=num_norm, parallel=parallel)


def _attention(fields: Fields, trait: Trait, layer: int, num_layer: int) -> Attention:
    fields = _sliding_fields(fields, layer, num_layer).layer(layer)
    fields = _heads_of(fields, layer, num_layer)
    num_head, num_kv_head, head_dim = fields.heads(trait.kv_head or None)
    bias = fields.flag("attention_bias", "use_qkv_bias", "qkv_bias", "use_bias", "bias", default=False)
    out_bias = bool(trait.out_bias) and fields.flag(trait.out_bias, default=trait.bias)
    norm = trait.qk_norm
    if fields.has("use_qk_norm", "use_qk_layernorm", "qk_layernorm"):
        said = fields.flag("use_qk_norm", "use_qk_layernorm", "qk_layernorm", default=False)
        norm = (norm or "head") if said else ""
    width = {"": 0, "head": 2 * head_dim, "full": (num_head + num_kv_head) * head_dim}[norm]
    if norm == "head" and fields.word("model_type") in ("cohere", "stablelm"):  # a weight a head and channel
        width = (num_head + num_kv_head) * head_dim
    window = _window(fields, trait, layer, num_layer)
    kinds = fields.words("layer_types", KINDS, num_layer)
    kind = kinds[layer] if kinds else "sliding_attention" if window else "full_attention"
    return Attention(
        num_head,
        num_kv_head,
        head_dim,
        head_dim,
        window=window,
        rope_dim=fields.rotary(head_dim, trait.rotary, kind) if _rotary(fields, layer) else 0,
        qkv_bias=trait.qkv_bias or bias,
        out_bias=out_bias,
        qk_norm=width,
        gate=_gate(fields, trait, num_head, head_dim),
        sink=trait.sink,
        q_rank=fields.size("share_q_dim", default=0, low=0),
        shared_kv=_borrows(fields, layer),
    )


def _gate(fields: Fields, trait: Trait, num_head: int, head_dim: int) -> int:
    """Channels of a gate on attention's result: one a head where the file says so, else as the architecture has it."""
    if fields.flag("use_head_wise_attn_gate", default=trait.gate == "head"):
        return num_head
    return num_head * head_dim if trait.gate == "full" else 0


def _sliding_fields(fields: Fields, layer: int, num_layer: int) -> Fields:
    """Step-3.5's windowed layers have heads of their own (`attention_other_setting`), and its grouped queries another
    name."""
    raw = dict(fields.raw)
    raw.setdefault("num_key_value_heads", raw.get("num_attention_groups"))
    other = raw.get("attention_other_setting")
    kinds = fields.words("layer_types", ("full_attention", "sliding_attention"), num_layer) if other else None
    if isinstance(other, dict) and kinds and kinds[layer] == other.get("attention_type"):
        raw |= {key: value for key, value in other.items() if key != "attention_type"}
        raw["num_key_value_heads"] = other.get("num_attention_groups", raw["num_key_value_heads"])
    return Fields(raw, fields.file)


def _borrows(fields: Fields, layer: int) -> bool:
    """Whether the layer reads an earlier one's keys (Hunyuan-Large: all but the first of `cla_share_factor`)."""
    return fields.flag("use_cla", default=False) and layer % fields.size("cla_share_factor", default=1) > 0


def _heads_of(fields: Fields, layer: int, num_layer: int) -> Fields:
    """Laguna says the query heads of every layer."""
    listed = fields.per_layer("num_attention_heads_per_layer", num_layer)
    return Fields({**fields.raw, "num_attention_heads": listed[layer]}, fields.file) if listed else fields


def _rotary(fields: Fields, layer: int) -> bool:
    """Whether the layer's positions are rotary: `no_rope_layers` has an entry a layer, 1 where they are."""
    listed = fields.integers("no_rope_layers")
    bases = fields.raw.get("layer_rope_theta")  # Muse: 0 where there are none
    if isinstance(bases, list) and len(bases) > layer:
        return bool(bases[layer])
    return bool(listed[layer]) if listed and len(listed) > layer else True


def _window(fields: Fields, trait: Trait, layer: int, num_layer: int) -> int:
    """Keys that a query of this layer sees, 0 for all: by `layer_types` where given, by a pattern, else by the older
    fields."""
    kinds = fields.words("layer_types", KINDS, num_layer)
    if kinds:
        return fields.size("sliding_window") if kinds[layer].endswith("sliding_attention") else 0
    patterns = ("sliding_window_pattern", "global_attn_every_n_layers", "layer_switch")
    every = next((fields.raw[name] for name in patterns if fields.raw.get(name) is not None), None)
    if isinstance(every, int) and every > 1 and fields.has("sliding_window"):
        return fields.size("sliding_window") if (layer + 1) % every else 0
    if isinstance(every, str) and every and fields.has("sliding_window"):  # "LLLG" (EXAONE 4)
        return fields.size("sliding_window") if every[layer % len(every)] == "L" else 0
    since = fields.size("max_window_layers", default=0, low=0)
    if trait.window or (fields.flag("use_sliding_window", default=False) and layer >= since):
        window = fields.size("sliding_window", default=0)
        reach = fields.size(*CONTEXT, default=CONTEXT_DEFAULT.get(fields.word("model_type"), window + 1))
        return window if window < reach else 0  # a window of the whole context cuts nothing
    return 0
