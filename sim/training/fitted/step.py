"""One training step: memory first, then operation times, then the exact replay of the schedule's order."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hw_models import catalog
from hw_models.routes import Routes
from hw_models.spec import System
from kernels import training as t
from kernels.errors import InputError
from kernels.schedule import BACKWARD, FORWARD, INPUT_GRAD, OP_KINDS, RECOMPUTE, WEIGHT_GRAD, Ints
from kernels.training import Floats
from kernels.training_step import load_s, stage_times
from sim.pipeline.schedule import end_times, memory_curve, rank_table
from sim.pipeline.schedule_run import with_recompute
from sim.training.fitted.stack import Stack, default_stack, hardware_vector, load
from sim.training.fitted.step_replay import flows, run_on_links, step_work
from sim.training.fitted.traffic import network_s, pair_layer, replay_with_traffic, traffic
from workloads import models
from workloads.models.spec import ModelSpec
from workloads.pipeline import OpArrays, Order, compile_order
from workloads.schedules import load as load_schedule
from workloads.training import TrainPlan, check, model_flop, model_vector, parameter_count, plan_vector

PS = 1e12
FIDELITIES = ("calibrated", "replay")


class TrainResult(NamedTuple):
    summary: dict[str, Any]  # step time, MFU, bubble, exposed communication by kind, memory of the fullest rank, cost
    memory: pd.DataFrame  # a pipeline rank a row, a kind a column, bytes
    stage: pd.DataFrame  # a stage a row: times of one microbatch, seconds
    op: pd.DataFrame  # the replayed schedule, as `sim.pipeline.schedule.ScheduleResult.op`, picoseconds


def resolve(plan: TrainPlan) -> TrainPlan:
    """The plan with "1f1b" of several chunks named as what it is."""
    if plan.schedule == "1f1b" and plan.interleave > 1:
        return replace(plan, schedule="interleaved-1f1b")
    return plan


def build_order(plan: TrainPlan) -> Order:
    """The schedule's order for this plan, with recomputation before each backward where everything is recomputed."""
    schedule = load_schedule(plan.schedule)
    option = {"num_chunk": plan.interleave} if "num_chunk" in schedule.option and plan.interleave > 1 else {}
    if plan.interleave > 1 and not option:
        raise InputError(f"{plan.schedule} has no chunks to choose", field="interleave", value=plan.interleave,
                         allowed="1; or interleaved-1f1b, breadth-first, zb-h1")  # fmt: skip
    order = schedule.build(plan.pp, plan.num_microbatch, **option)
    return with_recompute(order) if plan.recompute == "full" else order


