"""GLaM (arXiv 2112.06905): experts in every other layer, plain feed-forward parts, a relative position bias
(no weights worth counting), tied embedding. There is no published `config.json`; `moe_layer_step` says how
often a layer has experts."""

from workloads.models.fields import Fields
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec, pattern

MODEL_TYPES = ("glam",)


def read(fields: Fields, name: str) -> ModelSpec:
    num_layer = fields.size("num_hidden_layers", high=10_000)
    num_head, num_kv_head, dim = fields.heads()
    attention = Attention(num_head, num_kv_head, dim, dim)
    inter = fields.size("intermediate_size")
    num_expert = fields.size("num_experts")
    topk = fields.size("num_experts_per_tok", high=num_expert)
    plain = Block(attention, FeedForward(inter, gated=False))
    routed = Block(attention, FeedForward(0, gated=False, num_expert=num_expert, topk=topk, expert_inter=inter))
    every = fields.size("moe_layer_step", default=2)
    block, layer = pattern([plain if (i + 1) % every else routed for i in range(num_layer)])
    return ModelSpec(
        name=name,
        family="glam",
        hidden=fields.size("hidden_size"),
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings"),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=True),
        position="none",
    )
