"""Prices of a training step's layers: operator rows through `device.cost`, summed by pass, once a distinct shape."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from hw_models import attention_kernels, device
from hw_models.spec import System
from kernels import optable as op
from kernels.errors import InputError
from kernels.formats import FORMAT_CODE, FORMATS
from kernels.gemm import ROW_S, THROTTLE
from kernels.machine import Machine
from kernels.optable import CostTable
from kernels.price import CLASS, EXPERT, LINK, STREAM
from kernels.row_energy import above_awake_j
from kernels.train_plan import (
    BODY,
    FIRST,
    LAST,
    LAYER_DTYPE,
    PLAN_DTYPE,
    RECOMPUTES,
    SCHEDULES,
    Floats,
    Record,
    Records,
)
from sim.training.stack import TrainStack, stack_record
from workloads.compression import hook
from workloads.kept_activations import KeptByte, check_policy, kept_byte, passing_byte, recomputed, work_byte
from workloads.models.spec import Block, ModelSpec
from workloads.training import TrainPlan
from workloads.training_layers import lower_first, lower_last, lower_layer
from workloads.training_rows import FORWARD, INPUT_GRAD, UPDATE, WEIGHT_GRAD, Lowered, precision_format
from workloads.training_values import trained_layer, vocabulary_values

PS = 1e-12
LOGIT_BYTE = {True: 4.0, False: 10.0}
"""Bytes a logit at the peak. Fused cross entropy: the logits and their gradient in 16 bits. Not fused: the 16-bit
logits, a 32-bit copy and the softmax's 32-bit gradient."""
EXCHANGES = {"tp": "tp", "ep": "ep", "etp": "ep", "dp": "ep", "cp": "cp"}  # whose seconds a group's traffic is


class Site(NamedTuple):
    """A machine with a stack on it: the arrays that the kernels take, and what they stand for."""

    system: System
    machine: Machine
    stack: Record  # one record of STACK_DTYPE
    name: str
    precision: str
    inherited: str  # device whose calibration it is ("" none: speed of light)
    other: dict[tuple[str, str], str]  # (kind, format) whose kernel is not the device's default, and which it is
    head_width: tuple[int, ...] = ()  # those that the attention kernel is built for (none: any)

    @property
    def per_node(self) -> int:
        return self.system.node.num_device

    @property
    def peak_flop_per_s(self) -> float:
        """Of the layer's products, as the datasheet has it (whatever power a device is limited to)."""
        return self.system.device.peak(FORMATS[FORMAT_CODE[precision_format(self.precision)]].pipe)


def site(system: System, stack: TrainStack, attention: str = "", precision: str = "bf16") -> Site:
    """The machine of a system under a stack, with the named attention kernel (none: the stack's). `InputError` where
    the device has no pipe for the precision."""
    fmt = precision_format(precision)
    fidelity = "sol" if stack.name == "sol" else device.best_fidelity(system.device)
    # training sums with the library's own all-reduce, not with those of serving engines
    other = {("all_reduce", form.name): device.LIBRARY for form in FORMATS}
    arrays = device.machine(system, fidelity, named=other)
    if arrays.peak_flop_per_s[FORMAT_CODE[fmt]] <= 0:
        has = [f.name for f, peak in zip(FORMATS, arrays.peak_flop_per_s, strict=True) if peak > 0]
        raise InputError(f"{system.device.name} has no such pipe", field="format", value=precision, allowed=has)
    if arrays.fit[op.GEMM, FORMAT_CODE[fmt], ROW_S] > 0:
        # the calibrated kernel narrows its input first; here both directions' inputs are narrowed with their transposes
        # by kernels of their own, which are rows of the table
        arrays.fit[op.GEMM, FORMAT_CODE[fmt], ROW_S] = 0.0
        other["gemm", fmt] = "inputs narrowed by rows of their own"
    width: tuple[int, ...] = ()
    if stack.name != "sol":
        name = attention or stack.file.attention
        width = attention_kernels.widths(name, system.device)
        arrays = arrays._replace(fit=_with_kernel(arrays, system, name))
        if name != attention_kernels.measured(system.device):
            other |= {(kind, form.name): name for form in FORMATS for kind in ("attn_prefill", "attn_backward")}
    inherited = device.calibration(system.device)[1] if fidelity == "calibrated" else ""
    return Site(system, arrays, stack_record(stack, system), stack.name, precision, inherited, other, width)


