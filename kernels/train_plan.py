"""A training plan, a layer's price and a stack's factors as records, and the memory that a plan takes.

`LAYER` is what pricing one distinct layer shape gives (`device.cost` of its operator rows, `sim.training.price`) beside
the bytes that it keeps; a plan is then composed of look-ups. The ends of a model (embedding; head and loss) are records
of the same kind. Units: seconds, bytes, values of a device.
"""

import numpy as np
import numpy.typing as npt

from kernels.jit import njit

Floats = npt.NDArray[np.float64]
Record = np.void  # one of these
Records = npt.NDArray[np.void]

PLAN: tuple[str, ...] = (
    "tp", "pp", "dp", "cp", "ep", "expert_tp", "expert_dp", "sequence_parallel", "num_chunk", "micro_batch",
    "num_microbatch", "recompute", "zero", "schedule", "weight_byte", "act_byte", "gather_byte", "grad_byte",
    "optimizer_byte",
    "act_offload", "tp_overlap", "ep_overlap", "dp_scheduled", "keep_gathered", "gather_limit",
    "logit_chunk", "hold_logits",
    "lora_rank", "offload_write_byte_per_s", "offload_read_byte_per_s", "weight_offload", "optimizer_offload",
    "compress_ratio", "compress_pass", "compress_gathers", "sample_byte", "loader_byte_per_s", "whole_hop",
    "blocking_hop", "host_update", "hop_byte", "num_layer", "fullest", "first_layer", "last_layer", "tied",
    "fused_norm", "piece",
)  # fmt: skip
"""`recompute` is 2 where everything is recomputed, 1 for a part, 0 for nothing; `hop_byte` a microbatch's activations
on their way to the next stage; `fullest`, `first_layer` and `last_layer` layers of the fullest, the first and the
last pipeline rank; `tied` the head shares the embedding's values; `piece` the row of its prices."""
PLAN_DTYPE = np.dtype([(name, "f8") for name in PLAN])

LAYER: tuple[str, ...] = (
    "forward_s", "input_grad_s", "weight_grad_s", "recompute_s",  # without exchanges
    "num_op", "num_back_op", "num_again_op",  # operators that the host launches: forward, backward, recomputed
    "tp_s", "tp_back_s", "ep_s", "ep_back_s", "cp_s", "cp_back_s",  # exchanges; of a ring what attention cannot hide
    "tp_again_s", "ep_again_s", "cp_again_s",  # of what is recomputed
    "update_s",  # products of an update of the layer's matrices, a step
    "forward_j", "back_j", "again_j", "update_j",  # joules above awake, exchanges and all
    "kept_byte", "passing_byte", "work_byte",  # kept of a microbatch; recomputed at once; gradients under way
    "away_byte",  # on the host meanwhile
    "dense", "expert", "trained", "trained_expert",  # values of a device: all, and those that have gradients
)  # fmt: skip
LAYER_DTYPE = np.dtype([(name, "f8") for name in LAYER])
BODY, FIRST, LAST = 0, 1, 2  # of a row of prices: the mean layer, what the first stage has besides, and the last

STACK: tuple[str, ...] = (
    "compute",  # time of products and attention over their kernels' benchmarks
    "vector",  # time of element-wise operators over theirs: passes that are not fused
    "host_s",  # of the host, an operator
    "step_s",  # once a step
    "exposed",  # share of the data-parallel traffic that compute could hide and does not
    "jitter",  # spread of a device's step time, as a share: all wait for the slowest
    "reserve_byte",  # driver context, communicators, workspaces
    "fragment",  # share lost to fragmentation
)  # fmt: skip
MACHINE: tuple[str, ...] = ("clock", "contention", "device_per_node", "host_byte_per_s", "mem_byte", "mem_byte_per_s",
                            "host_mem_byte_per_s")  # fmt: skip
"""Of the machine: clock of products under a lasting load relative to boost, share of the cores that a collective holds,
devices a node, a device's host link, usable memory, a device's share of its host's memory rate."""
STACK_DTYPE = np.dtype([(name, "f8") for name in (*STACK, *MACHINE)])
IDEAL_STACK: dict[str, float] = {"compute": 1.0, "vector": 1.0, "clock": 1.0}  # speed of light: the rest is 0

