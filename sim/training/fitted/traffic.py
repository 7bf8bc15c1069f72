"""Data-parallel traffic beside a pipeline's order: which operations wait for weights, which complete gradients.

ZeRO 0 reduces a stage's gradients once a batch, layer by layer under the last backward pass that completes them; ZeRO 1
and 2 gather the new weights under the first forward pass besides; ZeRO 2 scatters gradients after every backward pass;
ZeRO 3 (FSDP) also gathers weights for every pass. With `keep_gathered` both happen once for a run of operations on one
chunk instead, so that the schedule decides how often: once a batch and direction in a breadth-first one, every
operation where chunks alternate (Lamy-Poirier 2023, "Breadth-First Pipeline Parallelism", section 4).
"""

import numpy as np

from kernels import training as t
from kernels.schedule import BACKWARD, FORWARD, INPUT_GRAD, RECOMPUTE, WEIGHT_GRAD
from kernels.training import Floats
from kernels.training_step import collective_s
from sim.training.traffic import (
    NO_LIMIT,
    PS,
    Traffic,
    TrafficTimes,
    _once,
    _run_edge,
    network_s,
    replay_with_traffic,
)
from workloads.pipeline import OpArrays


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


__all__ = ["Traffic", "TrafficTimes", "network_s", "pair_layer", "replay_with_traffic", "traffic", "transfer_byte"]
