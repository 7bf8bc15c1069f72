"""Kimi-Linear (arXiv 2510.26692) and Kimi-K3's language model: delta attention with a decay a channel in most layers,
latent attention without positions in the rest; K3 gates the latent result, lets routed experts work in half the width
and joins earlier layers' outputs into each part's input (two norms and two projections to one value a layer)."""

from workloads.models.families._experts import DENSE, expert_layers, routed
from workloads.models.families.llama import num_mtp
from workloads.models.fields import Fields
from workloads.models.layers.delta import Delta
from workloads.models.spec import NO_ATTENTION, Attention, Block, FeedForward, ModelSpec, pattern

MODEL_TYPES = ("kimi_linear", "kimi_k3")


def read(fields: Fields, name: str) -> ModelSpec:
    num_layer = fields.size("num_hidden_layers", high=10_000)
    recurrent = _recurrent(fields, num_layer)
    hidden = fields.size("hidden_size")
    latent = fields.size("routed_expert_hidden_size", default=0, low=0)
    experts = routed(
        fields, router_bias=True, latent=latent, latent_norm=fields.flag("latent_moe_use_norm", default=False)
    )
    plain = FeedForward(fields.size(*DENSE))
    every = fields.size("attn_res_block_size", default=0, low=0)  # layers of a residual block
    delta = _delta(fields)
    blocks = []
    for i, routes in enumerate(expert_layers(fields, num_layer)):
        blocks.append(
            Block(
                NO_ATTENTION if recurrent[i] else _latent(fields),
                experts if routes else plain,
                mixer=delta if recurrent[i] else None,
                joins=i // every + 2 if every else 0,  # the blocks begun so far, and what came since
                extra_value=4 * hidden if every else 0,
            )
        )
    block, layer = pattern(blocks)
    return ModelSpec(
        name=name,
        family="kimi_linear",
        hidden=hidden,
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings", "model_max_length"),
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=False),
        mtp=(blocks[-1],) * num_mtp(fields),
    )


def _recurrent(fields: Fields, num_layer: int) -> list[bool]:
    """Which layers have delta attention: a list counted from 1, or the kinds of all layers in later files."""
    kinds = fields.words("layer_types", ("linear_attention", "full_attention"), num_layer)
    if kinds:
        return [kind == "linear_attention" for kind in kinds]
    listed = fields.table("linear_attn_config").integers("kda_layers") or []
    return [i + 1 in listed for i in range(num_layer)]


def _latent(fields: Fields) -> Attention:
    num_head = fields.size("num_attention_heads", high=10_000)
    rope_dim = fields.size("qk_rope_head_dim", high=10_000)
    v_head_dim = fields.size("v_head_dim", high=10_000)
    return Attention(
        num_head,
        num_head,
        fields.size("qk_nope_head_dim", high=10_000) + rope_dim,
        v_head_dim,
        rope_dim=rope_dim,
        q_rank=fields.size("q_lora_rank", default=0),
        kv_rank=fields.size("kv_lora_rank"),
        gate=num_head * v_head_dim if fields.flag("mla_use_output_gate", default=False) else 0,
    )


def _delta(fields: Fields) -> Delta:
    """Shapes of the recurrence, from a table of their own or, in later files, from `linear_*` fields of the whole."""
    own = fields.table("linear_attn_config") if fields.has("linear_attn_config") else fields
    sign = "" if own is not fields else "linear_"
    num_head, dim = own.size(f"{sign}num_heads", high=10_000), own.size(f"{sign}head_dim", high=10_000)
    return Delta(
        num_key_head=num_head,
        num_value_head=num_head,
        key_dim=dim,
        value_dim=dim,
        kernel=own.size("short_conv_kernel_size", "linear_conv_kernel_dim", high=1000),
        state_byte=4.0,  # its kernels keep the state in fp32
        channel_decay=True,
        full_gate=own.flag("use_full_rank_gate", default=False),
    )
