"""What a group of devices takes to train sequences that it shares: closed form, from the prices of the operators.

Every operator of a layer costs an amount that is linear in the tokens of a group, but attention, which goes with the
sum of the squares of the lengths (packed sequences do not see each other). Prices of two long sequences therefore give
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
from kernels.errors import InputError
from kernels.train_plan import M_TOTAL, Floats
from kernels.train_step import layer_traffic_s
from sim.training.estimate import rank_memory
from sim.training.price import Site, ends_seconds, layer_seconds, piece, plan_record, site
from sim.training.search import known_stack
from sim.training.stack import TrainStack
from workloads import models
from workloads.models.spec import ModelSpec
from workloads.training import TrainPlan
from workloads.training_rows import FORWARD, Lowered


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


class _Sum(NamedTuple):
    """Seconds of one sequence through the model, all passes; operators that the host launches."""

    linear_s: float
    attention_s: float
    exchange_s: float  # of context parallelism
    num_op: float


def group_cost(
    model: str | ModelSpec, system: str | System, plan: TrainPlan, degrees: Sequence[int], *, num_device: int,
    stack: str | TrainStack | None = None,
) -> GroupCost:  # fmt: skip
    """The costs of `degrees` on `num_device` devices; of `plan` its tensor parallelism, recomputation, ZeRO stage,
    formats, and whether contexts are split by `ulysses` count. One pipeline stage.

    Raises `InputError` where the model leaves no room for a token.
    """
    spec = models.load(model) if isinstance(model, str) else model
    machine = catalog.system(system, num_device) if isinstance(system, str) else system
    chosen = known_stack(stack, machine)
    where = site(machine, chosen, plan.attention)
    if plan.pp != 1 or any(num_device % (plan.tp * d) for d in degrees):
        raise InputError("one stage, and degrees that divide the devices", field="degree", value=list(degrees),
                         allowed=f"divisors of {num_device // plan.tp}")  # fmt: skip
    size = 4096 * max(degrees)
    columns: list[tuple[float, ...]] = []
    num_op = 0.0
    for degree in degrees:
        dp = num_device // (plan.tp * degree)
        laid = replace(plan, cp=degree, dp=dp, batch=dp, micro_batch=1, ulysses=plan.ulysses and degree > 1)
        one, two = (_sums(spec, replace(laid, seq=count * size), where) for count in (1, 2))
        num_op = one.num_op
        square = two.attention_s / (2 * size) ** 2
        fixed, token = _line(one.linear_s, two.linear_s, size)
        comm_fixed, comm_token = _line(one.exchange_s, two.exchange_s, size)
        hide = 0.0 if plan.ulysses else square * (degree - 1) / degree
        byte = [rank_memory(spec, replace(laid, seq=count * size), where.stack)[M_TOTAL] for count in (1, 2)]
        room = (where.stack["mem_byte"] - (2 * byte[0] - byte[1])) / (byte[1] - byte[0]) * size
        if room < 1:
            raise InputError(f"{spec.name} leaves no room in {where.stack['mem_byte'] / 2**30:.1f} GiB",
                             field="degree", value=degree)  # fmt: skip
        columns.append((fixed, token, square, comm_fixed, comm_token, hide, room, (byte[1] - byte[0]) / size))
    fix, tok, squ, cfix, ctok, hid, most, kept = np.array(columns).T
    gather_s = _gather_s(spec, replace(plan, dp=num_device // plan.tp), where) if plan.zero >= 3 else 0.0
    floor_s = num_op * float(where.stack["host_s"])
    return GroupCost(tuple(degrees), fix, tok, squ, cfix, ctok, hid, most, kept, floor_s, gather_s)


def _sums(model: ModelSpec, plan: TrainPlan, where: Site) -> _Sum:
    """One sequence of `plan.seq` tokens through all layers and both ends."""
    share = np.bincount(model.layer, minlength=len(model.block))
    parts = [(layer_seconds(model, block, plan, where), float(n)) for block, n in zip(model.block, share, strict=True)]
    again = plan.recompute == "full"
    total = np.zeros(4)
    for (low, seconds), count in parts:
        total += count * _by_kind(low, seconds, again)
    for low, seconds in ends_seconds(model, plan, where):
        total += _by_kind(low, seconds, False)
    return _Sum(*total.tolist())


def _by_kind(low: Lowered, seconds: Floats, again: bool) -> Floats:
    """(products and streams, attention, exchange of context parallelism) seconds and operators of a table; where all
    is recomputed (`again`) its forward rows run twice."""
    times = np.where(low.ops["phase"] == FORWARD, 2.0 if again else 1.0, 1.0)
    exchange = np.char.startswith(low.ops["name"], b"cp_")
    attend = (np.array(low.module) == "core_attn") & ~exchange
    spent = seconds * times
    return np.array([spent[~attend & ~exchange].sum(), spent[attend].sum(), spent[exchange].sum(), times.sum()])


def _line(one: float, two: float, size: float) -> tuple[float, float]:
    """(value at 0, slope) of the line through values at `size` and twice that; no value below 0."""
    return max(0.0, 2 * one - two), (two - one) / size


def _gather_s(model: ModelSpec, plan: TrainPlan, where: Site) -> float:
    """Weights gathered for both passes and gradients scattered, all layers."""
    gather, reduce, _ = layer_traffic_s(plan_record(model, plan), piece(model, plan, where), where.stack, where.machine)
    return model.num_layer * float(2 * gather + reduce)


def group_seconds(cost: GroupCost, at: int, length: Sequence[int] | npt.NDArray[Any]) -> float:
    """Seconds of one microbatch with sequences of these lengths on a group of `cost.degree[at]` devices."""
    values = np.asarray(length, np.float64)
    if not len(values):
        return 0.0
    token, square = float(values.sum()), float((values**2).sum())
    compute = max(cost.fixed_s[at] + cost.token_s[at] * token + cost.square_s[at] * square, cost.floor_s)
    comm = cost.comm_fixed_s[at] + cost.comm_token_s[at] * token
    return float(compute + max(0.0, comm - cost.hide_square_s[at] * square))