def train(
    model: str | ModelSpec, system: str | System, plan: TrainPlan, *, stack: str | Stack | None = None,
    number_format: str = "bf16", fidelity: str = "calibrated", oversubscription: float = 1.0, num_replica: int = 1,
) -> TrainResult:  # fmt: skip
    """Simulate one step. Never refuses what does not fit: `summary["fits"]` says so, times are given all the same.

    `plan.schedule` with `interleave` > 1 and "1f1b" is interleaved 1F1B. Raises `InputError` for plans that cannot be.

    `fidelity` "replay" puts hops and data-parallel traffic on the links of the system, whose network is narrowed by
    `oversubscription` above its leaves, with the hops of `num_replica` replicas (`sim.training.fitted.step_replay`).
    """
    spec = models.load(model) if isinstance(model, str) else model
    plan = resolve(plan)
    check(spec, plan)
    machine = catalog.system(system, plan.num_device) if isinstance(system, str) else system
    constants = stack if isinstance(stack, Stack) else load(stack or default_stack(machine.device.name))
    hw, fit = hardware_vector(machine, number_format), constants.fit
    arrays = compile_order(build_order(plan))
    if arrays.num_stage > spec.num_layer:
        raise InputError(f"{plan.schedule} makes {arrays.num_stage} stages of {spec.num_layer} layers", field="pp",
                         value=plan.pp, allowed=f"<= {spec.num_layer * plan.pp // arrays.num_stage}")  # fmt: skip
    vector, laid = model_vector(spec, plan.seq, plan.dropout), plan_vector(plan, spec.hidden)
    laid[t.NUM_CHUNK] = arrays.num_stage / plan.pp
    times, table = stage_table(vector, laid, hw, fit, arrays, plan)
    hop = round(times[0, t.HOP_S] * PS) if plan.pp > 1 else 0
    end = end_times(arrays, table, hop)
    start, pipeline_s = _start(arrays, table, end), int(end.max()) / PS
    # hops on the critical path, and the share of every hop that a stage itself waits for
    exposed_pp_s = pipeline_s - int(end_times(arrays, table, 0).max()) / PS if hop else 0.0
    if hop:
        exposed_pp_s += 2 * plan.num_microbatch * arrays.num_stage / plan.pp * fit[t.HOP_BLOCK] * times[0, t.HOP_S]
    busy_s = float(rank_table(arrays, start, end, start)["busy"].max()) / PS
    memory = _memory(vector, laid, fit, arrays)
    once = np.zeros(len(t.STAGE))
    stage_times(vector, laid, hw, fit, t.ONLY if plan.pp == 1 else t.FIRST, once)
    dp_s, carried_s = float(once[t.DP_S] * fit[t.DP_EXPOSED]), float(once[t.DP_S])
    scheduled = fidelity == "replay" or plan.dp_traffic == "scheduled"
    if fidelity not in FIDELITIES:
        raise InputError("unknown", field="fidelity", value=fidelity, allowed=FIDELITIES)
    beside = traffic(arrays, vector, laid, hw, fit) if scheduled else None
    contention_s = 0.0
    if beside is not None:
        start, end, network = replay_with_traffic(arrays, table, hop, beside)
        dp_s = max(int(end.max()), int(network.max())) / PS - pipeline_s
        carried_s = network_s(arrays, beside)
    if beside is not None and fidelity == "replay":
        graph = step_work(arrays, table, hop, beside)
        routes = Routes(machine, oversubscription=oversubscription)
        shared = run_on_links(graph, flows(graph, vector, laid, hw, fit, routes, num_replica), routes)
        start, end = shared.start_ps[graph.first], shared.end_ps[graph.last]
        contention_s = int(shared.end_ps.max()) / PS - pipeline_s - dp_s
    hidden_s = max(0.0, carried_s - dp_s) * float(fit[t.OVERLAP_SLOW])
    step_s = pipeline_s + dp_s + contention_s + hidden_s + float(once[t.OPTIMIZER_S]) + float(fit[t.STEP_S])
    data_s = max(0.0, load_s(laid, hw) - step_s)
    step_s += data_s
    op = _op_frame(arrays, start, end)
    fullest = memory.iloc[int(memory["total"].to_numpy().argmax())]
    m = plan.num_microbatch
    passes = 3 if plan.recompute == "full" else 2
    column = np.array([times[:, part].max() for part in range(len(t.STAGE))]) * arrays.num_stage / plan.pp
    summary: dict[str, Any] = {
        "fidelity": fidelity if constants.name != "sol" or fidelity == "replay" else "sol",
        "model": spec.name, "system": machine.name, "stack": constants.name, "schedule": plan.schedule,
        "num_device": plan.num_device, "parameter": parameter_count(spec), "num_microbatch": m,
        "fits": bool(fullest["total"] <= hw[t.MEM_BYTE]),
        "step_s": step_s,
        "token_per_s_per_device": plan.token / step_s / plan.num_device,
        "mfu": model_flop(spec, plan) / (step_s * plan.num_device * hw[t.FLOP_PER_S]),
        "mfu_causal": model_flop(spec, plan, causal=True) / (step_s * plan.num_device * hw[t.FLOP_PER_S]),
        "pipeline_s": pipeline_s,
        "bubble_s": pipeline_s - busy_s,
        "bubble_rate": 1 - busy_s / pipeline_s,
        "exposed_tp_s": float(column[t.TP_S] * m * passes),
        "exposed_ep_s": float(column[t.EP_S] * m * passes),
        "exposed_cp_s": float(column[t.CP_S] * m * passes),
        "exposed_pp_s": exposed_pp_s,
        "exposed_dp_s": dp_s + hidden_s,
        "dp_s": carried_s,
        "exposed_data_s": data_s,
        "contention_s": contention_s,
        "hop_s": float(times[0, t.HOP_S]),
        "recompute_s": float(column[t.RECOMPUTE_S] * m),
        "optimizer_s": float(once[t.OPTIMIZER_S]),
        "host_s": float(fit[t.STEP_S]),
    }  # fmt: skip
    summary |= {f"mem_{kind}_byte": float(fullest[kind]) for kind in t.MEMORY}
    summary["mem_limit_byte"] = float(hw[t.MEM_BYTE])
    usd_per_s = machine.price_usd_per_h(plan.num_device) / 3600
    summary |= {"step_usd": usd_per_s * step_s, "usd_per_billion_token": usd_per_s * step_s / plan.token * 1e9}
    stage = pd.DataFrame(times, columns=list(t.STAGE))
    stage.insert(0, "stage", range(len(stage)))
    return TrainResult(summary, memory, stage, op)


def stage_table(
    vector: Floats, laid: Floats, hw: Floats, fit: Floats, arrays: OpArrays, plan: TrainPlan
) -> tuple[Floats, Ints]:
    """`[stage, STAGE]` seconds of one microbatch, and `[kind, stage]` integer ps for the replay."""
    times = _stage_seconds(vector, laid, hw, fit, arrays.num_stage)
    return times, _duration_ps(times, plan)


def _stage_seconds(vector: Floats, laid: Floats, hw: Floats, fit: Floats, num_stage: int) -> Floats:
    """`[num_stage, STAGE]`: one microbatch through one stage (one chunk of a rank)."""
    rows = np.zeros((4, len(t.STAGE)))
    if laid[t.PP] == 1 and num_stage == 1:
        stage_times(vector, laid, hw, fit, t.ONLY, rows[t.ONLY])
        return rows[t.ONLY : t.ONLY + 1]
    for where in (t.FIRST, t.MIDDLE, t.LAST):
        stage_times(vector, laid, hw, fit, where, rows[where])
    out = np.tile(rows[t.MIDDLE] / laid[t.NUM_CHUNK], (num_stage, 1))
    out[:, t.HOP_S] = rows[t.MIDDLE, t.HOP_S]
    out[0] += rows[t.FIRST] - rows[t.MIDDLE]
    out[-1] += rows[t.LAST] - rows[t.MIDDLE]
    return out


