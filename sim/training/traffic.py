"""Data-parallel traffic beside a pipeline's order: which operations wait for weights, which complete gradients.

ZeRO 0 reduces a stage's gradients once a batch, layer by layer under the last backward pass that completes them; ZeRO 1
and 2 gather the new weights under the first forward pass besides; ZeRO 2 scatters gradients after every backward pass;
ZeRO 3 (FSDP) also gathers weights for every pass. With `keep_gathered` both happen once for a run of operations on one
chunk instead, so that the schedule decides how often: once a batch and direction in a breadth-first one, every
operation where chunks alternate (Lamy-Poirier 2023, "Breadth-First Pipeline Parallelism", section 4).

Dense values are exchanged over dp x cp ranks, experts over their copies; embedding and head are spread over the layers
of their stages.
"""

from typing import NamedTuple

import numpy as np

from kernels.collective import ANY, collective_parts
from kernels.errors import InputError
from kernels.optable import ALL_GATHER, ALL_REDUCE, REDUCE_SCATTER
from kernels.rank_layout import group_node
from kernels.schedule import BACKWARD, FORWARD, INPUT_GRAD, RECOMPUTE, WEIGHT_GRAD, Ints
from kernels.traffic_replay import Bools, replay_traffic
from kernels.train_plan import Floats, Record, Records, gathered_byte
from kernels.train_step import ANY_FORMAT, compressed
from sim.pipeline.schedule import PerStage, deadlock, op_hop
from sim.training.price import Site
from workloads.pipeline import OpArrays

PS = 1e12
NO_LIMIT = 2**40


class Traffic(NamedTuple):
    """Of every operation, as `kernels.traffic_replay` takes it; times in ps."""

    unit: Ints
    gathers: Bools
    frees: Bools
    reduces: Bools
    gather: Ints
    reduce: Ints
    capacity: int


class TrafficTimes(NamedTuple):
    start: Ints  # [op] ps
    end: Ints  # [op] ps
    network: Ints  # [rank] ps: end of its last transfer


def _run_edge(arrays: OpArrays, chosen: Bools) -> tuple[Bools, Bools]:
    """First and last operations of runs: chosen ones of a rank that follow one another on one stage."""
    first, last = np.zeros((2, arrays.kind.size), np.bool_)
    index = np.flatnonzero(chosen)
    if index.size:
        change = (np.diff(arrays.stage[index]) != 0) | (np.diff(arrays.rank[index]) != 0)
        first[index[np.append(True, change)]] = True
        last[index[np.append(change, True)]] = True
    return first, last


def _once(arrays: OpArrays, chosen: Bools, *, final: bool) -> Bools:
    """The first (or the final) chosen operation of each stage on each rank."""
    out = np.zeros(arrays.kind.size, np.bool_)
    index = np.flatnonzero(chosen)
    order = index[::-1] if final else index
    key = arrays.rank[order] * arrays.num_stage + arrays.stage[order]
    out[order[np.unique(key, return_index=True)[1]]] = True
    return out


class Unit(NamedTuple):
    """A collective of one layer's values: its kind, bytes, ranks, ranks between neighbours."""

    kind: int
    byte: float
    size: int
    stride: int


def units(record: Record, stages: Records, ends: Records) -> dict[str, list[list[Unit]]]:
    """Collectives that gather one layer's weights and that reduce or scatter its gradients, of every stage.

    `stages[stage]` holds the mean layer of a stage and `ends[stage]` the values of embedding or head a layer of it
    (all, and trained).
    """
    zero = int(record["zero"])
    group, tp = int(record["dp"] * record["cp"]), int(record["tp"])
    copies, apart = int(record["expert_dp"]), int(record["expert_tp"] * record["ep"])
    sent = float((record["act_byte"] if zero >= 2 else record["grad_byte"]) * compressed(record))
    reduce = ALL_REDUCE if zero == 0 else REDUCE_SCATTER

    def pair(kind: int, dense: float, expert: float, byte: float) -> list[Unit]:
        found = [Unit(kind, dense * byte, group, tp)]
        return [*found, Unit(kind, expert * byte, copies, apart)] if expert > 0 else found

    gather_all = zero >= 3
    out: dict[str, list[list[Unit]]] = {"gather": [], "reduce": []}
    for layer, end in zip(stages, ends, strict=True):
        dense, expert = (layer["dense"], layer["expert"]) if gather_all else (layer["trained"], layer["trained_expert"])
        more = end["dense"] if gather_all else end["trained"]
        out["gather"].append(pair(ALL_GATHER, float(dense + more), float(expert), float(gathered_byte(record))))
        trained = float(layer["trained"] + end["trained"])
        out["reduce"].append(pair(reduce, trained, float(layer["trained_expert"]), sent))
    return out