RECOMPUTES: tuple[str, ...] = ("none", "selective", "full")
ATTENTIONS: tuple[str, ...] = ("unfused", "fused_softmax", "flash1", "flash2", "flash3")
SCHEDULES: tuple[str, ...] = ("gpipe", "1f1b", "interleaved-1f1b", "breadth-first", "zb-h1", "zb-h2", "zb-v")
GPIPE, ONE_F_ONE_B, INTERLEAVED, BREADTH_FIRST, ZB_H1, ZB_H2, ZB_V = range(len(SCHEDULES))

MEMORY: tuple[str, ...] = ("weight", "grad", "optimizer", "activation", "logit", "buffer", "reserve", "total")
M_WEIGHT, M_GRAD, M_OPTIMIZER, M_ACTIVATION, M_LOGIT, M_BUFFER, M_RESERVE, M_TOTAL = range(len(MEMORY))
BUCKET = 0.2e9  # values of a bucket of gradients under way (a distributed optimizer's default: 40 M x 5 buckets)


@njit
def heavy_chunk(plan: Record) -> float:
    """Chunks of the fullest rank that have a layer more than its others; 0 where its chunks are alike."""
    v, fullest = plan["num_chunk"], plan["fullest"]
    each = np.floor(plan["num_layer"] / (plan["pp"] * v))
    more = fullest - each * v
    return more if 0.0 < more < v else 0.0


@njit
def in_flight(plan: Record, rank: float) -> float:
    """Microbatches through the whole rank whose activations are kept at once at most."""
    p, m, v, kind = plan["pp"], plan["num_microbatch"], plan["num_chunk"], plan["schedule"]
    if kind in (GPIPE, BREADTH_FIRST):
        return m
    if kind == ONE_F_ONE_B:
        return min(m, p - rank)
    if kind == INTERLEAVED:
        more, fullest = heavy_chunk(plan), plan["fullest"]
        if more > 0.0:  # the first chunks are the heavy ones: they come in while light ones go out
            layers = (p - 1 - 2 * rank) * np.ceil(fullest / v) + p * min(more - 1, v - more)
            return min(m, p + layers / fullest)
        return min(m * v, (v - 1) * p + 2 * (p - 1 - rank) + 1) / v
    if kind == ZB_H2:
        return min(m, 2 * p - 1)
    return min(m, p)  # ZB-H1, ZB-V


@njit
def gathered_byte(plan: Record) -> float:
    """Bytes of a value of weights that are gathered."""
    return plan["gather_byte"] if plan["gather_byte"] > 0 else plan["act_byte"]


@njit
def gathered_layer(plan: Record, layers: float) -> float:
    """Layers whose weights ZeRO 3 holds gathered at once: as many as the rate limiter lets in (0: all of the rank's),
    beside the whole chunk at work where that is kept."""
    held = plan["gather_limit"]
    if held > 0 and plan["keep_gathered"] > 0:
        held += layers / plan["num_chunk"] - 1
    return min(held, layers) if held > 0 else layers


