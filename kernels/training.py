"""One training step of a transformer under a plan: operation times of a stage, memory, and the step in closed form.

Vectors in, vectors out, so that a plan is scored in microseconds. Times are roofline terms over fitted efficiencies
(`FIT`), memory is counted operator by operator and comes first: `plan_memory` alone decides what fits.

Units: seconds, bytes, FLOPs. A microbatch is `micro_batch` sequences of `seq` tokens.
"""

import numpy as np
import numpy.typing as npt

from kernels.jit import njit

Floats = npt.NDArray[np.float64]

MODEL: tuple[str, ...] = (
    "hidden", "num_layer", "num_head", "num_kv_head", "head_dim", "inter", "num_up", "vocab", "seq", "num_expert",
    "topk", "expert_inter", "tied", "position_row", "dropout", "v_head_dim", "q_rank", "kv_rank", "rope_dim",
    "score_share",
)  # fmt: skip
(
    HIDDEN, NUM_LAYER, NUM_HEAD, NUM_KV_HEAD, HEAD_DIM, INTER, NUM_UP, VOCAB, SEQ, NUM_EXPERT, TOPK, EXPERT_INTER, TIED,
    POSITION_ROW, DROPOUT, V_HEAD_DIM, Q_RANK, KV_RANK, ROPE_DIM,
    SCORE_SHARE,  # share of the causal scores that sliding windows leave, over all layers; 0: all
) = range(len(MODEL))  # fmt: skip

PLAN: tuple[str, ...] = (
    "tp", "pp", "dp", "cp", "ep", "sequence_parallel", "num_chunk", "micro_batch", "num_microbatch", "recompute",
    "zero", "attention", "fused_norm", "schedule", "weight_byte", "act_byte", "grad_byte", "optimizer_byte", "skew",
    "act_offload", "backward_chunk", "ulysses", "tp_overlap",
    "dp_scheduled", "keep_gathered", "gather_limit", "logit_chunk", "lora_rank",
    "offload_write_byte_per_s", "offload_read_byte_per_s", "weight_offload", "optimizer_offload", "global_balance",
    "compress_ratio", "compress_pass", "compress_gathers", "sample_byte", "loader_byte_per_s", "whole_hop",
)  # fmt: skip
(
    TP, PP, DP, CP, EP, SEQUENCE_PARALLEL, NUM_CHUNK, MICRO_BATCH, NUM_MICROBATCH, RECOMPUTE_KIND, ZERO, ATTENTION,
    FUSED_NORM, SCHEDULE, WEIGHT_BYTE, ACT_BYTE, GRAD_BYTE, OPTIMIZER_BYTE, SKEW,
    ACT_OFFLOAD, BACKWARD_CHUNK, ULYSSES, TP_OVERLAP,
    DP_SCHEDULED, KEEP_GATHERED, GATHER_LIMIT, LOGIT_CHUNK, LORA_RANK,
    OFFLOAD_WRITE, OFFLOAD_READ, WEIGHT_OFFLOAD, OPTIMIZER_OFFLOAD, GLOBAL_BALANCE,
    COMPRESS_RATIO, COMPRESS_PASS, COMPRESS_GATHERS, SAMPLE_BYTE, LOADER_BYTE_PER_S, WHOLE_HOP,
) = range(len(PLAN))  # fmt: skip

RECOMPUTES: tuple[str, ...] = ("none", "selective", "full")
ATTENTIONS: tuple[str, ...] = ("unfused", "fused_softmax", "flash1", "flash2")
SCHEDULES: tuple[str, ...] = ("gpipe", "1f1b", "interleaved-1f1b", "breadth-first", "zb-h1", "zb-h2", "zb-v")
GPIPE, ONE_F_ONE_B, INTERLEAVED, BREADTH_FIRST, ZB_H1, ZB_H2, ZB_V = range(len(SCHEDULES))

HARDWARE: tuple[str, ...] = (
    "flop_per_s", "mem_byte_per_s", "mem_byte", "up_byte_per_s", "up_latency_s", "out_byte_per_s", "out_latency_s",
    "device_per_node", "host_byte_per_s", "wide_flop_per_s",
)  # fmt: skip
(
    FLOP_PER_S, MEM_BYTE_PER_S, MEM_BYTE, UP_BYTE_PER_S, UP_LATENCY_S, OUT_BYTE_PER_S, OUT_LATENCY_S, DEVICE_PER_NODE,
    HOST_BYTE_PER_S,
    WIDE_FLOP_PER_S,  # of what stays in 16 bits where a layer's products are narrower: attention and the head
) = range(len(HARDWARE))  # fmt: skip

