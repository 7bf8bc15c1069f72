"""Experts under the names that files give them: how many, how wide, in which layers, with which shared ones."""

from kernels.digits import whole
from workloads.models.fields import Fields
from workloads.models.spec import FeedForward

COUNT = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts")
TOPK = ("num_experts_per_tok", "num_experts_per_token", "moe_top_k", "moe_topk", "moe_k", "top_k_experts",
        "experts_per_token", "num_selected_experts", "n_activated_experts")  # fmt: skip
INTER = ("moe_intermediate_size", "expert_ffn_hidden_size", "expert_hidden_dim", "intermediate_size", "ffn_hidden_size")
SHARED = ("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts")
SHARED_INTER = ("shared_expert_intermediate_size", "share_expert_dim", "moe_shared_expert_intermediate_size",
                "shared_intermediate_size")  # fmt: skip
DENSE = ("prefix_dense_intermediate_size", "dense_intermediate_size", "intermediate_size_mlp", "mlp_intermediate_size",
         "intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner")  # fmt: skip


def one_value(fields: Fields) -> Fields:
    """The fields with lists of one number repeated (an entry a layer, Hunyuan) in place of that number."""
    names = (*COUNT, *TOPK, *INTER, *SHARED, *SHARED_INTER)
    raw = dict(fields.raw)
    for name in names:
        value = raw.get(name)
        if isinstance(value, list) and value and all(each == value[0] for each in value):
            raw[name] = value[0]
    return Fields(raw, fields.file)


def has_experts(fields: Fields) -> bool:
    """Whether the configuration has any."""
    return one_value(fields).size(*COUNT, default=0, low=0) > 0


def shared_inter(fields: Fields, expert_inter: int) -> int:
    """Width of all shared experts together: stated, or so many of an expert's."""
    number = fields.size(*SHARED, default=1, low=0, high=10_000)
    if number and fields.has(*SHARED_INTER):
        return fields.size(*SHARED_INTER, low=0)
    return fields.size(*SHARED, default=0, low=0, high=10_000) * expert_inter


def routed(
    fields: Fields,
    *,
    gated: bool = True,
    bias: bool = False,
    shared_gate: bool = False,
    router_bias: bool = False,
    latent: int = 0,
    latent_norm: bool = False,
) -> FeedForward:
    """The feed-forward part of a layer with experts."""
    fields = one_value(fields)
    num_expert = fields.size(*COUNT)
    inter = fields.size(*INTER)
    shared = shared_inter(fields, inter)
    num_group = max(1, fields.size("n_group", "num_expert_group", default=1, low=0, high=num_expert))
    return FeedForward(
        shared,
        gated=gated,
        bias=bias,
        num_expert=num_expert,
        topk=fields.size(*TOPK, high=num_expert),
        expert_inter=inter,
        router_bias=num_expert if router_bias else 0,
        shared_gate=shared_gate and shared > 0,
        latent=latent,
        latent_norm=latent_norm,
        num_group=num_group,
        topk_group=max(1, fields.size("topk_group", default=num_group, low=0, high=num_group)),
    )


def expert_layers(fields: Fields, num_layer: int) -> list[bool]:
    """Which layers have experts, by whichever of the published ways of saying so the file uses.

    A list of layers (`moe_layers_enum`, `moe_layers`); an entry a layer (`moe_layer_freq`, `mlp_layer_types`); every
    so many (`moe_layer_freq`, `decoder_sparse_step`, `moe_layer_interval`, `interleave_moe_layer_step`,
    `expert_layer_period` with an offset) from the first after the dense ones (`first_k_dense_replace`,
    `num_dense_layers`, `moe_layer_start_index`, `moe_layer_end_index`), less `mlp_only_layers`.
    """
    listed = fields.raw.get("moe_layers_enum") or fields.raw.get("moe_layers")
    if isinstance(listed, str):
        listed = [number for part in listed.split(",") if (number := whole(part)) is not None]
    if isinstance(listed, list) and listed and all(isinstance(i, int) for i in listed):
        return [i in listed for i in range(num_layer)]
    kinds = fields.words("mlp_layer_types", ("dense", "sparse"), num_layer)
    if kinds:
        return [kind == "sparse" for kind in kinds]
    first = fields.size("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index", "n_dense_layers",
                        default=0, low=0, high=num_layer)  # fmt: skip
    if isinstance(fields.raw.get("moe_layer_freq"), list):
        return [bool(entry) for entry in fields.per_layer("moe_layer_freq", num_layer) or []]
    if fields.has("expert_layer_period"):
        period = fields.size("expert_layer_period")
        offset = fields.size("expert_layer_offset", default=0, low=0, high=period - 1)
        return [i % period == offset for i in range(num_layer)]
    last = fields.raw.get("moe_layer_end_index")
    last = last if isinstance(last, int) and last >= 0 else num_layer
    step = fields.size("decoder_sparse_step", default=1)
    every = fields.size("moe_layer_freq", "moe_layer_interval", default=1)
    dense = fields.integers("mlp_only_layers") or []
    return [first <= i <= last and i % every == 0 and (i + 1) % step == 0 and i not in dense for i in range(num_layer)]
