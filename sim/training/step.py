"""One training step: memory first, then operation times, then the exact replay of the schedule's order."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hw_models import catalog
from hw_models.clock import limited_system
from hw_models.routes import Routes
from hw_models.spec import System
from kernels.errors import InputError
from kernels.schedule import BACKWARD, FORWARD, OP_KINDS, WEIGHT_GRAD, Ints
from kernels.train_closed import load_s, replicas_s, waited
from kernels.train_plan import (
    BODY,
    LAYER_DTYPE,
    M_ACTIVATION,
    M_LOGIT,
    M_RESERVE,
    M_TOTAL,
    MEMORY,
    Floats,
    Record,
    Records,
    gathered_byte,
)
from kernels.train_plan import plan_memory as rank_memory
from kernels.train_step import (
    CP_S,
    DP_S,
    EP_S,
    FIRST_STAGE,
    LAST_STAGE,
    MIDDLE,
    ONLY,
    OPTIMIZER_S,
    RECOMPUTE_S,
    STAGE,
    TP_S,
    hop_over_s,
    layer_traffic_s,
    stage_times,
)
from sim.pipeline.schedule import end_times, memory_curve, rank_table
from sim.pipeline.schedule_run import with_recompute
from sim.training.energy import step_energy
from sim.training.price import Site, block_pieces, piece, plan_record, site
from sim.training.stack import TrainStack, default_stack, load_stack
from sim.training.stages import PS, Stages, duration_ps, mean, rank_stages, stage_seconds, stages
from sim.training.step_replay import flows, run_on_links, step_work
from sim.training.traffic import network_s, replay_with_traffic, traffic, unit_seconds, units
from workloads import models
from workloads.models.spec import ModelSpec
from workloads.models.tensors import num_param
from workloads.pipeline import OpArrays, Order, compile_order
from workloads.schedules import load as load_schedule
from workloads.training import TrainPlan, check, with_heads
from workloads.training_flop import model_flop

FIDELITIES = ("calibrated", "replay")


class TrainResult(NamedTuple):
    summary: dict[str, Any]  # step time, MFU, bubble, exposed communication by kind, memory of the fullest rank, cost
    memory: pd.DataFrame  # a pipeline rank a row, a kind a column, bytes
    stage: pd.DataFrame  # a stage a row: times of one microbatch, seconds
    op: pd.DataFrame  # the replayed schedule, as `sim.pipeline.schedule.ScheduleResult.op`, picoseconds

    def __repr__(self) -> str:
        return f"<TrainResult: a step in {self.summary['step_s']:,.4g} s, {len(self.stage)} stages>"

    def _repr_html_(self) -> str:
        from sim.show.tables import html_pairs

        return html_pairs(repr(self).strip("<>"), self.summary)


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
    model: str | ModelSpec, system: str | System, plan: TrainPlan, *, stack: str | TrainStack | None = None,
    number_format: str = "bf16", fidelity: str = "calibrated", oversubscription: float = 1.0, num_replica: int = 1,
    power_limit_w: float = 0.0,
) -> TrainResult:  # fmt: skip
    """Simulate one step. Never refuses what does not fit: `summary["fits"]` says so, times are given all the same.

    `plan.schedule` with `interleave` > 1 and "1f1b" is interleaved 1F1B. Raises `InputError` for plans that cannot be.

    `fidelity` "replay" puts hops and data-parallel traffic on the links of the system, whose network is narrowed by
    `oversubscription` above its leaves, with the hops of `num_replica` replicas (`sim.training.step_replay`).
    `power_limit_w` limits every device's board power, and with it the clock of its products (`hw_models.clock`).
    """
    spec = models.load(model) if isinstance(model, str) else model
    plan = resolve(plan)
    check(spec, plan)
    if fidelity not in FIDELITIES:
        raise InputError("unknown", field="fidelity", value=fidelity, allowed=FIDELITIES)
    machine = catalog.system(system, plan.num_device) if isinstance(system, str) else system
    if power_limit_w:
        machine = limited_system(machine, power_limit_w)
    if stack is None:
        stack = default_stack(machine.device.name, sharded=plan.zero >= 2, family=spec.family)
    chosen = load_stack(stack) if isinstance(stack, str) else stack
    where = site(machine, chosen, plan.attention, number_format)
    arrays = compile_order(build_order(plan))
    own, spec = spec, with_heads(spec, plan)
    most = own.num_layer + (2 if plan.interleave > 1 else 0)
    if arrays.num_stage > most and not plan.layout:
        raise InputError(f"{plan.schedule} makes {arrays.num_stage} stages of {own.num_layer} layers", field="pp",
                         value=plan.pp, allowed=f"<= {own.num_layer * plan.pp // arrays.num_stage}")  # fmt: skip
    if plan.host_update and not where.stack["host_mem_byte_per_s"]:
        raise InputError("nothing is known of the host's memory", field="host_update", value=machine.name)
    record = plan_record(spec, plan)
    record["num_chunk"] = arrays.num_stage / plan.pp
    record["dp_scheduled"] = plan.dp_traffic == "scheduled" or fidelity == "replay"
    blocks, ends = block_pieces(spec, plan, where), piece(spec, plan, where)
    laid = stages(spec, plan, blocks, ends, arrays.num_stage)
    times = stage_seconds(laid, record, where)
    table = duration_ps(times, plan.recompute == "full")
    hop, hop_most_s = hop_times(arrays, record, where)
    end = end_times(arrays, table, hop)
    start, pipeline_s = _start(arrays, table, end), int(end.max()) / PS
    exposed_pp_s = pipeline_s - int(end_times(arrays, table, 0).max()) / PS if plan.pp > 1 else 0.0
    busy_s = float(rank_table(arrays, start, end, start)["busy"].max()) / PS
    memory = memory_frame(laid, record, where, arrays)
    once = [_once(rank, held, laid, record, where) for rank, held in enumerate(rank_stages(arrays))]
    optimizer_s, dp_s, carried_s = (max(column) for column in zip(*once, strict=True))
    contention_s = 0.0
    if record["dp_scheduled"]:
        traded = _Traffic(arrays, laid, record, where)
        start, end, network = replay_with_traffic(arrays, table, hop, traded.beside)
        dp_s = max(int(end.max()), int(network.max())) / PS - pipeline_s
        carried_s = network_s(arrays, traded.beside)
        if fidelity == "replay":
            graph = step_work(arrays, table, int(np.max(hop)), traded.beside)
            routes = Routes(machine, oversubscription=oversubscription)
            collective = flows(graph, traded.unit, record, hop_most_s, routes, where, num_replica)
            shared = run_on_links(graph, collective, routes)
            start, end = shared.start_ps[graph.first], shared.end_ps[graph.last]
            contention_s = int(shared.end_ps.max()) / PS - pipeline_s - dp_s
    host_s = float(where.stack["step_s"])
    wait_s = (pipeline_s + dp_s + contention_s + optimizer_s + host_s) * (float(waited(record, where.stack)) - 1)
    step_s = pipeline_s + dp_s + contention_s + optimizer_s + host_s + wait_s
    data_s = max(0.0, float(load_s(record, where.stack)) - step_s)
    step_s += data_s
    fullest = memory.iloc[int(memory["total"].to_numpy().argmax())]
    m, passes = plan.num_microbatch, 3 if plan.recompute == "full" else 2
    column = np.array([times[held].sum(axis=0) for held in rank_stages(arrays)]).max(axis=0)  # of the fullest rank
    peak = where.peak_flop_per_s * plan.num_device * step_s
    summary: dict[str, Any] = {
        "fidelity": fidelity if where.inherited or fidelity == "replay" else "sol",
        "model": spec.name, "system": machine.name, "stack": chosen.name, "attention": plan.attention,
        "calibrated_on": where.inherited or "none (speed of light)", "inherited": inheritance(where),
        "schedule": plan.schedule, "num_device": plan.num_device, "parameter": float(num_param(own)),
        "num_microbatch": m, "fits": bool(fullest["total"] <= where.stack["mem_byte"]), "step_s": step_s,
        "token_per_s_per_device": plan.token / step_s / plan.num_device,
        "tok_per_s_per_device": plan.token / step_s / plan.num_device,
        "mfu": model_flop(own, plan) / peak, "mfu_causal": model_flop(own, plan, causal=True) / peak,
        "pipeline_s": pipeline_s, "bubble_s": pipeline_s - busy_s, "bubble_rate": 1 - busy_s / pipeline_s,
        "exposed_tp_s": float(column[TP_S] * m * passes), "exposed_ep_s": float(column[EP_S] * m * passes),
        "exposed_cp_s": float(column[CP_S] * m * passes), "exposed_pp_s": exposed_pp_s, "exposed_dp_s": dp_s,
        "dp_s": carried_s, "exposed_data_s": data_s, "contention_s": contention_s, "hop_s": hop_most_s,
        "recompute_s": float(column[RECOMPUTE_S] * m), "optimizer_s": optimizer_s, "host_s": host_s, "wait_s": wait_s,
        "memory_byte": float(fullest["total"]),
    }  # fmt: skip
    summary |= {f"mem_{kind}_byte": float(fullest[kind]) for kind in MEMORY}
    summary["mem_limit_byte"] = float(where.stack["mem_byte"])
    usd_per_s = machine.price_usd_per_h(plan.num_device) / 3600
    used = step_energy(record, ends, where, step_s, optimizer_s, dp_s)
    summary |= {"device_w": used.device_w, "node_w": used.node_w, "energy_j": used.device_j,
                "rest_j": used.wall_j - used.device_j, "energy_j_per_token": used.device_j / plan.token,
                "wall_j_per_token": used.wall_j / plan.token}  # fmt: skip
    summary |= {"step_usd": usd_per_s * step_s, "usd_per_billion_token": usd_per_s * step_s / plan.token * 1e9}
    stage = pd.DataFrame(times, columns=list(STAGE))
    stage.insert(0, "stage", range(len(stage)))
    stage.insert(1, "layer", laid.layers)
    return TrainResult(summary, memory, stage, _op_frame(arrays, start, end))


class _Traffic:
    """Data-parallel traffic of an order: its collectives a layer, and what each operation waits for and sends."""

    def __init__(self, arrays: OpArrays, laid: Stages, record: Record, where: Site) -> None:
        body, ends = laid.piece[:, BODY], np.zeros(len(laid.layers), LAYER_DTYPE)
        for stage, layers in enumerate(laid.layers):
            for end, place in ((1, (FIRST_STAGE, ONLY)), (2, (LAST_STAGE,) if record["tied"] else (LAST_STAGE, ONLY))):
                if laid.where[stage] in place:
                    for name in ("dense", "trained"):
                        ends[name][stage] += laid.piece[stage, end][name] / max(int(layers), 1)
        self.unit = units(record, body, ends)
        gather_s, reduce_s = (unit_seconds(self.unit[name], record, where) for name in ("gather", "reduce"))
        self.beside = traffic(arrays, record, laid.layers, gather_s, reduce_s)


def inheritance(where: Site) -> str:
    """What a result rests on, in words.

    >>> from hw_models import catalog
    >>> inheritance(site(catalog.system("h800"), load_stack("megatron-core")))
    'kernels inherited from h100_sxm; factors of megatron-core found on h100_sxm'
    """
    own = where.system.device.name
    if where.name == "sol":
        return "nothing: speed of light"
    kernels = (
        "kernels of the device's own calibration"
        if where.inherited == own
        else (
            f"kernels inherited from {where.inherited}"
            if where.inherited
            else "no calibration: kernels at speed of light"
        )
    )
    found = load_stack(where.name).file.device
    narrow = [f"{fmt} products: {name}" for (kind, fmt), name in where.other.items() if kind == "gemm"]
    return "; ".join([kernels, *narrow, f"factors of {where.name} found on {found}"])


def hop_times(arrays: OpArrays, record: Record, where: Site) -> tuple[list[int], float]:
    """(integer ps of the hop after each stage, the longest in seconds): a hop leaves its node only where the ranks of
    its two stages lie on different ones."""
    count = max(arrays.num_stage - 1, 1)
    if record["pp"] <= 1:
        return [0] * count, 0.0
    rank = np.zeros(arrays.num_stage, np.int64)
    rank[arrays.stage] = arrays.rank
    stride = int(record["tp"] * record["cp"] * record["dp"])
    place = np.arange(stride)
    seconds = [float(hop_over_s(record, where.stack, where.machine, node)) for node in (1, 2)]
    out = np.zeros(count)
    for stage in range(count):
        here, there = ((rank[stage + k] * stride + place) // where.per_node for k in (0, 1))
        out[stage] = seconds[int((here != there).any())]
    return np.rint(out * PS).astype(np.int64).tolist(), float(out.max())


def _once(rank: int, held: Ints, laid: Stages, record: Record, where: Site) -> tuple[float, float, float]:
    """(update, exposed and whole data-parallel seconds) of a pipeline rank."""
    layers = float(laid.layers[held].sum())
    first, last = 0 in held, len(laid.layers) - 1 in held
    place = ONLY if first and last else FIRST_STAGE if first else LAST_STAGE if last else MIDDLE
    row = np.zeros(len(STAGE))
    stage_times(record, _mean_piece(held, laid), where.stack, where.machine, max(layers, 1.0), place, row)
    prices = _mean_piece(held, laid)
    gather, reduce, end = layer_traffic_s(record, prices, where.stack, where.machine)
    ends = max(0.0, float(row[DP_S]) - layers * (gather + reduce)) if end else 0.0
    exposed = float(replicas_s(record, where.stack, gather, reduce, ends, max(layers, 1.0), row, 0.0))
    return float(row[OPTIMIZER_S]), exposed, float(row[DP_S])


def _mean_piece(held: Ints, laid: Stages) -> Records:
    """Prices of a rank's mean layer with those of the ends."""
    out = laid.piece[held[0]].copy()
    layers = laid.layers[held]
    if layers.sum() > 0:
        for name in LAYER_DTYPE.names or ():
            out[name][BODY] = float((laid.piece[held, BODY][name] * layers).sum() / layers.sum())
    return out


