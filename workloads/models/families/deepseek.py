"""DeepSeek-V2, V3 and V3.2 (arXiv 2405.04434, 2412.19437, 2512.02556), Kimi-K2, GLM-5, Mistral Large 4, dots 3 and
GLM-4.7-Flash: latent attention, shared beside routed experts, the first layers dense. V3.2 and its kin pick the keys
that a query reads with a lightning indexer, whose keys are cached in fp8 with an fp32 scale each; its own projections
read the query's latent. Some layers have a window instead, shapes of their own (`per_layer_config`), or no positions
(`no_rope_layers`). Multi-token-prediction layers are not part of the model that serves a token. The smallest models say
`use_mla: false` and are plain (DeepSeek-OCR)."""

from typing import Literal

from workloads.models.families import llama
from workloads.models.families._experts import DENSE, expert_layers, has_experts, routed
from workloads.models.families.llama import num_mtp
from workloads.models.fields import Fields
from workloads.models.spec import Attention, Block, FeedForward, Indexer, ModelSpec, pattern

MODEL_TYPES = ("deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "kimi_k25", "glm_moe_dsa", "glm4_moe_lite",
               "minicpm3", "deepseek_vl_v2", "kimi_vl", "mistral4", "mistral_large4", "axk1", "dots3_note",
               "sarvam_mla", "youtu")  # fmt: skip
INDEX_SCALE_BYTE = 4
KINDS = ("indexed_attention", "full_attention", "sliding_attention")
GATE: dict[str, Literal["head", "full"]] = {"dots3_note": "head"}


def read(fields: Fields, name: str) -> ModelSpec:
    if not fields.flag("use_mla", default=True):
        return llama.read(Fields({**fields.raw, "model_type": "deepseek", "kv_lora_rank": None}, fields.file), name)
    num_layer = fields.size("num_hidden_layers", "num_layers", high=10_000)
    kind = fields.word("model_type").removesuffix("_text")
    plain = FeedForward(fields.size(*DENSE))
    corrected = fields.word("topk_method", default="noaux_tc") == "noaux_tc"
    corrected = corrected and kind != "deepseek_v2"  # a balancing bias a routed expert
    routes = expert_layers(fields, num_layer) if has_experts(fields) else [False] * num_layer
    experts = routed(fields, router_bias=corrected) if any(routes) else plain
    blocks = [
        Block(sparse_attention(fields, i, num_layer, GATE.get(kind, "")), experts if routes[i] else plain)
        for i in range(num_layer)
    ]
    block, layer = pattern(blocks)
    return ModelSpec(
        name=name,
        family="deepseek",
        hidden=fields.size("hidden_size"),
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings"),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=False),
        mtp=(blocks[-1],) * num_mtp(fields),
    )


def sparse_attention(fields: Fields, layer: int, num_layer: int, gate: Literal["", "head", "full"] = "") -> Attention:
    """Latent attention of one layer, with the indexer or the window that its kind has."""
    kinds = fields.words("layer_types", KINDS, num_layer)
    sliding = kinds is not None and kinds[layer] == "sliding_attention"
    listed = fields.integers("no_rope_layers")  # 1 where positions are rotary
    rotary = bool(listed[layer]) if listed and len(listed) > layer else True
    window = fields.size("sliding_window") if sliding else 0
    indexer = None if sliding else _indexer(fields, layer, num_layer)
    return latent_attention(fields.layer(layer), window=window, indexer=indexer, rotary=rotary, gate=gate)


def latent_attention(
    fields: Fields,
    *,
    window: int = 0,
    indexer: Indexer | None = None,
    rotary: bool = True,
    gate: Literal["", "head", "full"] = "",
) -> Attention:
    """Latent attention by the fields that all who have it share. Where positions are not `rotary` a head is as wide."""
    rope_dim = fields.size("qk_rope_head_dim", low=0, high=10_000)
    num_head = fields.size("num_attention_heads", high=10_000)
    v_head_dim = fields.size("v_head_dim", high=10_000)
    return Attention(
        num_head,
        num_head,
        fields.size("qk_nope_head_dim", high=10_000) + rope_dim,
        v_head_dim,
        window=window,
        rope_dim=rope_dim if rotary else 0,
        q_rank=fields.size("q_lora_rank", default=0, low=0),
        kv_rank=fields.size("kv_lora_rank"),
        gate={"": 0, "head": num_head, "full": num_head * v_head_dim}[gate],
        indexer=indexer,
    )


def _indexer(fields: Fields, layer: int, num_layer: int) -> Indexer | None:
    if not fields.has("index_topk"):
        return None
    kinds = fields.words("indexer_types", ("full", "shared", "skip"), num_layer)
    dim = fields.size("index_head_dim", high=10_000)
    return Indexer(
        fields.size("index_n_heads", high=10_000),
        dim,
        fields.size("index_topk"),
        q_rank=fields.size("q_lora_rank", default=0, low=0),
        kv_format="fp8",
        key_byte=float(dim + INDEX_SCALE_BYTE),
        reads=kinds is None or kinds[layer] == "full",
    )
