"""Times of one training step under a plan: operations of a stage, the step in closed form, many plans at once.

Roofline terms over fitted efficiencies, as laid out in `kernels.training`; memory comes first there.
"""

import numpy as np

from kernels import training as t
from kernels.collective_layout import flat_ring
from kernels.jit import njit
from kernels.optable import ALL_GATHER
from kernels.rank_layout import crossing_share, group_node
from kernels.training import (
    Floats,
    activation_byte,
    adapter_value,
    kv_head,
    layer_value,
    peak_byte,
    stage_layer,
    trained_value,
    value_dim,
)


@njit
def _gemm_s(m: float, n: float, k: float, hw: Floats, fit: Floats) -> float:
    """A matrix product with its three equal passes averaged: narrow sides of a shard cost efficiency."""
    narrow = 1 + fit[t.GEMM_NARROW] / min(n, k) + fit[t.GEMM_ROW] / m
    return 2 * m * n * k * narrow / (hw[t.FLOP_PER_S] * fit[t.GEMM])


@njit
def collective_s(volume_byte: float, size: float, stride: float, hw: Floats, fit: Floats) -> float:
    """All-gather or reduce-scatter of `volume_byte` (whole) over `size` devices `stride` ranks apart, as rings.

    Inside a node a device's own links; across nodes a ring leaves a node once through each port that the group's
    members in the node share. An all-reduce is two of these.
    """
    fixed, within, across = collective_parts_s(volume_byte, size, stride, hw, fit)
    return fixed + max(within, across)


