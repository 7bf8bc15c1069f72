"""MiniMax-Text-01 and M1 (arXiv 2501.08313): lightning attention in seven layers of eight, full attention in the
eighth, experts in all."""

from workloads.models.families._experts import routed
from workloads.models.fields import Fields
from workloads.models.layers.lightning import Lightning
from workloads.models.spec import NO_ATTENTION, Attention, Block, ModelSpec, pattern

MODEL_TYPES = ("minimax_text_01", "minimax_m1", "minimax")


def read(fields: Fields, name: str) -> ModelSpec:
    num_layer = fields.size("num_hidden_layers", high=10_000)
    full = fields.per_layer("attn_type_list", num_layer)
    if full is None:
        kinds = fields.words("layer_types", ("full_attention", "linear_attention"), num_layer)
        full = (
            [int(kind == "full_attention") for kind in kinds]
            if kinds
            else [int((i + 1) % 8 == 0) for i in range(num_layer)]
        )
    num_head, num_kv_head, dim = fields.heads()
    experts = routed(fields)
    attention = Attention(num_head, num_kv_head, dim, dim, rope_dim=fields.rotary(dim))
    linear = Block(NO_ATTENTION, experts, mixer=Lightning(num_head, dim))
    block, layer = pattern([Block(attention, experts) if each else linear for each in full])
    return ModelSpec(
        name=name,
        family="minimax_text",
        hidden=fields.size("hidden_size"),
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings"),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=False),
    )
