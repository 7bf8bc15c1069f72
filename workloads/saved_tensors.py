"""What one layer keeps for its backward pass, tensor by tensor: who makes it, how large, how often it is saved.

The same list that `kernels.training.activation_byte` adds up at speed of light (no copies of unfused norms). A tensor
that two operators save is one tensor: storing it once is what deduplication by identity does.
"""

from typing import NamedTuple

import numpy as np

from kernels import training as t
from kernels.errors import InputError
from workloads.models.spec import ModelSpec
from workloads.training import TrainPlan, model_vector, plan_vector


class SavedTensor(NamedTuple):
    """A tensor of one microbatch on one device. `part`: which half of the layer makes it."""

    name: str
    part: str  # "attention" or "feed-forward"
    byte: float
    num_saved: int  # operators that save it


def saved_tensors(model: ModelSpec, plan: TrainPlan) -> list[SavedTensor]:
    """The tensors of an average dense layer with flash attention. Raises `InputError` for other layers."""
    vector = model_vector(model, plan.seq, plan.dropout)
    if vector[t.NUM_EXPERT] or not plan.attention.startswith("flash"):
        raise InputError("dense layers with flash attention", field="attention", value=plan.attention,
                         allowed=["flash1", "flash2"])  # fmt: skip
    token, byte = plan.seq * plan.micro_batch / plan.cp, plan.act_byte
    stream = token * model.hidden * byte / (plan.tp if plan.sequence_parallel else 1)
    head = token * vector[t.HEAD_DIM] * byte / plan.tp
    query, key = head * vector[t.NUM_HEAD], head * vector[t.NUM_KV_HEAD]
    wide = token * vector[t.INTER] * byte / plan.tp
    num_up = int(vector[t.NUM_UP])
    out = [
        SavedTensor("input of the first norm", "attention", stream, 1),
        SavedTensor("input of query, key and value", "attention", stream, 1),
        SavedTensor("query", "attention", query, 1),
        SavedTensor("key", "attention", key, 1),
        SavedTensor("value", "attention", key, 1),
        SavedTensor("result of attention", "attention", query, 2),  # by attention and by the projection after it
        SavedTensor("row sums of attention", "attention", 4 * token * vector[t.NUM_HEAD] / plan.tp, 1),
        SavedTensor("input of the second norm", "feed-forward", stream, 1),
        SavedTensor("input of the up projections", "feed-forward", stream, num_up),
        SavedTensor("input of the activation function", "feed-forward", wide, 1),
    ]
    if num_up == 2:  # the gate's result and the other factor
        out.append(SavedTensor("result of the activation function", "feed-forward", wide, 1))
        out.append(SavedTensor("result of the up projection", "feed-forward", wide, 1))
    out.append(SavedTensor("input of the down projection", "feed-forward", wide, 1))
    if plan.dropout:  # a byte a value
        mask = stream / byte
        out.append(SavedTensor("mask after attention", "attention", mask, 1))
        out.append(SavedTensor("mask after the feed-forward part", "feed-forward", mask, 1))
    return out


def layer_byte(model: ModelSpec, plan: TrainPlan) -> float:
    """Their sum, as the kernel counts it."""
    fit = np.array(t.IDEAL_FIT)
    return float(t.activation_byte(model_vector(model, plan.seq, plan.dropout), plan_vector(plan), fit, False))