FIT: tuple[str, ...] = (
    "gemm",  # share of peak that a large matrix product reaches
    "gemm_narrow",  # width of a shard at which a product's efficiency halves
    "gemm_row",  # rows (tokens) at which it halves
    "flash_forward",  # share of peak of fused attention (version 2; `flash1` scales it)
    "flash_backward",
    "flash1",
    "softmax_pass",  # passes over the scores of unfused attention, forward; backward takes as many again
    "fused_softmax",  # passes that a fused scale-mask-softmax leaves, as a share
    "vector_pass",  # passes over the residual stream a layer, forward
    "fused_norm",  # share left with fused norm kernels
    "mem",  # share of memory bandwidth reached
    "launch_s",  # host time a layer, forward (backward: twice)
    "kernel_s",  # device time a layer that no size explains, forward
    "microbatch_s",  # host time a microbatch and stage
    "step_s",  # once a step
    "up",  # share of a scale-up link reached by collectives
    "out",
    "p2p",  # share of a link reached by a transfer between stages
    "hop_block",  # share of a transfer that a stage itself waits for, every microbatch
    "collective_s",  # start of a collective
    "tp_exposed",  # share of tensor-parallel communication that matrix products do not hide
    "dp_exposed",  # share of the gradient reduction that backward does not hide
    "optimizer_pass",  # passes over the optimizer state of an update
    "logit_pass",  # passes over the logits
    "reserve_byte",  # driver context, communicators, workspaces
    "fragment",  # share lost to fragmentation
    "overlap_slow",  # slowdown of compute by communication that it hides
    "kept_norm",  # residual-stream tensors that unfused norms keep besides their inputs, a layer
    "kept_gather",  # share of the gathered inputs that sequence parallelism does not split
    "kept_score",  # bytes a score that attention (but flash) keeps besides the softmax
    "logit_byte",  # bytes a logit of a device on the last stage
    "logit_gather_byte",  # bytes a logit of the whole vocabulary, where a stack gathers them for its loss
    "logit_reuse",  # share of the logits' room that a recomputed layer takes when they are gone
    "accumulate_pass",  # passes over the gradients that adding a microbatch's takes beside its products (fused: 0)
)  # fmt: skip
(
    GEMM, GEMM_NARROW, GEMM_ROW, FLASH_FORWARD, FLASH_BACKWARD, FLASH1, SOFTMAX_PASS, FUSED_SOFTMAX,
    VECTOR_PASS, FUSED_NORM_FIT, MEM, LAUNCH_S, KERNEL_S, MICROBATCH_S, STEP_S, UP, OUT, P2P, HOP_BLOCK,
    COLLECTIVE_S, TP_EXPOSED, DP_EXPOSED, OPTIMIZER_PASS, LOGIT_PASS, RESERVE_BYTE, FRAGMENT, OVERLAP_SLOW,
    KEPT_NORM, KEPT_GATHER, KEPT_SCORE, LOGIT_BYTE, LOGIT_GATHER_BYTE, LOGIT_REUSE,
    ACCUMULATE_PASS,
) = range(len(FIT))  # fmt: skip
# speed of light: everything reaches its peak, nothing is launched, communication is hidden, memory has no reserve
_IDEAL = {"gemm_narrow": 0, "gemm_row": 0, "softmax_pass": 2, "fused_softmax": 0.5, "vector_pass": 4, "logit_pass": 2,
          "launch_s": 0, "kernel_s": 0, "microbatch_s": 0, "step_s": 0, "hop_block": 0, "collective_s": 0,
          "tp_exposed": 0, "dp_exposed": 0, "reserve_byte": 0, "fragment": 0, "overlap_slow": 0, "kept_norm": 0,
          "kept_gather": 0, "kept_score": 0, "logit_byte": 10, "logit_gather_byte": 0,
          "accumulate_pass": 0}  # fmt: skip
IDEAL_FIT: tuple[float, ...] = tuple(float(_IDEAL.get(name, 1)) for name in FIT)

STAGE: tuple[str, ...] = (
    "forward_s", "input_grad_s", "weight_grad_s", "recompute_s", "tp_s", "ep_s", "cp_s", "hop_s", "dp_s", "optimizer_s",
)  # fmt: skip
FORWARD_S, INPUT_GRAD_S, WEIGHT_GRAD_S, RECOMPUTE_S, TP_S, EP_S, CP_S, HOP_S, DP_S, OPTIMIZER_S = range(len(STAGE))

