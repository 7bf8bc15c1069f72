"""Zamba2 (arXiv 2411.15242): Mamba-2 layers; before some of them stands a transformer block that reads the embedding
joined to the stream, and whose weights a few blocks share in turn (`num_mem_blocks`), each use with low-rank adapters
and a projection of its own (`Linear`; the adapters are counted and not priced). The block is a layer of its own."""

from workloads.models.fields import Fields
from workloads.models.layers.linear import Linear
from workloads.models.layers.mamba import Mamba2
from workloads.models.spec import NO_ATTENTION, NO_FFN, Attention, Block, FeedForward, ModelSpec, pattern

MODEL_TYPES = ("zamba2",)
RECURRENT, HYBRID = ("mamba", "linear_attention"), ("hybrid",)


def read(fields: Fields, name: str) -> ModelSpec:
    hidden = fields.size("hidden_size")
    kinds = _kinds(fields)
    memory = fields.size("num_mem_blocks", default=1, high=1000)
    attention, ffn = _attention(fields, hidden), FeedForward(fields.size("intermediate_size", default=4 * hidden))
    bias = fields.flag("add_bias_linear", default=False)
    own = (hidden if bias else 0) + _adapters(fields, attention, ffn, hidden)
    blocks: list[Block] = []
    used = 0
    for kind in kinds:
        if kind in HYBRID:  # a norm of the joined input, as wide as two
            shared = Block(attention, ffn, num_norm=3, mixer=Linear(hidden), extra_value=own, twin=used >= memory)
            blocks.append(shared)
            used += 1
        blocks.append(Block(NO_ATTENTION, NO_FFN, num_norm=1, mixer=_mamba(fields, hidden)))
    block, layer = pattern(blocks)
    return ModelSpec(
        name=name,
        family="zamba2",
        hidden=hidden,
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings", default=4096),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=True),
        position="rope" if attention.rope_dim else "none",
    )


def _kinds(fields: Fields) -> list[str]:
    num_layer = fields.size("num_hidden_layers", high=10_000)
    kinds = fields.words("layers_block_type", (*RECURRENT, *HYBRID), num_layer)
    kinds = kinds or fields.words("layer_types", (*RECURRENT, *HYBRID), num_layer)
    listed = fields.integers("hybrid_layer_ids") or []
    return kinds or ["hybrid" if i in listed else "mamba" for i in range(num_layer)]


def _attention(fields: Fields, hidden: int) -> Attention:
    num_head = fields.size("num_attention_heads", high=10_000)
    num_kv_head = fields.size("num_key_value_heads", default=num_head, high=num_head)
    dim = fields.size("attention_head_dim", default=2 * hidden // num_head, high=10_000)
    rope_dim = dim if fields.flag("use_mem_rope", default=False) else 0
    return Attention(num_head, num_kv_head, dim, dim, rope_dim=rope_dim, joined=hidden)


def _adapters(fields: Fields, a: Attention, f: FeedForward, hidden: int) -> int:
    """Low-rank additions of one use: to the up projections, and to queries, keys and values where the file says so."""
    rank = fields.size("adapter_rank", default=128, low=0)
    value = rank * (hidden + 2 * f.inter)
    if fields.flag("use_shared_attention_adapter", default=False):
        value += rank * (3 * 2 * hidden + (a.num_head + 2 * a.num_kv_head) * a.head_dim)
    return value


def _mamba(fields: Fields, hidden: int) -> Mamba2:
    inner = fields.size("mamba_expand", default=2, high=1000) * hidden
    num_head = fields.size("n_mamba_heads", default=8, high=100_000)
    return Mamba2(
        num_head=num_head,
        head_dim=fields.size("mamba_headdim", default=inner // num_head, high=100_000),
        state=fields.size("mamba_d_state", default=64, high=10_000),
        group=fields.size("mamba_ngroups", default=1, high=10_000),
        kernel=fields.size("mamba_d_conv", default=4, high=1000),
        conv_bias=fields.flag("use_conv_bias", default=True),
        proj_bias=fields.flag("add_bias_linear", default=False),
    )
