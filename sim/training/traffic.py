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
from kernels.optable import ALL_GATHER, ALL_REDUCE, REDUCE_SCATTER
from kernels.rank_layout import group_node
from kernels.schedule import BACKWARD, FORWARD, INPUT_GRAD, RECOMPUTE, WEIGHT_GRAD, Ints
from kernels.train_plan import Floats, Records
from kernels.train_step import ANY_FORMAT, compressed
from sim.training.fitted.traffic import NO_LIMIT, PS, Traffic, _once, _run_edge, network_s, replay_with_traffic
from sim.training.price import Site
from workloads.pipeline import OpArrays

__all__ = ["Traffic", "Unit", "collective_times", "network_s", "replay_with_traffic", "traffic", "units"]


class Unit(NamedTuple):
    """A collective of one layer's values: its kind, bytes, ranks, ranks between neighbours."""

    kind: int
    byte: float
    size: int
    stride: int


def units(record: Records, stages: Records, ends: Records) -> dict[str, list[list[Unit]]]:
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
        out["gather"].append(pair(ALL_GATHER, float(dense + more), float(expert), float(record["act_byte"])))
        trained = float(layer["trained"] + end["trained"])
        out["reduce"].append(pair(reduce, trained, float(layer["trained_expert"]), sent))
    return out


def collective_times(one: Unit, record: Records, where: Site) -> tuple[float, float, float]:
    """Seconds of a collective: (start and hops, bytes inside nodes, bytes between nodes at the same time)."""
    if one.size <= 1 or one.byte <= 0:
        return 0.0, 0.0, 0.0
    ranks = int(record["tp"] * record["cp"] * record["dp"] * record["pp"])
    node = group_node(one.size, one.stride, where.per_node, ranks)
    fit = where.machine.fit[one.kind, ANY_FORMAT]
    _, fixed_s, inside_s, between_s = collective_parts(one.kind, one.byte, one.size, node, where.machine.link, fit, ANY)
    return float(fixed_s), float(inside_s), float(between_s)


def unit_seconds(found: list[list[Unit]], record: Records, where: Site) -> Floats:
    """`[stage]` seconds of one layer's collectives, on links of their own."""
    out = np.zeros(len(found))
    for stage, members in enumerate(found):
        for one in members:
            fixed, inside, between = collective_times(one, record, where)
            out[stage] += fixed + max(inside, between)
    return out


def traffic(arrays: OpArrays, record: Records, layers: Ints, gather_s: Floats, reduce_s: Floats) -> Traffic:
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
