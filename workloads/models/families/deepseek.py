"""DeepSeek-V2, V3 and V3.2 (arXiv 2405.04434, 2412.19437, 2512.02556), Kimi-K2, GLM-5 and GLM-4.7-Flash: latent
attention, shared beside routed experts, the first layers dense. V3.2 and GLM-5 pick the keys that a query reads with a
lightning indexer, whose keys are cached in fp8 with an fp32 scale each; its own projections read the query's latent.
Multi-token-prediction layers are not part of the model that serves a token."""

from workloads.models.families._experts import DENSE, expert_layers, has_experts, routed
from workloads.models.families.llama import num_mtp
from workloads.models.fields import Fields
from workloads.models.spec import Attention, Block, FeedForward, Indexer, ModelSpec, pattern

MODEL_TYPES = ("deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "kimi_k25", "glm_moe_dsa", "glm4_moe_lite",
               "minicpm3", "deepseek_vl_v2", "kimi_vl", "mistral4", "axk1", "sarvam_mla", "youtu")  # fmt: skip
INDEX_SCALE_BYTE = 4


def read(fields: Fields, name: str) -> ModelSpec:
    num_layer = fields.size("num_hidden_layers", "num_layers", high=10_000)
    plain = FeedForward(fields.size(*DENSE))
    corrected = fields.word("topk_method", default="noaux_tc") == "noaux_tc"
    corrected = corrected and fields.word("model_type") != "deepseek_v2"  # a balancing bias a routed expert
    routes = expert_layers(fields, num_layer) if has_experts(fields) else [False] * num_layer
    experts = routed(fields, router_bias=corrected) if any(routes) else plain
    blocks = [Block(_attention(fields, i, num_layer), experts if routes[i] else plain) for i in range(num_layer)]
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


def _attention(fields: Fields, layer: int, num_layer: int) -> Attention:
    rope_dim = fields.size("qk_rope_head_dim", high=10_000)
    num_head = fields.size("num_attention_heads", high=10_000)
    rank = fields.size("q_lora_rank", default=0)
    kinds = fields.words("indexer_types", ("full", "shared", "skip"), num_layer)
    indexer = None
    if fields.has("index_topk"):
        dim = fields.size("index_head_dim", high=10_000)
        indexer = Indexer(
            fields.size("index_n_heads", high=10_000),
            dim,
            fields.size("index_topk"),
            q_rank=rank,
            kv_format="fp8",
            key_byte=float(dim + INDEX_SCALE_BYTE),
            reads=kinds is None or kinds[layer] == "full",
        )
    return Attention(
        num_head,
        num_head,
        fields.size("qk_nope_head_dim", high=10_000) + rope_dim,
        fields.size("v_head_dim", high=10_000),
        rope_dim=rope_dim,
        q_rank=rank,
        kv_rank=fields.size("kv_lora_rank"),
        indexer=indexer,
    )