@njit
def collective_parts_s(
    volume_byte: float, size: float, stride: float, hw: Floats, fit: Floats
) -> tuple[float, float, float]:
    """Seconds of `collective_s`: (start and hops, bytes inside nodes, bytes between nodes at the same time)."""
    if size <= 1:
        return 0.0, 0.0, 0.0
    node = group_node(int(size), int(stride), int(hw[t.DEVICE_PER_NODE]), int(size * stride))
    ports = hw[t.OUT_BYTE_PER_S] * fit[t.OUT] * max(1.0, size // node)
    up = hw[t.UP_BYTE_PER_S] * fit[t.UP]
    hops, within, across = flat_ring(
        ALL_GATHER, volume_byte, int(size), node, hw[t.UP_LATENCY_S], hw[t.OUT_LATENCY_S], up, ports
    )
    return fit[t.COLLECTIVE_S] + hops, within, across


@njit
def hop_parts_s(model: Floats, plan: Floats, hw: Floats, fit: Floats) -> tuple[float, float]:
    """Seconds of a microbatch's activations from a stage to the next, the mean of all hops: (start and what follows,
    bytes on the link). Only hops that leave their node go over its ports.

    With plain tensor parallelism each rank sends its share between nodes, and the receivers gather it; or (`whole_hop`)
    each sends everything.
    """
    if plan[t.PP] <= 1:
        return 0.0, 0.0
    tp, token = plan[t.TP], model[t.SEQ] * plan[t.MICRO_BATCH] / plan[t.CP]
    whole = token * model[t.HIDDEN] * plan[t.ACT_BYTE]
    stride = int(tp * plan[t.CP] * plan[t.DP])  # stages are outermost
    away = crossing_share(int(plan[t.PP]), stride, int(hw[t.DEVICE_PER_NODE]), int(stride * plan[t.PP]))
    near_s = whole / (tp if plan[t.SEQUENCE_PARALLEL] > 0 else 1.0) / (hw[t.UP_BYTE_PER_S] * fit[t.P2P])
    if away <= 0.0:
        return fit[t.COLLECTIVE_S], near_s
    far_s, gather_s = whole / (hw[t.OUT_BYTE_PER_S] * fit[t.P2P]), 0.0
    if plan[t.SEQUENCE_PARALLEL] > 0 or plan[t.WHOLE_HOP] == 0:
        far_s /= tp
    if plan[t.SEQUENCE_PARALLEL] == 0 and plan[t.WHOLE_HOP] == 0:
        gather_s = collective_s(whole, tp, 1, hw, fit)
    return fit[t.COLLECTIVE_S] + away * gather_s, away * far_s + (1.0 - away) * near_s


@njit
def exchange_s(volume_byte: float, size: float, stride: float, hw: Floats, fit: Floats) -> float:
    """All-to-all where each of `size` devices, `stride` ranks apart, sends `volume_byte` in equal parts to all: what
    stays in a node goes over its own link, the rest over its own port."""
    if size <= 1:
        return 0.0
    inside = size // group_node(int(size), int(stride), int(hw[t.DEVICE_PER_NODE]), int(size * stride))
    within = volume_byte * (inside - 1) / size / (hw[t.UP_BYTE_PER_S] * fit[t.UP])
    across = volume_byte * (size - inside) / size / (hw[t.OUT_BYTE_PER_S] * fit[t.OUT])
    latency = hw[t.OUT_LATENCY_S] if inside < size else (size - 1) * hw[t.UP_LATENCY_S]
    return max(within, across) + fit[t.COLLECTIVE_S] + latency


@njit
def ring_s(passing_byte: float, size: float, stride: float, hw: Floats, fit: Floats) -> float:
    """Every one of `size` devices, `stride` ranks apart, passes `passing_byte` on to its neighbour until all have seen
    all: size - 1 hops at the pace of the slowest. Where the ring leaves a node it does so through one port, whatever
    the node's other members have."""
    if size <= 1:
        return 0.0
    if size * stride <= hw[t.DEVICE_PER_NODE]:
        hop = passing_byte / (hw[t.UP_BYTE_PER_S] * fit[t.UP]) + hw[t.UP_LATENCY_S]
    else:
        hop = passing_byte / (hw[t.OUT_BYTE_PER_S] * fit[t.OUT]) + hw[t.OUT_LATENCY_S]
    return (size - 1) * hop + fit[t.COLLECTIVE_S]


@njit
def _attention_s(model: Floats, plan: Floats, hw: Floats, fit: Floats) -> tuple[float, float]:
    """Attention of one layer: (forward, backward)."""
    s, heads, dim = model[t.SEQ], model[t.NUM_HEAD] / plan[t.TP], model[t.HEAD_DIM]
    score = plan[t.MICRO_BATCH] * heads * s * s / plan[t.CP]
    flop = 2 * score * (dim + value_dim(model))
    if plan[t.ATTENTION] >= 2:
        flop *= model[t.SCORE_SHARE] if model[t.SCORE_SHARE] > 0 else 1.0  # blocks outside a window are skipped
        scale = hw[t.WIDE_FLOP_PER_S] * (fit[t.FLASH1] if plan[t.ATTENTION] == 2 else 1.0)
        # causal: half of the scores; backward recomputes them and has five products instead of two
        return 0.5 * flop / (scale * fit[t.FLASH_FORWARD]), 0.5 * 2.5 * flop / (scale * fit[t.FLASH_BACKWARD])
    passes = fit[t.SOFTMAX_PASS] * (fit[t.FUSED_SOFTMAX] if plan[t.ATTENTION] == 1 else 1.0)
    product = flop * (1 + fit[t.GEMM_NARROW] / dim) / (hw[t.WIDE_FLOP_PER_S] * fit[t.GEMM])
    softmax = passes * score * plan[t.ACT_BYTE] / (hw[t.MEM_BYTE_PER_S] * fit[t.MEM])
    return product + softmax, 2 * product + softmax


@njit
def _channel(byte_per_s: float, hw: Floats) -> float:
    """Rate of a channel to storage: no faster than the host link that leads there; 0 is host memory itself."""
    return min(byte_per_s, hw[t.HOST_BYTE_PER_S]) if byte_per_s > 0 else hw[t.HOST_BYTE_PER_S]


@njit
def _projection_s(model: Floats, token: float, tp: float, hw: Floats, fit: Floats) -> float:
    """Matrix products around the attention of one layer, forward."""
    h, heads, dim, wide = model[t.HIDDEN], model[t.NUM_HEAD] / tp, model[t.HEAD_DIM], value_dim(model)
    out = _gemm_s(token, h, heads * wide, hw, fit)
    if model[t.KV_RANK] == 0:
        return _gemm_s(token, heads * dim + kv_head(model, tp) * (dim + wide), h, hw, fit) + out
    rank, latent = model[t.Q_RANK], model[t.KV_RANK]
    down = _gemm_s(token, rank + latent + model[t.ROPE_DIM], h, hw, fit)
    up = _gemm_s(token, heads * dim, rank if rank > 0 else h, hw, fit)
    return down + up + _gemm_s(token, heads * (dim - model[t.ROPE_DIM] + wide), latent, hw, fit) + out


@njit
def stage_times(model: Floats, plan: Floats, hw: Floats, fit: Floats, where: int, out: Floats) -> None:
    """Times of one microbatch through one stage (all chunks of a rank), into `out[t.STAGE]`.

    `forward_s`, `input_grad_s` include the tensor, expert and context communication that nothing hides (also given
    apart, forward only); `dp_s` and `optimizer_s` are once a step.
    """
    h, tp, cp = model[t.HIDDEN], plan[t.TP], plan[t.CP]
    byte, token = plan[t.ACT_BYTE], model[t.SEQ] * plan[t.MICRO_BATCH] / plan[t.CP]
    dim = model[t.HEAD_DIM]
    mem = hw[t.MEM_BYTE_PER_S] * fit[t.MEM]
    layers = stage_layer(model, plan)
    # matrix products
    gemm = _projection_s(model, token, tp, hw, fit)
    if model[t.INTER] > 0:
        gemm += (model[t.NUM_UP] + 1) * _gemm_s(token, model[t.INTER] / tp, h, hw, fit)
    ep_s = 0.0
    if model[t.NUM_EXPERT] > 0:
        local = max(model[t.NUM_EXPERT] / plan[t.EP], 1.0)
        rows = token * model[t.TOPK] * (1 + plan[t.SKEW]) / local
        gemm += local * (model[t.NUM_UP] + 1) * _gemm_s(rows, model[t.EXPERT_INTER] / tp, h, hw, fit)
        if plan[t.EP] > 1:  # dispatch and combine
            ep_s = 2 * exchange_s(token * model[t.TOPK] * (1 + plan[t.SKEW]) * h * byte / tp, plan[t.EP], tp, hw, fit)
        if plan[t.GLOBAL_BALANCE] > 0:  # the loads of all experts, summed over the whole batch's ranks
            ep_s += 2 * collective_s(4 * model[t.NUM_EXPERT], plan[t.DP] * cp, tp, hw, fit)
    attention, attention_back = _attention_s(model, plan, hw, fit)
    # passes over the residual stream and the wide part
    split = tp if plan[t.SEQUENCE_PARALLEL] > 0 else 1.0
    norm = fit[t.FUSED_NORM_FIT] if plan[t.FUSED_NORM] > 0 else 1.0
    wide = (model[t.INTER] + model[t.TOPK] * model[t.EXPERT_INTER]) * (model[t.NUM_UP] + 1) / tp
    vector = (fit[t.VECTOR_PASS] * norm * token * h / split + token * wide) * byte / mem
    # communication that stands in the way
    compute = gemm + attention + vector
    tp_s = 0.0
    if tp > 1:  # two all-reduces, or two gathers and two scatters; half a batch's hide under the other half's compute
        whole = 4 * collective_s(token * h * byte, tp, 1, hw, fit) * fit[t.TP_EXPOSED]
        tp_s = whole - min(whole * plan[t.TP_OVERLAP], compute)
    cp_s = 0.0
    if cp > 1 and plan[t.ULYSSES] > 0:  # heads for tokens and back: queries, results, keys and values
        both = (model[t.NUM_HEAD] / tp + max(kv_head(model, tp), cp)) * (dim + value_dim(model))
        cp_s = exchange_s(token * both * byte, cp, tp, hw, fit) + 3 * fit[t.COLLECTIVE_S]
    elif cp > 1:  # keys and values of the others pass by; what attention hides is hidden
        passing = token * kv_head(model, tp) * (dim + value_dim(model)) * byte
        ring = ring_s(passing, cp, tp, hw, fit)
        cp_s = max(0.0, ring - attention)
    forward = gemm + attention + vector + fit[t.KERNEL_S]
    comm = tp_s + ep_s + cp_s
    forward = max(forward, fit[t.LAUNCH_S]) + comm
    launched = 2 * fit[t.LAUNCH_S] * max(plan[t.BACKWARD_CHUNK], 1.0)
    adapter_s = 0.0
    if plan[t.LORA_RANK] > 0:  # thin products beside every linear map, in each of the three passes
        dense_adapter, expert_adapter = adapter_value(model, plan)
        adapter = dense_adapter
        if model[t.NUM_EXPERT] > 0:
            adapter += expert_adapter * model[t.TOPK] / (model[t.NUM_EXPERT] / plan[t.EP])
        adapter_s = 2 * token * adapter / (hw[t.FLOP_PER_S] * fit[t.GEMM])
        forward += adapter_s
        gemm += adapter_s
    back_gemm = max(2 * gemm + attention_back + 2 * vector + 2 * fit[t.KERNEL_S], launched)
    weight_grad = gemm  # one of the two products of backward
    input_grad = back_gemm - weight_grad + comm
    if plan[t.LORA_RANK] > 0:  # frozen weights have no gradient
        weight_grad = adapter_s
    elif fit[t.ACCUMULATE_PASS] > 0:
        dense, expert = layer_value(model, plan)
        weight_grad += fit[t.ACCUMULATE_PASS] * (dense + expert) * plan[t.GRAD_BYTE] / mem
    recompute = 0.0
    if plan[t.RECOMPUTE_KIND] == 2:
        recompute = forward
    elif plan[t.RECOMPUTE_KIND] == 1 and plan[t.ATTENTION] < 2:
        recompute = attention
    if plan[t.ACT_OFFLOAD] > 0:  # kept tensors leave under the forward pass and come back under the backward pass
        full = plan[t.RECOMPUTE_KIND] == 2
        copy = activation_byte(model, plan, fit, full) * plan[t.ACT_OFFLOAD]
        away, back = _channel(plan[t.OFFLOAD_WRITE], hw), _channel(plan[t.OFFLOAD_READ], hw)
        forward += max(0.0, copy / away - forward)
        input_grad += max(0.0, copy / back - back_gemm - recompute)
    if plan[t.WEIGHT_OFFLOAD] > 0:  # weights come in for each pass, under the layer before
        dense, expert = layer_value(model, plan)
        fetch = (dense + expert) * plan[t.WEIGHT_BYTE] * plan[t.WEIGHT_OFFLOAD] / hw[t.HOST_BYTE_PER_S]
        forward += max(0.0, fetch - forward)
        input_grad += max(0.0, fetch - back_gemm - recompute)
    if plan[t.ZERO] >= 3 and plan[t.DP] * cp > 1 and plan[t.DP_SCHEDULED] == 0:
        # weights are gathered for each pass; what compute hides is hidden, unless only one gather may be under way
        dense, expert = layer_value(model, plan)
        gather = collective_s((dense + expert) * plan[t.WEIGHT_BYTE], plan[t.DP] * cp, tp, hw, fit)
        beside = 0.0 if plan[t.GATHER_LIMIT] == 1 else 1.0
        forward += max(0.0, gather - beside * forward) + fit[t.OVERLAP_SLOW] * beside * min(gather, forward)
        input_grad += max(0.0, gather - beside * back_gemm) + fit[t.OVERLAP_SLOW] * beside * min(gather, back_gemm)
    out[t.FORWARD_S] = forward * layers + fit[t.MICROBATCH_S]
    out[t.INPUT_GRAD_S] = input_grad * layers + fit[t.MICROBATCH_S]
    out[t.WEIGHT_GRAD_S] = weight_grad * layers
    out[t.RECOMPUTE_S] = recompute * layers
    out[t.TP_S], out[t.EP_S], out[t.CP_S] = tp_s * layers, ep_s * layers, cp_s * layers
    edge = (
        2 * collective_s(token * h * byte, tp, 1, hw, fit) * fit[t.TP_EXPOSED]
    )  # vocabulary-parallel embedding and head
    if where in (t.FIRST, t.ONLY):
        out[t.FORWARD_S] += 2 * token * h * byte / mem + edge
        out[t.WEIGHT_GRAD_S] += 2 * token * h * byte / mem if plan[t.LORA_RANK] == 0 else 0.0
    if where in (t.LAST, t.ONLY):
        head = _gemm_s(token, model[t.VOCAB] / tp, h, hw, fit) * hw[t.FLOP_PER_S] / hw[t.WIDE_FLOP_PER_S]
        logits = fit[t.LOGIT_PASS] * token * model[t.VOCAB] / tp * 4 / mem
        out[t.FORWARD_S] += head + logits
        out[t.INPUT_GRAD_S] += head + logits + (2 * collective_s(token * h * byte, tp, 1, hw, fit) if tp > 1 else 0.0)
        out[t.WEIGHT_GRAD_S] += head if plan[t.LORA_RANK] == 0 else 0.0
    fixed, moving = hop_parts_s(model, plan, hw, fit)
    out[t.HOP_S] = fixed + moving
    if plan[t.PP] > 1:
        waits = fit[t.HOP_BLOCK] * out[t.HOP_S] * plan[t.NUM_CHUNK]
        out[t.FORWARD_S] += waits
        out[t.INPUT_GRAD_S] += waits
    _once_a_step(model, plan, hw, fit, where, layers, mem, out)


@njit
def _once_a_step(
    model: Floats, plan: Floats, hw: Floats, fit: Floats, where: int, layers: float, mem: float, out: Floats
) -> None:
    """Gradient reduction and optimizer of a stage."""
    dense, expert = trained_value(model, plan)
    value = dense * layers
    if where != t.MIDDLE and plan[t.LORA_RANK] == 0:
        value += model[t.VOCAB] / plan[t.TP] * model[t.HIDDEN]
    group = plan[t.DP] * plan[t.CP]
    expert_group = max(group / plan[t.EP], 1.0)
    # gradients are scattered, then gathered, or the new weights are
    passes = plan[t.GRAD_BYTE] + (plan[t.WEIGHT_BYTE] if plan[t.ZERO] >= 1 else plan[t.GRAD_BYTE])
    if plan[t.ZERO] >= 3:
        passes = plan[t.GRAD_BYTE]  # weights are gathered in the passes themselves
    if plan[t.COMPRESS_RATIO] > 0:  # what everybody sends is summed on the way, or gathered by everybody
        passes *= plan[t.COMPRESS_RATIO] * (group / 2 if plan[t.COMPRESS_GATHERS] > 0 else 1.0)
    reduce = collective_s(value * passes, group, plan[t.TP], hw, fit)
    if expert > 0:
        reduce += collective_s(expert * layers * passes, expert_group, plan[t.TP] * plan[t.EP], hw, fit)
    share = group if plan[t.ZERO] >= 1 else 1.0
    state = value / share + expert * layers / (expert_group if plan[t.ZERO] >= 1 else 1.0)
    out[t.DP_S] = reduce
    per_value = plan[t.WEIGHT_BYTE] + plan[t.GRAD_BYTE] + 2 * plan[t.OPTIMIZER_BYTE]
    out[t.OPTIMIZER_S] = fit[t.OPTIMIZER_PASS] * state * per_value / mem
    if plan[t.OPTIMIZER_OFFLOAD] > 0:  # states come and go over the host link, both ways at once
        moved = state * plan[t.OPTIMIZER_BYTE] * plan[t.OPTIMIZER_OFFLOAD]
        out[t.OPTIMIZER_S] = max(out[t.OPTIMIZER_S], moved / hw[t.HOST_BYTE_PER_S])
    # encoding and decoding stand before and after what they compress
    out[t.OPTIMIZER_S] += plan[t.COMPRESS_PASS] * (value + expert * layers) * plan[t.GRAD_BYTE] / mem


@njit
def scheduled_dp_s(model: Floats, plan: Floats, hw: Floats, fit: Floats, row: Floats, slack_s: float) -> float:
    """Seconds that data-parallel traffic beside the schedule adds to a stage whose times are `row[STAGE]` and that
    waits for `slack_s` besides: what compute hides layer by layer is hidden. `ridgeline train` replays it instead.
    """
    group, tp, zero, m = plan[t.DP] * plan[t.CP], plan[t.TP], plan[t.ZERO], plan[t.NUM_MICROBATCH]
    layers, v = stage_layer(model, plan), plan[t.NUM_CHUNK]
    dense, expert = layer_value(model, plan)
    trained, trained_expert = trained_value(model, plan)
    if zero < 3:  # what is not trained does not change
        dense, expert = trained, trained_expert
    expert_group, apart = max(group / plan[t.EP], 1.0), tp * plan[t.EP]
    gather = collective_s(dense * plan[t.WEIGHT_BYTE], group, tp, hw, fit)
    reduce = collective_s(trained * plan[t.GRAD_BYTE], group, tp, hw, fit)
    if expert > 0:
        gather += collective_s(expert * plan[t.WEIGHT_BYTE], expert_group, apart, hw, fit)
        reduce += collective_s(trained_expert * plan[t.GRAD_BYTE], expert_group, apart, hw, fit)
    if plan[t.COMPRESS_RATIO] > 0:
        reduce *= plan[t.COMPRESS_RATIO] * (group / 2 if plan[t.COMPRESS_GATHERS] > 0 else 1.0)
    forward, recompute = row[t.FORWARD_S] / layers, row[t.RECOMPUTE_S] / layers
    back = (row[t.INPUT_GRAD_S] + row[t.WEIGHT_GRAD_S]) / layers
    once_a_batch = plan[t.KEEP_GATHERED] > 0 and (v == 1 or plan[t.SCHEDULE] == t.BREADTH_FIRST)
    if zero >= 2 and once_a_batch:
        traffic = layers * reduce + (layers / v * (2 * v - 1) * gather if zero >= 3 else layers * gather)
        return max(gather + reduce, traffic - m * layers * (forward + recompute + back) - slack_s)
    if zero >= 3:
        beside = 0.0 if plan[t.GATHER_LIMIT] == 1 else 1.0
        wait = max(0.0, gather - beside * forward) + max(0.0, beside * gather + reduce - back)
        wait += (1 - beside) * gather
        if plan[t.RECOMPUTE_KIND] == 2:
            wait += max(0.0, gather - beside * recompute)
        return m * layers * wait + gather + reduce
    if zero >= 2:
        return m * layers * max(0.0, reduce - back) + reduce + gather + (layers - 1) * max(0.0, gather - forward)
    first = gather + (layers / v - 1) * max(0.0, gather - forward) if zero >= 1 else 0.0
    reduce *= 2 if zero == 0 else 1
    late = 1.0  # layers, of all microbatches, that run backward after the first reduction may begin
    if plan[t.SCHEDULE] == t.BREADTH_FIRST:
        late = m
    elif v > 1:
        late = min(m, plan[t.PP])
    window = layers / v * ((v - 1) * late + 1) * back
    end = reduce + (layers / v - 1) * max(0.0, reduce - back)
    return first + max(end, layers * reduce - window)


RESULT: tuple[str, ...] = ("step_s", "bubble_s", "tp_s", "ep_s", "cp_s", "pp_s", "dp_s", "optimizer_s", "recompute_s",
                           "data_s")  # fmt: skip
R_STEP, R_BUBBLE, R_TP, R_EP, R_CP, R_PP, R_DP, R_OPTIMIZER, R_RECOMPUTE, R_DATA = range(len(RESULT))


@njit
def load_s(plan: Floats, hw: Floats) -> float:
    """Seconds that the loaders of one replica take for a step's samples; the next step's load under this one."""
    rate = plan[t.LOADER_BYTE_PER_S] if plan[t.LOADER_BYTE_PER_S] > 0 else hw[t.HOST_BYTE_PER_S]
    return plan[t.NUM_MICROBATCH] * plan[t.MICRO_BATCH] * plan[t.SAMPLE_BYTE] / rate


@njit
def plan_step(model: Floats, plan: Floats, hw: Floats, fit: Floats, stage: Floats, out: Floats) -> float:
    """Seconds of a step in closed form, by kind in `out[RESULT]` (`stage[4, t.STAGE]` is filled on the way).

    The slowest stage runs every microbatch; the others add one pass each while filling and draining (divided by the
    chunks of an interleaved schedule, less what weight gradients fill). Exact for one slowest stage and no hop;
    `ridgeline train` replays the order instead.
    """
    pp, m, v = plan[t.PP], plan[t.NUM_MICROBATCH], plan[t.NUM_CHUNK]
    total = np.zeros(4)
    if pp == 1:
        stage_times(model, plan, hw, fit, t.ONLY, stage[t.ONLY])
        slowest = t.ONLY
    else:
        slowest = t.FIRST
        for where in (t.FIRST, t.MIDDLE, t.LAST):
            stage_times(model, plan, hw, fit, where, stage[where])
    for where in range(4):
        row = stage[where]
        total[where] = row[t.FORWARD_S] + row[t.INPUT_GRAD_S] + row[t.WEIGHT_GRAD_S] + row[t.RECOMPUTE_S]
    if pp > 1:
        slowest = t.LAST if total[t.LAST] >= total[t.FIRST] else t.FIRST
        if pp > 2 and total[t.MIDDLE] > total[slowest]:
            slowest = t.MIDDLE
    busy = m * total[slowest]
    bubble, hops = 0.0, 0.0
    if pp > 1:
        ramp = total[t.FIRST] + total[t.LAST] + (pp - 2) * total[t.MIDDLE] - total[slowest]
        filled = 0.0
        kind = plan[t.SCHEDULE]
        if kind == t.ZB_H1:
            filled = 2 * (pp - 1) * stage[t.MIDDLE, t.WEIGHT_GRAD_S]
        elif kind in (t.ZB_H2, t.ZB_V):
            filled = ramp
        bubble = max(0.0, ramp / v - filled)
        hop = stage[t.MIDDLE, t.HOP_S]
        if kind in (t.ONE_F_ONE_B, t.ZB_H1, t.ZB_H2):
            hops = 2 * hop * ((pp - 1) * (1 + m / pp) - 1)
        elif kind in (t.INTERLEAVED, t.ZB_V):
            hops = 2 * hop * (pp - 1) * 2
        else:
            hops = 2 * hop * (pp - 1)
    row = stage[slowest]
    out[R_BUBBLE], out[R_PP] = bubble, hops
    for part, source in ((R_TP, t.TP_S), (R_EP, t.EP_S), (R_CP, t.CP_S)):
        out[part] = m * row[source] * (3.0 if plan[t.RECOMPUTE_KIND] == 2 else 2.0)
    out[R_RECOMPUTE] = m * row[t.RECOMPUTE_S]
    out[R_DP] = row[t.DP_S] * fit[t.DP_EXPOSED]
    if plan[t.DP_SCHEDULED] > 0 and plan[t.DP] * plan[t.CP] > 1:
        out[R_DP] = scheduled_dp_s(model, plan, hw, fit, row, bubble + hops)
    out[R_OPTIMIZER] = row[t.OPTIMIZER_S]
    hidden = max(0.0, row[t.DP_S] - out[R_DP])
    out[R_STEP] = busy + bubble + hops + out[R_DP] + fit[t.OVERLAP_SLOW] * hidden + out[R_OPTIMIZER] + fit[t.STEP_S]
    out[R_DATA] = max(0.0, load_s(plan, hw) - out[R_STEP])
    out[R_STEP] += out[R_DATA]
    return out[R_STEP]


@njit
def score_plans(model: Floats, plans: Floats, hw: Floats, fit: Floats, seconds: Floats, peak: Floats) -> int:
    """`seconds[i]` (inf where it does not fit) and `peak[i]` bytes of each plan; returns how many fit."""
    stage, out, memory = np.zeros((4, len(t.STAGE))), np.zeros(len(RESULT)), np.zeros(len(t.MEMORY))
    num_fit = 0
    for i in range(plans.shape[0]):
        peak[i] = peak_byte(model, plans[i], fit, memory)
        if peak[i] > hw[t.MEM_BYTE]:
            seconds[i] = np.inf
            continue
        seconds[i] = plan_step(model, plans[i], hw, fit, stage, out)
        num_fit += 1
    return num_fit