def _duration_ps(times: Floats, plan: TrainPlan) -> Ints:
    """`[kind, stage]` for the replay. Partial recomputation belongs to the backward that it precedes."""
    table = np.zeros((len(OP_KINDS), len(times)), np.int64)
    ps = np.rint(times * PS).astype(np.int64)
    table[FORWARD], table[INPUT_GRAD], table[WEIGHT_GRAD] = (
        ps[:, t.FORWARD_S],
        ps[:, t.INPUT_GRAD_S],
        ps[:, t.WEIGHT_GRAD_S],
    )
    if plan.recompute == "full":
        table[RECOMPUTE] = ps[:, t.RECOMPUTE_S]
    else:
        table[INPUT_GRAD] += ps[:, t.RECOMPUTE_S]
    table[BACKWARD] = table[INPUT_GRAD] + table[WEIGHT_GRAD]
    return table


def _memory(vector: Floats, laid: Floats, fit: Floats, arrays: OpArrays) -> pd.DataFrame:
    """Bytes of every pipeline rank by kind: the activations at their peak over the replayed order."""
    full = laid[t.RECOMPUTE_KIND] == t.RECOMPUTES.index("full")
    layers = t.stage_layer(vector, laid) / laid[t.NUM_CHUNK]
    kept = round(t.activation_byte(vector, laid, fit, full) * layers * (1 - laid[t.ACT_OFFLOAD]))
    delta = np.zeros(len(OP_KINDS), np.int64)
    delta[FORWARD], delta[BACKWARD], delta[WEIGHT_GRAD] = kept, -kept, -kept
    curve = memory_curve(arrays, delta)
    pair_byte = 0.0  # an overlapped pair gathers the layers of both
    if laid[t.ZERO] >= 3 and laid[t.DP_SCHEDULED] > 0:
        short = pair_layer(arrays, round(layers)) - t.gathered_layer(laid, layers * laid[t.NUM_CHUNK])
        pair_byte = max(0.0, short) * sum(t.layer_value(vector, laid)) * laid[t.WEIGHT_BYTE]
    body, first, last = np.zeros((3, len(t.MEMORY)))  # a rank between the ends, and what each end has besides
    t.plan_memory(vector, laid, fit, 0.5, body)
    t.plan_memory(vector, laid, fit, 0.0, first)
    t.plan_memory(vector, laid, fit, laid[t.PP] - 1, last)
    first -= body
    last -= body if laid[t.PP] > 1 else first + body
    rows = []
    for rank in range(arrays.rank_start.size - 1):
        own = slice(arrays.rank_start[rank], arrays.rank_start[rank + 1])
        stages = np.unique(arrays.stage[own])
        out = body * len(stages) / laid[t.NUM_CHUNK]  # two directions: a rank holds a part of each copy of the model
        for stage, edge in ((0, first), (arrays.num_stage - 1, last)):
            out += edge if stage in stages else 0.0
        out[t.M_BUFFER] = body[t.M_BUFFER] + pair_byte
        out[t.M_ACTIVATION] = float(curve[own].max())
        if full:  # and the layer that is being recomputed
            passing = t.passing_byte(vector, laid, fit)
            out[t.M_ACTIVATION] += passing - fit[t.LOGIT_REUSE] * min(passing, out[t.M_LOGIT])
        held = out[t.M_ACTIVATION] + out[t.M_LOGIT] + out[t.M_BUFFER]
        out[t.M_RESERVE] = fit[t.RESERVE_BYTE] + fit[t.FRAGMENT] * held
        out[t.M_TOTAL] = out[: t.M_TOTAL].sum()
        rows.append(out)
    frame = pd.DataFrame(rows, columns=list(t.MEMORY))
    frame.insert(0, "rank", range(len(frame)))
    return frame


def _start(arrays: OpArrays, table: Ints, end: Ints) -> Ints:
    duration = table[arrays.kind, arrays.stage]
    first = np.flatnonzero(arrays.overlap)
    duration[first] = duration[first + 1] = duration[first] + duration[first + 1]
    return end - duration


def _op_frame(arrays: OpArrays, start: Ints, end: Ints) -> pd.DataFrame:
    unit = np.zeros(len(OP_KINDS), np.int64)
    unit[FORWARD], unit[BACKWARD], unit[WEIGHT_GRAD] = 1, -1, -1
    return pd.DataFrame(
        {"rank": arrays.rank, "kind": [OP_KINDS[k] for k in arrays.kind], "stage": arrays.stage,
         "microbatch": arrays.microbatch, "start": start, "end": end, "overlap": arrays.overlap,
         "memory": memory_curve(arrays, unit)}
    )  # fmt: skip
