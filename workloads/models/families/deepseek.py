"""DeepSeek-V2 and V3 (arXiv 2405.04434, 2412.19437): latent attention, shared beside routed experts, the
first layers dense. Multi-token-prediction layers are not part of the model that serves a token."""

from workloads.models.fields import Fields
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec, pattern

MODEL_TYPES = ("deepseek_v2", "deepseek_v3", "kimi_k2")


def read(fields: Fields, name: str) -> ModelSpec:
    num_layer = fields.size("num_hidden_layers", high=10_000)
    dense = fields.size("first_k_dense_replace", default=0, low=0, high=num_layer)
    every = fields.size("moe_layer_freq", default=1)
    rope_dim = fields.size("qk_rope_head_dim", high=10_000)
    num_head = fields.size("num_attention_heads", high=10_000)
    attention = Attention(
        num_head,
        num_head,
        fields.size("qk_nope_head_dim", high=10_000) + rope_dim,
        fields.size("v_head_dim", high=10_000),
        rope_dim=rope_dim,
        q_rank=fields.size("q_lora_rank", default=0),
        kv_rank=fields.size("kv_lora_rank"),
    )
    plain = Block(attention, FeedForward(fields.size("intermediate_size")))
    routed = Block(attention, _experts(fields))
    block, layer = pattern([routed if i >= dense and i % every == 0 else plain for i in range(num_layer)])
    return ModelSpec(
        name=name,
        family="deepseek",
        hidden=fields.size("hidden_size"),
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings"),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=False),
    )


def _experts(fields: Fields) -> FeedForward:
    num_expert = fields.size("n_routed_experts")
    inter = fields.size("moe_intermediate_size")
    corrected = fields.word("model_type") != "deepseek_v2"  # a balancing bias a routed expert
    num_group = fields.size("n_group", default=1, high=num_expert)
    return FeedForward(
        fields.size("n_shared_experts", default=0, low=0, high=10_000) * inter,
        num_expert=num_expert,
        topk=fields.size("num_experts_per_tok", high=num_expert),
        expert_inter=inter,
        router_bias=num_expert if corrected else 0,
        num_group=num_group,
        topk_group=fields.size("topk_group", default=num_group, high=num_group),
    )