MEMORY: tuple[str, ...] = ("weight", "grad", "optimizer", "activation", "logit", "buffer", "reserve", "total")
M_WEIGHT, M_GRAD, M_OPTIMIZER, M_ACTIVATION, M_LOGIT, M_BUFFER, M_RESERVE, M_TOTAL = range(len(MEMORY))

FIRST, MIDDLE, LAST, ONLY = 0, 1, 2, 3  # where a stage lies


@njit
def value_dim(model: Floats) -> float:
    """Width of a value head; that of a query head unless the model says otherwise."""
    return model[V_HEAD_DIM] if model[V_HEAD_DIM] > 0 else model[HEAD_DIM]


@njit
def kv_head(model: Floats, tp: float) -> float:
    """Heads of keys and values on a device: one at least, repeated where tensor parallelism is wider than they are."""
    return max(model[NUM_KV_HEAD] / tp, min(model[NUM_KV_HEAD], 1.0))


@njit
def attention_value(model: Floats, tp: float) -> float:
    """Values of the projections of one attention layer on a device.

    Latent attention (`kv_rank` > 0, DeepSeek-V2) has low-rank projections of queries and of keys and values; what
    leads down to a rank is on every tensor-parallel device, what leads up from it is split by heads.
    """
    h, head, dim, wide = model[HIDDEN], model[NUM_HEAD] / tp, model[HEAD_DIM], value_dim(model)
    if model[KV_RANK] == 0:
        return h * (head + kv_head(model, tp)) * (dim + wide)
    query = model[Q_RANK] * (h + head * dim) if model[Q_RANK] > 0 else h * head * dim
    down = h * (model[KV_RANK] + model[ROPE_DIM])
    return query + down + model[KV_RANK] * head * (dim - model[ROPE_DIM] + wide) + head * wide * h


@njit
def layer_value(model: Floats, plan: Floats) -> tuple[float, float]:
    """Values of one layer on a device: (dense part, experts)."""
    h, tp = model[HIDDEN], plan[TP]
    dense = attention_value(model, tp) + (model[NUM_UP] + 1) * h * model[INTER] / tp + 4 * h
    expert = 0.0
    if model[NUM_EXPERT] > 0:
        expert = model[NUM_EXPERT] / plan[EP] * (model[NUM_UP] + 1) * h * model[EXPERT_INTER] / tp
        dense += h * model[NUM_EXPERT]
    return dense, expert


@njit
def adapter_value(model: Floats, plan: Floats) -> tuple[float, float]:
    """Values of the low-rank adapters of one layer on a device: (dense part, experts); zeros without.

    Rank r beside every linear map of n inputs and m outputs: r (n + m) (Hu et al. 2021); the side that tensor
    parallelism splits is split.
    """
    h, tp, r = model[HIDDEN], plan[TP], plan[LORA_RANK]
    query, key = model[NUM_HEAD] * model[HEAD_DIM] / tp, kv_head(model, tp) * model[HEAD_DIM]
    dense = r * (2 * (h + query) + 2 * (h + key))
    if model[INTER] > 0:
        dense += r * (model[NUM_UP] + 1) * (h + model[INTER] / tp)
    expert = model[NUM_EXPERT] / plan[EP] * r * (model[NUM_UP] + 1) * (h + model[EXPERT_INTER] / tp)
    return dense, expert


@njit
def trained_value(model: Floats, plan: Floats) -> tuple[float, float]:
    """Values of one layer on a device that have gradients and states: its adapters where there are any, else all."""
    if plan[LORA_RANK] > 0:
        return adapter_value(model, plan)
    return layer_value(model, plan)


@njit
def stage_layer(model: Floats, plan: Floats) -> float:
    """Layers of the fullest stage (all its chunks)."""
    return np.ceil(model[NUM_LAYER] / (plan[PP] * plan[NUM_CHUNK])) * plan[NUM_CHUNK]