@njit
def plan_memory(plan: Record, piece: Records, stack: Record, rank: float, out: Floats) -> float:
    """Peak bytes on a device of pipeline rank `rank`, by kind in `out[MEMORY]`; returns the total.

    Dense values are shared by dp x cp ranks under ZeRO, experts by the copies of an expert. At the peak every kept
    activation is there with the logits, or (recomputing) with one layer's: the logits are gone by then, unless the
    stack holds them.
    """
    layer, first, last, layers = piece[BODY], piece[FIRST], piece[LAST], plan["fullest"]
    if rank == 0:
        layers = plan["first_layer"]
    elif rank == plan["pp"] - 1:
        layers = plan["last_layer"]
    group, expert_group, zero = plan["dp"] * plan["cp"], plan["expert_dp"], plan["zero"]
    dense, expert = layer["dense"] * layers, layer["expert"] * layers
    trained, trained_expert = layer["trained"] * layers, layer["trained_expert"] * layers
    if rank == 0:
        dense, trained = dense + first["dense"], trained + first["trained"]
    if rank == plan["pp"] - 1 and (plan["pp"] > 1 or plan["tied"] == 0):
        dense, trained = dense + last["dense"], trained + last["trained"]
    over3 = (group, expert_group) if zero >= 3 else (1.0, 1.0)
    over2 = (group, expert_group) if zero >= 2 else (1.0, 1.0)
    over1 = (group, expert_group) if zero >= 1 else (1.0, 1.0)
    out[M_WEIGHT] = plan["weight_byte"] * (dense / over3[0] + expert / over3[1]) * (1 - plan["weight_offload"])
    out[M_GRAD] = plan["grad_byte"] * (trained / over2[0] + trained_expert / over2[1])
    state = trained / over1[0] + trained_expert / over1[1]
    out[M_OPTIMIZER] = plan["optimizer_byte"] * state * (1 - plan["optimizer_offload"])
    kept = layer["kept_byte"] * layers * in_flight(plan, rank) * (1 - plan["act_offload"])
    out[M_LOGIT] = last["kept_byte"] / max(plan["logit_chunk"], 1.0) if rank == plan["pp"] - 1 else 0.0
    passing = layer["work_byte"] + (layer["passing_byte"] if plan["recompute"] > 0 else 0.0)
    gone = out[M_LOGIT] if plan["hold_logits"] == 0 else 0.0
    out[M_ACTIVATION] = kept + max(0.0, passing - gone)
    out[M_BUFFER] = 0.0
    # a layer on its way out, and one on its way back
    out[M_BUFFER] += 2 * (layer["kept_byte"] * plan["act_offload"] + layer["away_byte"])
    if plan["weight_offload"] > 0:  # two layers: at work, and on its way
        out[M_BUFFER] += 2 * plan["weight_offload"] * (layer["dense"] + layer["expert"]) * plan["weight_byte"]
    if zero >= 3:  # gathered layers, in the format of the products
        out[M_BUFFER] += gathered_layer(plan, layers) * (layer["dense"] + layer["expert"]) * gathered_byte(plan)
        out[M_BUFFER] += (layer["trained"] + layer["trained_expert"]) * plan["act_byte"]  # and one's gradients
    elif zero >= 1:
        out[M_BUFFER] += min(BUCKET, trained + trained_expert) * plan["grad_byte"]
    if zero >= 2 and plan["keep_gathered"] > 0:  # whole gradients of the chunk at work
        out[M_BUFFER] += layers / plan["num_chunk"] * (layer["trained"] + layer["trained_expert"]) * plan["grad_byte"]
    total = 0.0
    for part in range(M_RESERVE):
        total += out[part]
    out[M_RESERVE] = stack["reserve_byte"] + stack["fragment"] * (out[M_ACTIVATION] + out[M_LOGIT] + out[M_BUFFER])
    out[M_TOTAL] = total + out[M_RESERVE]
    return out[M_TOTAL]


@njit
def peak_byte(plan: Record, piece: Records, stack: Record, memory: Floats) -> float:
    """Bytes of the fullest device: of the first, the second or the last pipeline rank; `memory` is of that one."""
    most, fullest = 0.0, 0.0
    for place in range(3):
        rank = 0.0 if place == 0 else (1.0 if place == 1 else plan["pp"] - 1)
        if place > 0 and (rank <= 0.0 or (place == 1 and plan["pp"] <= 2)):
            continue
        total = plan_memory(plan, piece, stack, rank, memory)
        if total > most:
            most, fullest = total, rank
    return plan_memory(plan, piece, stack, fullest, memory)


@njit
def update_byte(plan: Record, state: float, grad: float) -> tuple[float, float]:
    """Bytes read and written by an update of `state` values whose device holds `grad` gradients: the gradients' norm is
    read and zeros are written over them, states and master weights are read and written, weights written."""
    read = state * (plan["optimizer_byte"] + plan["grad_byte"]) + grad * plan["grad_byte"]
    zeros = grad * plan["grad_byte"] if plan["zero"] < 2 else 0.0
    return read, state * (plan["optimizer_byte"] + plan["weight_byte"]) + zeros
