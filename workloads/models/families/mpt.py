"""MPT: layer norms without biases, ALiBi, tied embedding; names of its own for every field. DBRX: the same names,
rotary positions and experts."""

from workloads.models.fields import Fields
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec

MODEL_TYPES = ("mpt", "dbrx")


def read(fields: Fields, name: str) -> ModelSpec:
    own, ffn_own = fields.table("attn_config"), fields.table("ffn_config")
    expert = fields.word("model_type") == "dbrx"
    hidden, num_head = fields.size("d_model"), fields.size("n_heads", high=10_000)
    fields.check_divides(num_head, hidden, "n_heads")
    num_kv_head = own.size("kv_n_heads", default=num_head, high=num_head)
    fields.check_divides(num_kv_head, num_head, "kv_n_heads")
    alibi = own.flag("alibi", default=not expert)
    dim, bias = hidden // num_head, not fields.flag("no_bias", default=True)
    attention = Attention(num_head, num_kv_head, dim, dim, rope_dim=0 if alibi else dim, qkv_bias=bias, out_bias=bias)
    if expert:
        num_expert = ffn_own.size("moe_num_experts")
        topk = ffn_own.size("moe_top_k", high=num_expert)
        ffn = FeedForward(0, num_expert=num_expert, topk=topk, expert_inter=ffn_own.size("ffn_hidden_size"))
    else:
        ffn = FeedForward(fields.size("expansion_ratio", default=4, high=1000) * hidden, gated=False, bias=bias)
    context = fields.size("max_seq_len", "max_position_embeddings")
    return ModelSpec(
        name=name,
        family="mpt",
        hidden=hidden,
        vocab=fields.size("vocab_size"),
        max_context=context,
        block=(Block(attention, ffn),),
        layer=(0,) * fields.size("n_layers", high=10_000),
        norm="layer",
        norm_bias=bias,
        tied=fields.flag("tie_word_embeddings", default=not expert),
        position="alibi" if alibi else "rope",
    )
