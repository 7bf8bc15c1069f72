"""MiniMax-M3: grouped queries whose sparse layers read the blocks of keys that a light indexer scores highest (one
query head of it for each key-value head, one key head), experts with a shared one after dense first layers."""

from workloads.models.families._experts import DENSE, expert_layers, routed
from workloads.models.families.llama import num_mtp
from workloads.models.fields import Fields
from workloads.models.spec import Attention, Block, FeedForward, Indexer, ModelSpec, pattern

MODEL_TYPES = ("minimax_m3", "minimax_m3_vl")


def read(fields: Fields, name: str) -> ModelSpec:
    num_layer = fields.size("num_hidden_layers", high=10_000)
    own = fields.table("sparse_attention_config")
    sparse = own.per_layer("sparse_attention_freq", num_layer) or [0] * num_layer
    if not own.flag("use_sparse_attention", default=True):
        sparse = [0] * num_layer
    experts, plain = routed(fields, router_bias=True), FeedForward(fields.size(*DENSE))
    blocks = [
        Block(_attention(fields, own if picks else None), experts if routes else plain)
        for picks, routes in zip(sparse, expert_layers(fields, num_layer), strict=True)
    ]
    block, layer = pattern(blocks)
    return ModelSpec(
        name=name,
        family="minimax_m3",
        hidden=fields.size("hidden_size"),
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings"),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=False),
        mtp=(blocks[-1],) * num_mtp(fields),
    )


def _attention(fields: Fields, sparse: Fields | None) -> Attention:
    num_head, num_kv_head, dim = fields.heads()
    indexer = None
    if sparse is not None:
        indexer = Indexer(
            sparse.size("sparse_num_index_heads", default=num_kv_head, high=10_000),
            sparse.size("sparse_index_dim", high=10_000),
            sparse.size("sparse_topk_blocks") * sparse.size("sparse_block_size"),
            weighted=False,
        )
    return Attention(
        num_head,
        num_kv_head,
        dim,
        dim,
        rope_dim=fields.rotary(dim),
        qk_norm=2 * dim,
        gate=num_head * dim if fields.flag("attention_output_gate", default=False) else 0,
        indexer=indexer,
    )