def memory_frame(laid: Stages, record: Record, where: Site, arrays: OpArrays) -> pd.DataFrame:
    """Bytes of every pipeline rank by kind: the activations at their peak over the replayed order."""
    kept = np.array([float(laid.piece[s, BODY]["kept_byte"]) * laid.layers[s] for s in range(len(laid.layers))])
    kept = np.rint(kept * (1 - float(record["act_offload"]))).astype(np.int64)
    delta = np.zeros((len(OP_KINDS), len(kept)), np.int64)
    delta[FORWARD], delta[BACKWARD], delta[WEIGHT_GRAD] = kept, -kept, -kept
    curve = memory_curve(arrays, delta)
    rows = []
    for rank, held in enumerate(rank_stages(arrays)):
        own = slice(arrays.rank_start[rank], arrays.rank_start[rank + 1])
        mine, prices = record.copy(), _mean_piece(held, laid)
        for name in ("fullest", "first_layer", "last_layer"):
            mine[name] = laid.layers[held].sum()
        out = _rank_memory(mine, prices, where, 0 in held, len(laid.layers) - 1 in held)
        held_back = float(in_flight_byte(mine, prices))
        out[M_ACTIVATION] += float(curve[own].max()) - held_back
        if record["zero"] >= 3 and arrays.overlap.any():  # an overlapped pair gathers the layers of both
            most = float(laid.layers[held].max())
            short = 2 * most - min(float(record["gather_limit"]) or most, most)
            out[MEMORY.index("buffer")] += max(0.0, short) * float(
                (prices[BODY]["dense"] + prices[BODY]["expert"]) * gathered_byte(record)
            )
        buffers = out[M_ACTIVATION] + out[M_LOGIT] + out[MEMORY.index("buffer")]
        out[M_RESERVE] = where.stack["reserve_byte"] + where.stack["fragment"] * buffers
        out[M_TOTAL] = out[:M_TOTAL].sum()
        rows.append(out)
    frame = pd.DataFrame(rows, columns=list(MEMORY))
    frame.insert(0, "rank", range(len(frame)))
    return frame


