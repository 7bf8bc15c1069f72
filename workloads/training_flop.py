"""FLOPs that a training step needs, as published figures count them."""

from workloads.models.spec import ModelSpec
from workloads.training import TrainPlan
from workloads.training_values import layer_values


def score_share(window: int, seq: int) -> float:
    """Share of the scores under the diagonal that a sliding window leaves (0: no window).

    >>> score_share(2, 4)  # 1 + 2 + 2 + 2 of 1 + 2 + 3 + 4
    0.7
    """
    if window == 0 or window >= seq:
        return 1.0
    return (window * (window + 1) / 2 + (seq - window) * window) / (seq * (seq + 1) / 2)


def model_flop(model: ModelSpec, plan: TrainPlan, causal: bool = False) -> float:
    """FLOPs of a step that the model needs, forward and backward, no recomputation (Narayanan et al. 2021): six a
    parameter that a token meets (four where it is frozen beside adapters, whose own are left out), and attention
    counted without its causal mask, as published figures are, or (`causal`) with it: half. Keys outside
    a sliding window are not counted. Kernels that skip what the
    mask hides can exceed a peak that is counted without it."""
    passes = 4 if plan.lora_rank else 6
    flop = passes * float(model.vocab) * model.hidden
    for block in (model.block[i] for i in model.layer):
        a, f = block.attention, block.ffn
        dense, expert = layer_values(model, block, TrainPlan())
        flop += passes * (dense + (expert * f.topk / f.num_expert if f.num_expert else 0.0))
        scores = a.num_head * (a.head_dim + a.v_head_dim) * plan.seq * score_share(a.window, plan.seq)
        flop += (3 if causal else 6) * scores
    return float(plan.token * flop)
