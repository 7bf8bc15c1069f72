"""Inkling: windows in most layers, with heads of their own (`swa_*`), positions by a learned bias of relative distance
that a projection of the input steers (`d_rel` values a head), short convolutions of keys, values and of both parts'
results, experts beside shared ones that the router scores too.

The projection of the distances is taken as a gate's; the bias itself costs attention nothing here."""

from dataclasses import replace

from workloads.models.families._experts import expert_layers, routed
from workloads.models.fields import Fields
from workloads.models.layers.side_conv import SideConv
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec, pattern

MODEL_TYPES = ("inkling",)
KINDS = ("hybrid_sliding", "hybrid")


def read(fields: Fields, name: str) -> ModelSpec:
    hidden, num_layer = fields.size("hidden_size"), fields.size("num_hidden_layers", high=10_000)
    local = fields.integers("local_layer_ids")
    kinds = fields.words("layer_types", KINDS, num_layer) or [
        "hybrid_sliding" if (i in local if local is not None else (i + 1) % 6) else "hybrid" for i in range(num_layer)
    ]
    plain, experts = FeedForward(fields.size("intermediate_size")), _experts(fields, hidden)
    kernel = fields.size("conv_kernel_size", "sconv_kernel_size", default=4, high=1000)
    blocks = []
    for kind, routes in zip(kinds, expert_layers(fields, num_layer), strict=True):
        a = _attention(fields, kind == "hybrid_sliding")
        conv = SideConv(a.num_head, 2 * a.num_kv_head * a.head_dim + 2 * hidden, kernel)
        reach = fields.size("rel_extent", default=1024) if not a.window else a.window
        bias = fields.size("d_rel", default=16) * reach
        blocks.append(Block(a, experts if routes else plain, mixer=conv, extra_value=bias))
    block, layer = pattern(blocks)
    return ModelSpec(
        name=name,
        family="inkling",
        hidden=hidden,
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings"),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=False),
        embed_norm=True,
        position="none",
    )


def _experts(fields: Fields, hidden: int) -> FeedForward:
    """The router scores the shared experts as well."""
    found = routed(fields)
    shared = fields.size("n_shared_experts", default=0, low=0, high=1000)
    return replace(found, router_bias=shared * hidden + 1)


def _attention(fields: Fields, window: bool) -> Attention:
    sign = "swa_" if window else ""
    num_head = fields.size(f"{sign}num_attention_heads", "num_attention_heads", high=10_000)
    num_kv_head = fields.size(f"{sign}num_key_value_heads", "num_key_value_heads", high=num_head)
    fields.check_divides(num_kv_head, num_head, f"{sign}num_key_value_heads")
    dim = fields.size(f"{sign}head_dim", "head_dim", high=10_000)
    return Attention(
        num_head,
        num_kv_head,
        dim,
        dim,
        window=fields.size("sliding_window_size", "sliding_window") if window else 0,
        qk_norm=2 * dim,
        gate=num_head * fields.size("d_rel", default=16, low=0),
    )