@njit
def activation_byte(model: Floats, plan: Floats, fit: Floats, full: bool) -> float:
    """Bytes that one layer keeps of one microbatch for its backward pass, on one device.

    By operator, as in Korthikanti et al. 2022: s b h (34 + 5 a s / h) at 2 B a value for a GPT layer with dropout and
    tensor and sequence parallelism 1; flash attention keeps one row sum a score row instead of the scores, a gated
    feed-forward part four wide tensors instead of two. `full`: only the layer's input, the rest is recomputed.
    """
    tp, byte = plan[TP], plan[ACT_BYTE]
    token = model[SEQ] * plan[MICRO_BATCH] / plan[CP]
    split = tp if plan[SEQUENCE_PARALLEL] > 0 else 1.0
    h, heads = model[HIDDEN], model[NUM_HEAD]
    if full:
        return token * h * byte / split
    masks = 2 * token * h * model[DROPOUT] / split  # a byte a value after attention and after the feed-forward part
    stream = 2 * token * h * byte / split  # inputs of the norms
    stream += 2 * token * h * byte * (fit[KEPT_GATHER] + (1 - fit[KEPT_GATHER]) / split)  # inputs of qkv and of up
    if plan[FUSED_NORM] == 0:
        stream += fit[KEPT_NORM] * token * h * byte / split
    # q, k, v and the projection's input; the latents of low-rank projections
    attention = token * (heads / tp + kv_head(model, tp)) * (model[HEAD_DIM] + value_dim(model)) * byte
    if model[KV_RANK] > 0:
        attention += token * (model[Q_RANK] + model[KV_RANK] + model[ROPE_DIM]) * byte
    if plan[ATTENTION] >= 2:
        attention += 4 * token * heads / tp
    elif plan[RECOMPUTE_KIND] != 1:
        score = plan[MICRO_BATCH] * heads / tp * model[SEQ] * model[SEQ] / plan[CP]
        # softmax, what a stack keeps besides, and the mask and result of dropout
        attention += score * (byte + (byte + 1) * model[DROPOUT])
        attention += score * fit[KEPT_SCORE]
    num_wide = 2 * model[NUM_UP]
    wide = token * model[INTER] * num_wide * byte / tp
    if model[NUM_EXPERT] > 0:
        routed = token * model[TOPK] * (1 + plan[SKEW])
        wide += routed * (model[EXPERT_INTER] * num_wide / tp + 2 * h / split) * byte
    return masks + stream + attention + wide


@njit
def passing_byte(model: Floats, plan: Floats, fit: Floats) -> float:
    """Bytes of one layer that recomputation needs besides the kept inputs, on one device.

    In one piece: all that the layer keeps for its backward pass. In `backward_chunk` parts of the sequence: two parts
    of that (one is let go when the next is built), and normed input, keys and values of all that went before; but never
    less than the forward pass itself holds, which runs whole: two residual streams and the wide tensors.
    """
    whole, chunk = activation_byte(model, plan, fit, False), max(plan[BACKWARD_CHUNK], 1.0)
    if chunk == 1:
        return whole
    token, tp = model[SEQ] * plan[MICRO_BATCH] / plan[CP], plan[TP]
    split = tp if plan[SEQUENCE_PARALLEL] > 0 else 1.0
    before = token * (model[HIDDEN] / split + 2 * kv_head(model, tp) * model[HEAD_DIM]) * plan[ACT_BYTE]
    wide = model[INTER] + model[TOPK] * model[EXPERT_INTER]
    forward = token * (2 * model[HIDDEN] / split + (model[NUM_UP] + 1) * wide / tp) * plan[ACT_BYTE]
    return min(whole, max(2 * whole / chunk + before * (chunk - 2) / chunk, forward))


@njit
def in_flight(plan: Floats, rank: float) -> float:
    """Microbatches through the whole rank whose activations are kept at once at most."""
    p, m, v, kind = plan[PP], plan[NUM_MICROBATCH], plan[NUM_CHUNK], plan[SCHEDULE]
    if kind in (GPIPE, BREADTH_FIRST):
        return m
    if kind == ONE_F_ONE_B:
        return min(m, p - rank)
    if kind == INTERLEAVED:
        return min(m * v, (v - 1) * p + 2 * (p - 1 - rank) + 1) / v
    if kind == ZB_H2:
        return min(m, 2 * p - 1)
    return min(m, p)  # ZB-H1, ZB-V


@njit
def gathered_layer(plan: Floats, layers: float) -> float:
    """Layers whose weights ZeRO 3 holds gathered at once: as many as the rate limiter lets in (0: all of the rank's),
    beside the whole chunk at work where that is kept."""
    held = plan[GATHER_LIMIT]
    if held > 0 and plan[KEEP_GATHERED] > 0:
        held += layers / plan[NUM_CHUNK] - 1
    return min(held, layers) if held > 0 else layers


