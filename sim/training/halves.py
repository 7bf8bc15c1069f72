"""The two halves of a layer, attention and feed-forward, each with what it takes beside its exchange.

Both end in an all-reduce of tensor parallelism, forward and backward (Shoeybi et al. 2019); in the backward pass that
of the input gradients may run beside the weight gradient of the half's first product, as Megatron-LM has it.
"""

from typing import NamedTuple

import numpy as np

from kernels import optable as op
from kernels.train_plan import Floats
from sim.training.price import Site, layer_seconds
from workloads.models.spec import Block, ModelSpec
from workloads.training import TrainPlan
from workloads.training_rows import FORWARD, INPUT_GRAD, WEIGHT_GRAD, Lowered

EXCHANGE = (op.ALL_REDUCE, op.ALL_GATHER, op.REDUCE_SCATTER, op.ALL_TO_ALL, op.P2P, op.DISPATCH, op.COMBINE)
FIRST = (b"qkv", b"q_kv_down", b"mlp_up", b"expert_up")  # products that a half begins with


class Half(NamedTuple):
    """Seconds of one half of a layer for one microbatch on one device."""

    forward_s: float
    backward_s: float  # but for the weight gradient below
    weight_grad_s: float  # of the first product, which may run beside the all-reduce
    reduce_s: float  # the exchange that ends the forward pass


def layer_halves(model: ModelSpec, block: Block, plan: TrainPlan, where: Site) -> tuple[Half, Half]:
    """Attention with the norm before it, and the feed-forward part with its own."""
    low, seconds = layer_seconds(model, block, plan, where)
    last = max(i for i, name in enumerate(low.ops["name"]) if name.startswith((b"attn_out", b"tp_attn")))
    row = np.arange(len(low.ops))
    return _half(low, seconds, row <= last), _half(low, seconds, row > last)


def _half(low: Lowered, seconds: Floats, mine: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]") -> Half:
    phase, link = low.ops["phase"], np.isin(low.ops["kind"], EXCHANGE)
    first = mine & (phase == WEIGHT_GRAD) & np.isin(low.ops["name"], FIRST)
    back = mine & ~link & ~first & np.isin(phase, (INPUT_GRAD, WEIGHT_GRAD))
    total = [float(seconds[chosen].sum()) for chosen in (
        mine & ~link & (phase == FORWARD), back, first, mine & link & (phase == FORWARD))]  # fmt: skip
    return Half(*total)
