"""LongCat-Flash (arXiv 2509.01322): a layer is latent attention and a dense part, twice; experts take a shortcut from
the first half to the end of the second. Some of the experts that a token may choose give back their input
(`zero_expert_num`): of its `moe_topk` it meets as many real ones as their share says, 8 of 12 in the published model.

A half is a layer here. Experts stand beside the first half's dense part, as shared and routed ones do."""

from workloads.models.families.deepseek import latent_attention
from workloads.models.families.llama import num_mtp
from workloads.models.fields import Fields
from workloads.models.spec import Block, FeedForward, ModelSpec, pattern

MODEL_TYPES = ("longcat_flash",)


def read(fields: Fields, name: str) -> ModelSpec:
    num_layer = fields.size("num_layers", "num_hidden_layers", high=5_000)
    hidden, inter = fields.size("hidden_size"), fields.size("ffn_hidden_size", "intermediate_size")
    real, zero = fields.size("n_routed_experts"), fields.size("zero_expert_num", default=0, low=0)
    chosen = fields.size("moe_topk", "num_experts_per_tok", high=real)
    experts = FeedForward(
        inter,
        num_expert=real,
        topk=max(1, round(chosen * real / (real + zero))),
        expert_inter=fields.size("expert_ffn_hidden_size", "moe_intermediate_size"),
        router_bias=hidden * zero + real + zero,  # their scores, and a correction of each expert's
    )
    attention = latent_attention(fields)
    block, layer = pattern([Block(attention, experts), Block(attention, FeedForward(inter))] * num_layer)
    return ModelSpec(
        name=name,
        family="longcat",
        hidden=hidden,
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings"),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=False),
        mtp=(Block(attention, FeedForward(inter)),) * num_mtp(fields),
    )
