"""Data-parallel traffic beside a pipeline's order: which operations wait for weights, which complete gradients.

ZeRO 0 reduces a stage's gradients once a batch, layer by layer under the last backward pass that completes them; ZeRO 1
and 2 gather the new weights under the first forward pass besides; ZeRO 2 scatters gradients after every backward pass;
ZeRO 3 (FSDP) also gathers weights for every pass. With `keep_gathered` both happen once for a run of operations on one
chunk instead, so that the schedule decides how often: once a batch and direction in a breadth-first one, every
operation where chunks alternate (Lamy-Poirier 2023, "Breadth-First Pipeline Parallelism", section 4).
"""

from typing import NamedTuple

import numpy as np

from kernels import training as t
from kernels.errors import InputError
from kernels.schedule import BACKWARD, FORWARD, INPUT_GRAD, RECOMPUTE, WEIGHT_GRAD, Ints
from kernels.traffic_replay import Bools, replay_traffic
from kernels.training import Floats
from kernels.training_step import collective_s
from sim.pipeline.schedule import deadlock, op_hop
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


def pair_layer(arrays: OpArrays, layers: int) -> int:
    """Layers that an overlapped forward and backward need gathered at once; 0 where nothing overlaps."""
    return 2 * layers if arrays.overlap.any() else 0


def transfer_byte(vector: Floats, laid: Floats, num_stage: int) -> dict[str, list[list[tuple[float, float, float]]]]:
    """Collectives that gather one layer's weights, and that reduce (ZeRO 0: twice the bytes) or scatter its gradients,
    of every stage: (group size, ranks between its members, bytes). Embedding and head are spread over the layers of
    their stages; dense weights and experts have groups of their own."""
    layers = t.stage_layer(vector, laid) / laid[t.NUM_CHUNK]
    tp, group = laid[t.TP], laid[t.DP] * laid[t.CP]
    edge = vector[t.VOCAB] / tp * vector[t.HIDDEN] / layers
    gathered = t.layer_value(vector, laid) if laid[t.ZERO] >= 3 else t.trained_value(vector, laid)
    passes = 2.0 if laid[t.ZERO] == 0 else 1.0
    if laid[t.COMPRESS_RATIO] > 0:
        passes *= laid[t.COMPRESS_RATIO] * (group / 2 if laid[t.COMPRESS_GATHERS] > 0 else 1.0)

    def groups(dense: float, expert: float, byte: float, edges: bool) -> list[list[tuple[float, float, float]]]:
        value = np.full(num_stage, dense)
        if edges:
            value[0] += edge
            if num_stage > 1 or vector[t.TIED] == 0:
                value[-1] += edge
        experts = [(max(group / laid[t.EP], 1.0), tp * laid[t.EP], expert * byte)] if expert else []
        return [[(group, tp, part * byte), *experts] for part in value]

    whole = laid[t.LORA_RANK] == 0  # adapters are beside layers alone
    return {
        "gather": groups(*gathered, laid[t.WEIGHT_BYTE], whole or laid[t.ZERO] >= 3),
        "reduce": groups(*t.trained_value(vector, laid), laid[t.GRAD_BYTE] * passes, whole),
    }


def unit_seconds(vector: Floats, laid: Floats, hw: Floats, fit: Floats, num_stage: int) -> tuple[Floats, Floats]:
    """`[stage]` seconds of the gather and of the reduction of one layer, on links of their own."""
    byte = transfer_byte(vector, laid, num_stage)
    gather, reduce = (
        np.array(
            [sum(collective_s(volume, size, stride, hw, fit) for size, stride, volume in stage) for stage in byte[what]]
        )
        for what in ("gather", "reduce")
    )
    return gather, reduce


def traffic(arrays: OpArrays, vector: Floats, laid: Floats, hw: Floats, fit: Floats) -> Traffic:
    """What every operation of an order waits for and sends, for the vectors of a model and a plan."""
    zero, keep = int(laid[t.ZERO]), laid[t.KEEP_GATHERED] > 0
    needs = np.isin(arrays.kind, (FORWARD, BACKWARD, INPUT_GRAD, RECOMPUTE))
    makes = np.isin(arrays.kind, (BACKWARD, WEIGHT_GRAD))
    none = np.zeros(arrays.kind.size, np.bool_)
    layers = round(t.stage_layer(vector, laid) / laid[t.NUM_CHUNK])
    limit = int(laid[t.GATHER_LIMIT])
    capacity = NO_LIMIT
    if zero == 0:
        gathers, frees = none, none
    elif zero < 3:
        gathers, frees = _once(arrays, arrays.kind == FORWARD, final=False), none
    else:
        gathers, frees = _run_edge(arrays, needs) if keep else (needs, needs)
        if limit:
            capacity = max(limit + (layers - 1 if keep else 0), pair_layer(arrays, layers))
    reduces = _run_edge(arrays, makes)[1] if keep else makes
    if zero < 2:
        reduces = _once(arrays, makes, final=True)
    gather, reduce = (
        np.rint(part * PS).astype(np.int64) for part in unit_seconds(vector, laid, hw, fit, arrays.num_stage)
    )
    unit = np.where(gathers | frees | reduces, layers, 1)
    return Traffic(unit, gathers, frees, reduces, gather[arrays.stage], reduce[arrays.stage], capacity)


def replay_with_traffic(arrays: OpArrays, table: Ints, hop: int, beside: Traffic) -> TrafficTimes:
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