def in_flight_byte(record: Record, prices: Records) -> float:
    """Kept bytes that `kernels.train_plan.plan_memory` counts for a rank in the middle."""
    from kernels.train_plan import in_flight

    kept = prices[BODY]["kept_byte"] * record["fullest"] * (1 - record["act_offload"])
    return float(kept * in_flight(record, 0.5))


def _rank_memory(record: Record, prices: Records, where: Site, first: bool, last: bool) -> Floats:
    """Bytes of a rank with the ends that it holds, its kept activations as in the middle of a pipeline."""

    def one(rank: float, changed: Record) -> Floats:
        out = np.zeros(len(MEMORY))
        rank_memory(changed, prices, where.stack, rank, out)
        return out

    alone = record.copy()
    alone["pp"] = 1.0
    middle = one(0.5, record)
    if not first and not last:
        return middle
    if first and last:
        ends = one(0.0, alone)
    else:
        wide = record.copy()
        wide["pp"] = max(float(record["pp"]), 2.0)
        ends = one(0.0, wide) if first else one(float(wide["pp"]) - 1, wide)
    ends[M_ACTIVATION] = middle[M_ACTIVATION]
    if last and not record["hold_logits"]:  # what a layer needs at once fits where the logits were
        need = float(prices[BODY]["work_byte"] + (prices[BODY]["passing_byte"] if record["recompute"] > 0 else 0.0))
        ends[M_ACTIVATION] -= min(need, ends[M_LOGIT])
    return ends


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


__all__ = ["TrainResult", "build_order", "mean", "resolve", "train"]
