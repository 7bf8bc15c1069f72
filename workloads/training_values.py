"""Values (weights) of a layer and of the vocabulary on one device of a training plan: all, and the trained ones."""

from dataclasses import replace

from workloads.models.spec import Block, ModelSpec
from workloads.models.tensors import tensors
from workloads.training import TrainPlan

EDGES = ("embed", "position", "embed_norm", "final_norm", "lm_head", "head_bias")


def layer_values(model: ModelSpec, block: Block, plan: TrainPlan) -> tuple[float, float]:
    """Values of one layer on a device: (dense part, experts).

    >>> from workloads import models
    >>> llama = models.load("llama-2-7b")
    >>> layer_values(llama, llama.block[0], TrainPlan())
    (202383360.0, 0.0)
    """
    dense = expert = 0.0
    for tensor in tensors(replace(model, block=(block,), layer=(0,))):
        if tensor.name in EDGES:
            continue
        value = float(tensor.value * tensor.count)
        if tensor.shard == "expert":
            expert += value / (plan.ep * plan.expert_tp)
        elif tensor.shard == "kv":
            dense += value / tensor.row * max(tensor.row / plan.tp, min(tensor.row, 1.0))
        else:
            dense += value / (plan.tp if tensor.shard == "tp" else 1)
    return dense, expert


def adapter_values(model: ModelSpec, block: Block, plan: TrainPlan) -> tuple[float, float]:
    """Values of the low-rank adapters of one layer on a device: (dense part, experts).

    Rank r beside every linear map of n inputs and m outputs: r (n + m) (Hu et al. 2021); the side that tensor
    parallelism splits is split.
    """
    h, tp, r, a, f = model.hidden, plan.tp, plan.lora_rank, block.attention, block.ffn
    query = a.num_head * a.head_dim / tp
    key = max(a.num_kv_head / tp, min(a.num_kv_head, 1.0)) * a.head_dim
    dense = r * (2 * (h + query) + 2 * (h + key))
    if f.inter:
        dense += r * (f.num_up + 1) * (h + f.inter / tp)
    expert = f.num_expert / plan.ep * r * (f.num_up + 1) * (h + f.expert_inter / plan.expert_tp)
    return float(dense), float(expert)


def trained_layer(model: ModelSpec, block: Block, plan: TrainPlan) -> tuple[float, float, float, float]:
    """(dense, experts, trained dense, trained experts) of one layer on a device: with adapters those alone are trained,
    beside the frozen rest."""
    dense, expert = layer_values(model, block, plan)
    if not plan.lora_rank:
        return dense, expert, dense, expert
    adapter, expert_adapter = adapter_values(model, block, plan)
    return dense + adapter, expert + expert_adapter, adapter, expert_adapter


def vocabulary_values(model: ModelSpec, plan: TrainPlan) -> tuple[float, float]:
    """Values on a device of (embedding and positions, head): the head is given whether or not it is tied."""
    table = model.vocab / plan.tp * model.hidden
    return table + model.position_row * model.hidden, table
