"""What a group of devices takes to train sequences that it shares: closed form, from the prices of the operators.

Every operator of a layer costs an amount that is linear in the tokens of a group, but attention, which goes with the
sum of the squares of the lengths (packed sequences do not see each other). Three prices of one sequence therefore give
a group's time for any set of them. Context parallelism is by exchange of heads (Ulysses: nothing hides it) or by a ring
(keys and values pass by, attention hides them; the slowest hop sets its pace).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hw_models import catalog
from hw_models.spec import System
from kernels import training as t
from kernels.errors import InputError
from kernels.training import Floats
from kernels.training_step import collective_s, ring_s, stage_times
from sim.training.fitted.stack import Stack, default_stack, hardware_vector, load
from workloads import models
from workloads.models.spec import ModelSpec
from workloads.training import TrainPlan, model_vector, plan_vector


class GroupCost(NamedTuple):
    """Per degree (devices that share a sequence): seconds of a microbatch of one step, all layers, all passes."""

    degree: tuple[int, ...]
    fixed_s: Floats
    token_s: Floats  # a token of the group
    square_s: Floats  # a squared token of a sequence
    comm_fixed_s: Floats
    comm_token_s: Floats
    hide_square_s: Floats  # communication that attention hides, a squared token: 0 for an exchange
    capacity: Floats  # tokens that a group's memory holds
    token_byte: Floats  # bytes of activations on a device, a token of the group
    floor_s: float  # host time of a microbatch, whatever its size
    gather_s: float  # weights gathered and gradients scattered a microbatch (ZeRO-3), under compute


def group_cost(
    model: str | ModelSpec, system: str | System, plan: TrainPlan, degrees: Sequence[int], *, num_device: int,
    stack: str | Stack | None = None,
) -> GroupCost:  # fmt: skip
    """The costs of `degrees` on `num_device` devices; of `plan` its tensor parallelism, recomputation, ZeRO stage,
    formats, and whether contexts are split by `ulysses` count. One pipeline stage.

    Raises `InputError` where the model leaves no room for a token.
    """
    spec = models.load(model) if isinstance(model, str) else model
    machine = catalog.system(system, num_device) if isinstance(system, str) else system
    constants = stack if isinstance(stack, Stack) else load(stack or default_stack(machine.device.name))
    if plan.pp != 1 or any(num_device % (plan.tp * d) for d in degrees):
        raise InputError("one stage, and degrees that divide the devices", field="degree", value=list(degrees),
                         allowed=f"divisors of {num_device // plan.tp}")  # fmt: skip
    hw, fit = hardware_vector(machine), constants.fit.copy()
    fit[t.LAUNCH_S] = 0.0
    passes = 3 if plan.recompute == "full" else 2
    size = 4096 * max(degrees)  # any three lengths: the costs are exact quadratics
    length = size * np.array([1.0, 2.0, 3.0])
    columns: list[tuple[float, ...]] = []
    for degree in degrees:
        dp = num_device // (plan.tp * degree)
        laid = replace(plan, cp=degree, dp=dp, batch=dp, micro_batch=1, zero=0, ulysses=True)
        rows, byte = np.zeros((3, len(t.STAGE))), np.zeros(3)
        for row, seq in zip(rows, length, strict=True):
            stage_times(model_vector(spec, int(seq)), plan_vector(laid), hw, fit, t.ONLY, row)
        held = plan_vector(replace(laid, zero=plan.zero))
        for at, seq in enumerate(length):
            byte[at] = t.plan_memory(model_vector(spec, int(seq)), held, constants.fit, 0.0, np.zeros(len(t.MEMORY)))
        exchange = rows[:, t.CP_S]
        both = rows[:, t.FORWARD_S] + rows[:, t.INPUT_GRAD_S] + rows[:, t.WEIGHT_GRAD_S] + rows[:, t.RECOMPUTE_S]
        fixed, token, square = _quadratic(both - passes * exchange, size)
        comm_fixed, comm_token, _ = _quadratic(passes * exchange, size)
        hide = 0.0
        if not plan.ulysses:
            hop_s, hop_token_s = _ring(spec, plan, degree, hw, fit)
            comm_fixed, comm_token = passes * hop_s, passes * hop_token_s
            hide = passes * _quadratic(rows[:, t.FORWARD_S], size)[2]
        room = (hw[t.MEM_BYTE] - (2 * byte[0] - byte[1])) / (byte[1] - byte[0]) * size
        if room < 1:
            raise InputError(f"{spec.name} leaves no room in {hw[t.MEM_BYTE] / 2**30:.1f} GiB", field="degree",
                             value=degree)  # fmt: skip
        columns.append((fixed, token, square, comm_fixed, comm_token, hide, room, (byte[1] - byte[0]) / size))
    one, two, three, four, five, six, most, kept = np.array(columns).T
    gather_s = _gather_s(spec, plan, num_device, hw, fit) if plan.zero >= 3 else 0.0
    floor_s = 3 * float(constants.fit[t.LAUNCH_S]) * spec.num_layer
    return GroupCost(tuple(degrees), one, two, three, four, five, six, most, kept, floor_s, gather_s)


def _quadratic(value: Floats, size: float) -> tuple[float, float, float]:
    """Coefficients of the parabola through values at 1, 2 and 3 times `size`."""
    square = (value[2] - 2 * value[1] + value[0]) / 2
    linear = value[1] - value[0] - 3 * square
    return float(value[0] - linear - square), float(linear / size), float(square / size**2)


def _ring(model: ModelSpec, plan: TrainPlan, degree: int, hw: Floats, fit: Floats) -> tuple[float, float]:
    """(seconds whatever the length, seconds a token of the group) of keys and values once round a ring, all layers."""
    vector = model_vector(model, 1)
    byte = 2 * vector[t.NUM_KV_HEAD] * vector[t.HEAD_DIM] / plan.tp * plan.act_byte / degree  # a hop's, a token
    fixed = ring_s(0.0, degree, plan.tp, hw, fit)
    return model.num_layer * fixed, model.num_layer * (ring_s(float(byte), degree, plan.tp, hw, fit) - fixed)


def _gather_s(model: ModelSpec, plan: TrainPlan, num_device: int, hw: Floats, fit: Floats) -> float:
    """Weights gathered for both passes and gradients scattered, all layers."""
    dense, expert = t.layer_value(model_vector(model, 1), plan_vector(replace(plan, cp=1, dp=num_device // plan.tp)))
    byte = (dense + expert) * (2 * plan.weight_byte + plan.grad_byte)
    return model.num_layer * collective_s(byte, num_device // plan.tp, plan.tp, hw, fit)


def group_seconds(cost: GroupCost, at: int, length: Sequence[int] | npt.NDArray[Any]) -> float:
    """Seconds of one microbatch with sequences of these lengths on a group of `cost.degree[at]` devices."""
    values = np.asarray(length, np.float64)
    if not len(values):
        return 0.0
    token, square = float(values.sum()), float((values**2).sum())
    compute = max(cost.fixed_s[at] + cost.token_s[at] * token + cost.square_s[at] * square, cost.floor_s)
    comm = cost.comm_fixed_s[at] + cost.comm_token_s[at] * token
    return float(compute + max(0.0, comm - cost.hide_square_s[at] * square))