def _with_kernel(arrays: Machine, system: System, attention: str) -> Floats:
    fit = arrays.fit.copy()
    name = attention if attention in attention_kernels.names() else "flash2"  # others are products and streams
    forward = attention_kernels.forward_fit(name, system.device)
    if forward is not None:
        fit[op.ATTN_PREFILL, :] = forward
    fit[op.ATTN_BACKWARD, :] = attention_kernels.backward_fit(name, system.device)
    return fit


def piece(model: ModelSpec, plan: TrainPlan, where: Site) -> Records:
    """`[3]` of LAYER_DTYPE: the mean layer, what the first stage has besides, and the last."""
    return pieces(model, [plan], where)[0]


def block_pieces(model: ModelSpec, plan: TrainPlan, where: Site) -> Records:
    """`[block]` of LAYER_DTYPE: each distinct layer of the model, of which `model.layer` names the order."""
    check_policy(model, plan)
    lowered = [lower_layer(model, block, plan, where.precision, where.per_node) for block in model.block]
    out = np.zeros(len(model.block), LAYER_DTYPE)
    for i, (low, cost) in enumerate(zip(lowered, _priced(lowered, where), strict=True)):
        found = _summed(low, cost, plan, where)
        _fill(out, i, found, plan)
        _fill_policy(out, i, _fill_byte(out, i, model, model.block[i], plan, where.precision), found, plan)
    return out