def collective_times(one: Unit, record: Record, where: Site) -> tuple[float, float, float]:
    """Seconds of a collective: (start and hops, bytes inside nodes, bytes between nodes at the same time)."""
    if one.size <= 1 or one.byte <= 0:
        return 0.0, 0.0, 0.0
    ranks = int(record["tp"] * record["cp"] * record["dp"] * record["pp"])
    node = group_node(one.size, one.stride, where.per_node, ranks)
    fit = where.machine.fit[one.kind, ANY_FORMAT]
    _, fixed_s, inside_s, between_s = collective_parts(one.kind, one.byte, one.size, node, where.machine.link, fit, ANY)
    return float(fixed_s), float(inside_s), float(between_s)


def unit_seconds(found: list[list[Unit]], record: Record, where: Site) -> Floats:
    """`[stage]` seconds of one layer's collectives, on links of their own."""
    out = np.zeros(len(found))
    for stage, members in enumerate(found):
        for one in members:
            fixed, inside, between = collective_times(one, record, where)
            out[stage] += fixed + max(inside, between)
    return out


def traffic(arrays: OpArrays, record: Record, layers: Ints, gather_s: Floats, reduce_s: Floats) -> Traffic:
    """What every operation of an order waits for and sends; `layers`, `gather_s` and `reduce_s` of every stage."""
    zero, keep = int(record["zero"]), record["keep_gathered"] > 0
    needs = np.isin(arrays.kind, (FORWARD, BACKWARD, INPUT_GRAD, RECOMPUTE))
    makes = np.isin(arrays.kind, (BACKWARD, WEIGHT_GRAD))
    none = np.zeros(arrays.kind.size, np.bool_)
    most, limit = int(layers.max()), int(record["gather_limit"])
    capacity = NO_LIMIT
    if zero == 0:
        gathers, frees = none, none
    elif zero < 3:
        gathers, frees = _once(arrays, arrays.kind == FORWARD, final=False), none
    else:
        gathers, frees = _run_edge(arrays, needs) if keep else (needs, needs)
        if limit:
            pair = 2 * most if arrays.overlap.any() else 0
            capacity = max(limit + (most - 1 if keep else 0), pair)
    reduces = _run_edge(arrays, makes)[1] if keep else makes
    if zero < 2:
        reduces = _once(arrays, makes, final=True)
    gather, reduce = (np.rint(part * PS).astype(np.int64)[arrays.stage] for part in (gather_s, reduce_s))
    unit = np.where(gathers | frees | reduces, np.maximum(layers[arrays.stage], 1), 1)
    return Traffic(unit, gathers, frees, reduces, gather, reduce, capacity)


def replay_with_traffic(arrays: OpArrays, table: Ints, hop: PerStage, beside: Traffic) -> TrafficTimes:
    """Times of the order with its traffic; `table[kind, stage]` in ps. Raises `InputError` on deadlock."""
    duration = table[arrays.kind, arrays.stage]
    first = np.flatnonzero(arrays.overlap)
    duration[first] = duration[first + 1] = duration[first] + duration[first + 1]
    start, end = np.empty((2, duration.size), np.int64)
    network = np.empty(arrays.rank_start.size - 1, np.int64)
    done = replay_traffic(
        arrays.rank_start, arrays.dep, op_hop(arrays, hop), duration, arrays.overlap, beside.unit, beside.gathers,
        beside.frees, beside.reduces, beside.gather, beside.reduce, beside.capacity, start, end, network,
    )  # fmt: skip
    if done < end.size:
        raise InputError(deadlock(arrays, end))
    return TrafficTimes(start, end, network)


def network_s(arrays: OpArrays, beside: Traffic) -> float:
    """Seconds that the busiest rank's network carries."""
    time = beside.unit * (beside.gathers * beside.gather + beside.reduces * beside.reduce)
    return float(np.bincount(arrays.rank, time).max()) / PS
