"""MiMo-V2: layers with a short window and full ones (`hybrid_layer_pattern`, 1 for a window), each kind with heads of
its own and values narrower than keys; experts from the layer that `moe_layer_freq` says."""

from workloads.models.families._experts import expert_layers, routed
from workloads.models.families.llama import num_mtp
from workloads.models.fields import Fields
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec, pattern

MODEL_TYPES = ("mimo_v2_flash", "mimo_v2")


def read(fields: Fields, name: str) -> ModelSpec:
    num_layer = fields.size("num_hidden_layers", high=10_000)
    windowed = fields.per_layer("hybrid_layer_pattern", num_layer) or [0] * num_layer
    experts, plain = routed(fields, router_bias=True), FeedForward(fields.size("intermediate_size"))
    kinds = [
        Block(_attention(fields, bool(window)), experts if routes else plain)
        for window, routes in zip(windowed, expert_layers(fields, num_layer), strict=True)
    ]
    block, layer = pattern(kinds)
    return ModelSpec(
        name=name,
        family="mimo_v2",
        hidden=fields.size("hidden_size"),
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings"),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=False),
        mtp=(kinds[-1],) * num_mtp(fields),
    )


def _attention(fields: Fields, window: bool) -> Attention:
    sign = "swa_" if window else ""

    def own(field: str, default: int | None = None) -> int:
        return fields.size(*((f"{sign}{field}", field) if sign else (field,)), default=default, high=100_000)

    num_head, dim = own("num_attention_heads"), own("head_dim")
    num_kv_head = own("num_key_value_heads", num_head)
    fields.check_divides(num_kv_head, num_head, f"{sign}num_key_value_heads")
    bias = fields.flag("attention_bias", default=False)
    sink = fields.flag("add_swa_attention_sink_bias" if window else "add_full_attention_sink_bias", default=window)
    return Attention(
        num_head,
        num_kv_head,
        dim,
        own("v_head_dim", dim),
        window=fields.size("sliding_window", "sliding_window_size") if window else 0,
        rope_dim=fields.rotary(dim, kind="sliding_attention" if window else "full_attention"),
        qkv_bias=bias,
        sink=sink,
    )