def pieces(model: ModelSpec, plans: Sequence[TrainPlan], where: Site) -> Records:
    """`[plan, 3]` of LAYER_DTYPE, all priced at once. Layers that differ enter by their mean; plans that differ in what
    they recompute alone share their operators."""
    share = np.bincount(model.layer, minlength=len(model.block)) / model.num_layer
    num_block = len(model.block)
    alike = [replace(plan, recompute="none") for plan in plans]
    distinct = list(dict.fromkeys(alike))
    lowered: list[Lowered] = []
    for plan in distinct:
        check_policy(model, plan)
        lowered += [lower_layer(model, block, plan, where.precision, where.per_node) for block in model.block]
        lowered += [end(model, plan, where.precision, where.per_node) for end in (lower_first, lower_last)]
    costs = _priced(lowered, where)
    summed = [
        _summed(low, cost, distinct[i // (num_block + 2)], where)
        for i, (low, cost) in enumerate(zip(lowered, costs, strict=True))
    ]
    at = {plan: p * (num_block + 2) for p, plan in enumerate(distinct)}
    out = np.zeros((len(plans), 3), LAYER_DTYPE)
    one = np.zeros(num_block, LAYER_DTYPE)
    flat = one.view(np.float64).reshape(num_block, -1)
    for p, plan in enumerate(plans):
        found = summed[at[alike[p]] : at[alike[p]] + num_block + 2]
        for i, block in enumerate(model.block):
            _fill(one, i, found[i], plan)
            _fill_policy(one, i, _fill_byte(one, i, model, block, plan, where.precision), found[i], plan)
        out[p, BODY] = (share @ flat).view(LAYER_DTYPE)[0]
        for end in (FIRST, LAST):
            _fill(out[p], end, found[num_block + end - 1], plan)
        _fill_ends(out[p], model, plan)
    return out


def layer_seconds(model: ModelSpec, block: Block, plan: TrainPlan, where: Site) -> tuple[Lowered, Floats]:
    """Rows of one layer and microbatch, and the seconds of each under the stack: what every sum here is made of."""
    low = lower_layer(model, block, plan, where.precision, where.per_node)
    return low, row_seconds(low, _priced([low], where)[0], where)


def ends_seconds(model: ModelSpec, plan: TrainPlan, where: Site) -> list[tuple[Lowered, Floats]]:
    """The same of what the first and the last stage have besides."""
    lowered = [end(model, plan, where.precision, where.per_node) for end in (lower_first, lower_last)]
    return [(low, row_seconds(low, cost, where)) for low, cost in zip(lowered, _priced(lowered, where), strict=True)]


def row_seconds(low: Lowered, cost: CostTable, where: Site) -> Floats:
    """Seconds of every row: its kernel's time under a lasting load, times the stack's factor for its class."""
    factor = np.where(_elementwise(low.ops), where.stack["vector"], where.stack["compute"])
    link = _classes()[low.ops["kind"]] == LINK
    return _lasting(low.ops, cost, cost["time_ps"] * PS, where) * np.where(link, 1.0, factor)


def _elementwise(ops: op.OpTable) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
    """Rows of a framework's element-wise operators, which a software fuses or not. What narrows the inputs of FP8
    products is a kernel of the products' library, one pass whatever the framework does."""
    return (_classes()[ops["kind"]] == STREAM) & (ops["kind"] != op.CONVERT)


def row_joules(low: Lowered, seconds: Floats, where: Site) -> Floats:
    """Joules above awake of every row at its seconds under the stack, whose unfused passes move their bytes again."""
    passes = np.where(_elementwise(low.ops), float(where.stack["vector"]), 1.0)
    return above_awake_j(low.ops, seconds, passes, where.machine)


def byte_piece(model: ModelSpec, plan: TrainPlan, precision: str = "bf16") -> Records:
    """`[3]` as `piece`, without any price: what layers and ends keep, and their values. Memory asks for no more."""
    check_policy(model, plan)
    out, one = np.zeros(3, LAYER_DTYPE), np.zeros(len(model.block), LAYER_DTYPE)
    for i, block in enumerate(model.block):
        _fill_byte(one, i, model, block, plan, precision)
    share = np.bincount(model.layer, minlength=len(model.block)) / model.num_layer
    out[BODY] = (share @ one.view(np.float64).reshape(len(model.block), -1)).view(LAYER_DTYPE)[0]
    _fill_ends(out, model, plan)
    return out


def _priced(lowered: Sequence[Lowered], where: Site) -> list[CostTable]:
    """Costs of each table, in one call."""
    ops = [low.ops for low in lowered]
    work = [low.work for low in lowered]
    start = np.cumsum([0, *(len(w) for w in work)])
    for table, first in zip(ops, start[:-1], strict=True):
        table["work_start"] += first
        table["work_stop"] += first
    every = np.concatenate(ops)
    if where.head_width:
        attends = np.isin(every["kind"], (op.ATTN_PREFILL, op.ATTN_BACKWARD))
        for field in ("head_dim", "v_head_dim"):
            every[field][attends] = attention_kernels.run_width(every[field][attends], where.head_width)
    cost = device.cost(every, np.concatenate(work), where.machine)
    return np.split(cost, np.cumsum([len(table) for table in ops])[:-1])


@functools.cache
def _classes() -> "np.ndarray[tuple[int, ...], np.dtype[np.int64]]":
    return np.array(CLASS, np.int64)


PART = ("recompute_s", "num_again_op", "tp_again_s", "ep_again_s", "again_j")
Part = tuple[float, float, float, float, float]  # of those: seconds, operators, tp and ep exchanges, joules


class Summed(NamedTuple):
    """Sums over one table: fields of LAYER, and of its forward rows by module and by name what recomputation repeats;
    seconds of weight gradients by name, and of one pass over a byte."""

    field: dict[str, float]
    module: dict[str, Part]
    name: dict[str, tuple[str, Part]]  # with the module that the rows belong to
    weight: dict[str, float]
    byte_s: float


def _summed(low: Lowered, cost: CostTable, plan: TrainPlan, where: Site) -> Summed:
    """Seconds by pass and exchange of one table."""
    ops, seconds, phase = low.ops, row_seconds(low, cost, where), low.ops["phase"]
    link = _classes()[ops["kind"]] == LINK
    forward, back, weight = phase == FORWARD, phase == INPUT_GRAD, phase == WEIGHT_GRAD
    count = ops["count"] * ~link
    own, joule = seconds * ~link, row_joules(low, seconds, where)
    field = {
        "forward_s": own @ forward, "input_grad_s": own @ back, "weight_grad_s": own @ weight,
        "num_op": float(count @ forward), "num_back_op": float(count @ (back | weight)),
        "update_s": float(own @ (phase == UPDATE)) / plan.refresh,
        "forward_j": joule @ forward, "back_j": joule @ (back | weight),
        "update_j": float(joule @ (phase == UPDATE)) / plan.refresh,
    }  # fmt: skip
    exchange = {name: np.zeros(len(ops)) for name in ("tp", "ep", "cp")}
    for row in np.flatnonzero(link).tolist():
        exchange[EXCHANGES[ops["name"][row].partition(b"_")[0].decode()]][row] = seconds[row]
    for name, values in exchange.items():
        field[f"{name}_s"], field[f"{name}_back_s"] = values @ forward, values @ back
    if plan.cp > 1 and not plan.ulysses:  # keys of the others come while their predecessors are attended to
        core = ~link & (np.array(low.module) == "core_attn")
        for name, passes in (("cp_s", forward), ("cp_back_s", back | weight)):
            hidden = float(seconds[core & passes].sum()) * (plan.cp - 1) / plan.cp
            field[name] = max(0.0, field[name] - hidden)
    modules, named = np.array(low.module), ops["name"].astype(str)

    def part(mine: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]") -> Part:
        columns = (own, count, exchange["tp"], exchange["ep"], joule)
        one, two, three, four, five = (float(column @ (forward & mine)) for column in columns)
        return one, two, three, four, five

    module = {name: part(modules == name) for name in dict.fromkeys(low.module)}
    single: dict[str, tuple[str, Part]] = {}
    weights: dict[str, float] = {}
    if plan.policy:  # single rows, which only a policy asks for
        single = {key: (low.module[int(np.argmax(named == key))], part(named == key)) for key in dict.fromkeys(named)}
        weights = {key: float(own @ (weight & (named == key))) for key in dict.fromkeys(named)}
    return Summed({key: float(value) for key, value in field.items()}, module, single, weights,
                  float(where.stack["vector"]) / max(float(where.stack["mem_byte_per_s"]), 1.0))  # fmt: skip


def _fill(out: Records, row: int, found: Summed, plan: TrainPlan) -> None:
    """One row of prices, with what the plan recomputes."""
    for name, value in found.field.items():
        out[name][row] = value
    chosen = found.module if plan.recompute == "full" else recomputed(plan)
    again = np.array([found.module[name] for name in chosen if name in found.module]).reshape(-1, len(PART)).sum(axis=0)
    for name, value in zip(PART, again, strict=True):
        out[name][row] = value
    if "core_attn" in chosen:  # keys go round, or heads change hands, once more
        out["cp_again_s"][row] = found.field["cp_s"]


def _fill_policy(out: Records, row: int, kept: KeptByte, found: Summed, plan: TrainPlan) -> None:
    """What a policy for single tensors adds to the recomputation and takes from the weight gradients of a row."""
    gone = set(found.module if plan.recompute == "full" else recomputed(plan))
    for name, share in kept.again:
        module, part = found.name.get(name, ("", (0.0, 0.0, 0.0, 0.0, 0.0)))
        if module in gone:  # runs again already
            continue
        for field, value in zip(PART, part, strict=True):
            out[field][row] += value * share
    for name, share, byte in kept.sampled:  # all are read and those that stay are written; fewer rows in the product
        out["forward_s"][row] += byte * (1 + share) * found.byte_s
        out["weight_grad_s"][row] -= (1 - share) * found.weight.get(name, 0.0)


def _lasting(ops: op.OpTable, cost: CostTable, seconds: Floats, where: Site) -> Floats:
    """Seconds under a lasting load: what the cores bound runs at the clock that the power limit leaves.

    A product's benchmark ran slower by itself where it drew full power (`throttle` of its fit); its time without that
    solves t = s + throttle f^2 / s for s, with f the time at peak, and it is slowed once, by the larger of the two.
    """
    hot = (cost["bound"] == op.BOUND_COMPUTE) & (_classes()[ops["kind"]] <= EXPERT)
    throttle = np.where(ops["kind"] == op.GEMM, where.machine.fit[op.GEMM, ops["fmt"], THROTTLE], 0.0)
    peak = where.machine.peak_flop_per_s[ops["fmt"]]
    ideal = np.divide(ops["flop"] * ops["count"], peak, out=np.zeros(len(ops)), where=peak > 0)
    root = np.sqrt(np.maximum(seconds**2 - 4 * throttle * ideal**2, 0.0))
    alone = (seconds + root) / 2
    return np.where(hot, np.maximum(seconds, alone / where.stack["clock"]), seconds)


def _fill_byte(
    out: Records, row: int, model: ModelSpec, block: Block, plan: TrainPlan, precision: str
) -> KeptByte:  # fmt: skip
    """Bytes that a layer keeps, and its values; returns what its policy does."""
    kept = kept_byte(model.hidden, block, plan, precision)
    out["kept_byte"][row], out["away_byte"][row] = kept.kept, kept.offloaded
    out["passing_byte"][row] = passing_byte(model.hidden, block, plan, kept.passing)
    out["work_byte"][row] = work_byte(model.hidden, block, plan)
    values = trained_layer(model, block, plan)
    for name, value in zip(("dense", "expert", "trained", "trained_expert"), values, strict=True):
        out[name][row] = value
    return kept


def _fill_ends(out: Records, model: ModelSpec, plan: TrainPlan) -> None:
    first, last = vocabulary_values(model, plan)
    trained = 0.0 if plan.lora_rank else 1.0
    out["dense"][FIRST], out["trained"][FIRST] = first, first * trained
    join = plan.mtp * 2.0 * model.hidden**2  # projections of the prediction heads, which share the vocabulary's
    out["dense"][LAST], out["trained"][LAST] = last + join, (last + join) * trained
    out["kept_byte"][LAST] = logit_byte(model, plan) * (1 + plan.mtp)


def logit_byte(model: ModelSpec, plan: TrainPlan) -> float:
    """Bytes of the logits of a microbatch and what the loss keeps of them, on one device of the last stage. A gathered
    loss has its own share and the gathered logits with both gradients in 16 bits besides."""
    logits = plan.seq * plan.micro_batch / plan.cp * model.vocab
    if plan.gather_logits and plan.tp > 1:
        return logits * (2 * plan.act_byte / plan.tp + LOGIT_BYTE[plan.fused_loss] + 2 * plan.act_byte)
    return logits / plan.tp * LOGIT_BYTE[plan.fused_loss]


def plan_record(model: ModelSpec, plan: TrainPlan, row: int = 0) -> Record:
    """One record of PLAN_DTYPE; `row` of its prices. A schedule that has no closed form is entered as 1F1B: the replay
    prices it."""
    out = np.zeros(1, PLAN_DTYPE)
    for name in PLAN_DTYPE.names or ():
        value = getattr(plan, name, None)
        if isinstance(value, int | float):
            out[name] = value
    if plan.compression != "none":
        ratio, passes, gathers = hook(plan.compression, model.hidden, plan.grad_byte, plan.compression_rank)
        out["compress_ratio"], out["compress_pass"], out["compress_gathers"] = ratio, passes, gathers
    out["num_chunk"] = plan.interleave
    out["recompute"] = RECOMPUTES.index(plan.recompute) if plan.recompute in RECOMPUTES else 1
    schedule = plan.schedule if plan.schedule in SCHEDULES else "1f1b"
    if schedule == "1f1b" and plan.interleave > 1:
        schedule = "interleaved-1f1b"
    out["schedule"] = SCHEDULES.index(schedule)
    out["dp_scheduled"] = plan.dp_traffic == "scheduled"
    out["hop_byte"] = plan.seq * plan.micro_batch / plan.cp * model.hidden * plan.act_byte
    out["num_layer"], out["tied"], out["piece"] = model.num_layer, model.tied, row
    fullest, first, last = rank_layers(model.num_layer - plan.mtp, plan.pp, plan.layout)
    out["fullest"], out["first_layer"], out["last_layer"] = max(fullest, last + plan.mtp), first, last + plan.mtp
    if plan.pp == 1:
        out["first_layer"] = model.num_layer
    return out[0]


def rank_layers(num_layer: int, pp: int, layout: Sequence[int] = ()) -> tuple[float, float, float]:
    """Layers of the fullest, the first and the last pipeline rank: where they do not divide the ends have one less
    before others do (`sim.training.stages.spread`).

    >>> rank_layers(126, 16), rank_layers(96, 16), rank_layers(32, 4, (7, 9, 9, 7))
    ((8.0, 7.0, 7.0), (6.0, 6.0, 6.0), (9.0, 7.0, 7.0))
    """
    if layout:
        ranks = [float(sum(layout[rank::pp])) for rank in range(pp)]
        return max(ranks), ranks[0], ranks[-1]
    most = -(-num_layer // pp)
    short = most * pp - num_layer
    return float(most), float(most - (short >= 2)), float(most - (short >= 1))