@njit
def plan_memory(model: Floats, plan: Floats, fit: Floats, rank: float, out: Floats) -> float:
    """Peak bytes on a device of pipeline rank `rank`, by kind in `out[MEMORY]`; returns the total."""
    h, tp, pp, dp, cp = model[HIDDEN], plan[TP], plan[PP], plan[DP], plan[CP]
    layers = stage_layer(model, plan)
    dense, expert = layer_value(model, plan)
    shared = dense * layers
    if rank == 0:
        shared += (model[VOCAB] / tp + model[POSITION_ROW]) * h
    if rank == pp - 1 and (pp > 1 or model[TIED] == 0):
        shared += model[VOCAB] / tp * h
    group, expert_group = dp * cp, max(dp * cp / plan[EP], 1.0)
    value, experts = shared, expert * layers
    zero = plan[ZERO]
    lora = plan[LORA_RANK] > 0
    if lora:
        dense_adapter, expert_adapter = adapter_value(model, plan)
        value += dense_adapter * layers
        experts += expert_adapter * layers
    out[M_WEIGHT] = plan[WEIGHT_BYTE] * ((value / group + experts / expert_group) if zero >= 3 else value + experts)
    out[M_WEIGHT] *= 1 - plan[WEIGHT_OFFLOAD]
    if lora:  # the rest is frozen: neither gradients nor states
        value, experts = dense_adapter * layers, expert_adapter * layers
    out[M_GRAD] = plan[GRAD_BYTE] * ((value / group + experts / expert_group) if zero >= 2 else value + experts)
    state = (value / group + experts / expert_group) if zero >= 1 else value + experts
    out[M_OPTIMIZER] = plan[OPTIMIZER_BYTE] * state * (1 - plan[OPTIMIZER_OFFLOAD])
    token = model[SEQ] * plan[MICRO_BATCH] / cp
    split = tp if plan[SEQUENCE_PARALLEL] > 0 else 1.0
    full = plan[RECOMPUTE_KIND] == 2
    kept = activation_byte(model, plan, fit, full)
    out[M_ACTIVATION] = kept * layers * in_flight(plan, rank) * (1 - plan[ACT_OFFLOAD])
    out[M_LOGIT] = 0.0
    if rank == pp - 1:  # logits, their copies and their gradient
        gathered = fit[LOGIT_GATHER_BYTE] if tp > 1 else 0.0
        out[M_LOGIT] = token * model[VOCAB] * (fit[LOGIT_BYTE] / tp + gathered) / max(plan[LOGIT_CHUNK], 1.0)
    if full:  # and the layer that is being recomputed, in the room of the logits as far as the allocator can
        passing = passing_byte(model, plan, fit)
        out[M_ACTIVATION] += passing - fit[LOGIT_REUSE] * min(passing, out[M_LOGIT])
    out[M_BUFFER] = 4 * token * h * plan[ACT_BYTE] / split
    if plan[ACT_OFFLOAD] > 0:  # a layer on its way out, and one on its way back
        out[M_BUFFER] += 2 * kept * plan[ACT_OFFLOAD]
    if plan[WEIGHT_OFFLOAD] > 0:  # two layers: at work, and on its way
        out[M_BUFFER] += 2 * plan[WEIGHT_OFFLOAD] * (dense + expert) * plan[WEIGHT_BYTE]
    if zero >= 3:  # gathered layers
        out[M_BUFFER] += gathered_layer(plan, layers) * (dense + expert) * plan[WEIGHT_BYTE]
    elif zero >= 1:
        out[M_BUFFER] += min(0.2e9, value) * plan[GRAD_BYTE]
    if zero >= 2 and plan[KEEP_GATHERED] > 0:  # whole gradients of the chunk at work
        out[M_BUFFER] += layers / plan[NUM_CHUNK] * (dense + expert) * plan[GRAD_BYTE]
    total = 0.0
    for part in range(M_RESERVE):
        total += out[part]
    out[M_RESERVE] = fit[RESERVE_BYTE] + fit[FRAGMENT] * (out[M_ACTIVATION] + out[M_LOGIT] + out[M_BUFFER])
    out[M_TOTAL] = total + out[M_RESERVE]
    return out[M_TOTAL]


@njit
def peak_byte(model: Floats, plan: Floats, fit: Floats, memory: Floats) -> float:
    """Bytes of the fullest device: the first or the last rank of the pipeline; `memory` is of that one."""
    last = plan_memory(model, plan, fit, plan[PP] - 1, memory)
    first = plan_memory(model, plan, fit, 0.0, memory)
    if last > first:
        plan_memory(model, plan, fit, plan[PP] - 1, memory)
    return max(first, last)
