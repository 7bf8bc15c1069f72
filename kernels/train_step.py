"""Times of a stage of a training step, composed of a layer's prices (`kernels.train_closed`: the step in closed form).

The prices are look-ups (`kernels.train_plan.LAYER`); what depends on a whole plan is added here with the kernels that
price everything else: collectives of gradients and weights, hops between stages, the update.
"""

from kernels.collective import collective_s
from kernels.formats import FORMAT_CODE
from kernels.jit import njit
from kernels.machine import Machine
from kernels.optable import ALL_GATHER, ALL_REDUCE, OPTIMIZER, P2P, REDUCE_SCATTER
from kernels.rank_layout import group_node
from kernels.stream import stream_s
from kernels.train_plan import (
    BODY,
    FIRST,
    LAST,
    Floats,
    Record,
    Records,
    gathered_byte,
    update_byte,
)
from kernels.transfer import transfer_s

ANY_FORMAT = FORMAT_CODE["bf16"]
UPDATE_FLOP = 12.0  # a value: two moments, their corrections, a square root, a division, decay

STAGE: tuple[str, ...] = (
    "forward_s", "input_grad_s", "weight_grad_s", "recompute_s", "tp_s", "ep_s", "cp_s", "hop_s", "dp_s", "optimizer_s",
)  # fmt: skip
FORWARD_S, INPUT_GRAD_S, WEIGHT_GRAD_S, RECOMPUTE_S, TP_S, EP_S, CP_S, HOP_S, DP_S, OPTIMIZER_S = range(len(STAGE))
FIRST_STAGE, MIDDLE, LAST_STAGE, ONLY = 0, 1, 2, 3  # where a stage lies


@njit
def group_collective_s(kind: int, message_byte: float, size: float, stride: float, plan: Record, stack: Record,
                       machine: Machine) -> float:  # fmt: skip
    """Seconds of a collective of `size` ranks of the plan, `stride` apart."""
    if size <= 1 or message_byte <= 0:
        return 0.0
    ranks = int(plan["tp"] * plan["cp"] * plan["dp"] * plan["pp"])
    node = group_node(int(size), int(stride), int(stack["device_per_node"]), ranks)
    return collective_s(kind, message_byte, int(size), node, machine.link, machine.fit[kind, ANY_FORMAT])[0]


@njit
def replica_s(kind: int, dense_byte: float, expert_byte: float, plan: Record, stack: Record, machine: Machine) -> float:
    """Seconds of a collective over the replicas: dense values over dp x cp ranks, experts over their copies."""
    tp, group = plan["tp"], plan["dp"] * plan["cp"]
    seconds = group_collective_s(kind, dense_byte, group, tp, plan, stack, machine)
    apart = plan["expert_tp"] * plan["ep"]
    return seconds + group_collective_s(kind, expert_byte, plan["expert_dp"], apart, plan, stack, machine)


@njit
def compressed(plan: Record) -> float:
    """Bytes that a reduction sends, as a share: what everybody sends is summed on the way, or gathered by everybody."""
    if plan["compress_ratio"] <= 0:
        return 1.0
    return plan["compress_ratio"] * (plan["dp"] * plan["cp"] / 2 if plan["compress_gathers"] > 0 else 1.0)


@njit
def hop_s(plan: Record, stack: Record, machine: Machine) -> float:
    """Seconds of a microbatch's activations from a stage to the next, where any stage's ranks leave their nodes."""
    if plan["pp"] <= 1:
        return 0.0
    stride = int(plan["tp"] * plan["cp"] * plan["dp"])
    node = group_node(2, stride, int(stack["device_per_node"]), int(stride * plan["pp"]))
    return hop_over_s(plan, stack, machine, node)


@njit
def hop_over_s(plan: Record, stack: Record, machine: Machine, node: int) -> float:
    """Seconds of a hop inside a node (1) or between two. With plain tensor parallelism each rank sends its share
    between nodes and the receivers gather it, or (`whole_hop`) each sends everything."""
    tp, whole = plan["tp"], plan["hop_byte"]
    message = whole / tp if plan["sequence_parallel"] > 0 or (node > 1 and plan["whole_hop"] == 0) else whole
    seconds = collective_s(P2P, message, 2, node, machine.link, machine.fit[P2P, ANY_FORMAT])[0]
    if node > 1 and tp > 1 and plan["sequence_parallel"] == 0 and plan["whole_hop"] == 0:
        seconds += group_collective_s(ALL_GATHER, whole, tp, 1.0, plan, stack, machine)
    return seconds


@njit
def wait_for_hop(row: Floats, hop: float) -> None:
    """Adds what a stage waits for its own transfers, one each way, to `row[STAGE]`."""
    row[FORWARD_S] += hop
    row[INPUT_GRAD_S] += hop


@njit
def copy_s(byte: float, channel_byte_per_s: float, plan: Record, stack: Record, machine: Machine) -> float:
    """Seconds of a copy to or from the host, as all devices of a box do it; storage behind it (0: none) may be slower
    than the way there."""
    num_device = min(plan["tp"] * plan["cp"] * plan["dp"] * plan["pp"], stack["device_per_node"])
    seconds = transfer_s(byte, num_device, machine.link)
    return max(seconds, byte / channel_byte_per_s) if channel_byte_per_s > 0 else seconds


@njit
def _hidden(traffic_s: float, compute_s: float, stack: Record) -> tuple[float, float]:
    """Seconds of traffic beside compute: (what stands out, how much longer the compute takes by the cores that the
    traffic holds)."""
    hidden = min(traffic_s, compute_s) * (1 - stack["exposed"])
    return traffic_s - hidden, hidden * stack["contention"] / (1 - stack["contention"])


@njit
def layer_traffic_s(plan: Record, piece: Records, stack: Record, machine: Machine) -> tuple[float, float, float]:
    """Seconds of data-parallel traffic on links of its own: (gather of one layer's weights, reduction or scatter of one
    layer's gradients, both of the vocabulary at an end of the model). ZeRO 3 gathers all values, the others the trained
    ones; what is scattered after every pass goes in the products' format, what waits for the step in its own."""
    if plan["dp"] * plan["cp"] <= 1:
        return 0.0, 0.0, 0.0
    zero, byte, layer = plan["zero"], gathered_byte(plan), piece[BODY]
    dense, expert = (layer["dense"], layer["expert"]) if zero >= 3 else (layer["trained"], layer["trained_expert"])
    sent = (plan["act_byte"] if zero >= 2 else plan["grad_byte"]) * compressed(plan)
    kind = ALL_REDUCE if zero == 0 else REDUCE_SCATTER
    reduce = replica_s(kind, layer["trained"] * sent, layer["trained_expert"] * sent, plan, stack, machine)
    end = replica_s(kind, piece[FIRST]["trained"] * sent, 0.0, plan, stack, machine)
    gather = 0.0
    if zero >= 1:
        gather = replica_s(ALL_GATHER, dense * byte, expert * byte, plan, stack, machine)
        end += replica_s(ALL_GATHER, piece[FIRST]["trained"] * byte, 0.0, plan, stack, machine)
    return gather, reduce, end


@njit
def stage_times(
    plan: Record,
    piece: Records,
    stack: Record,
    machine: Machine,
    layers: float,
    where: int,
    out: Floats,
    chunks: float = 1.0,
) -> None:
    """Times of one microbatch through `layers` layers of a rank, in `chunks` chunks, into `out[STAGE]`.

    `forward_s`, `input_grad_s` and `recompute_s` include the exchanges that nothing hides (also apart, forward only);
    `dp_s` and `optimizer_s` are once a step.
    """
    gather, reduce, end = layer_traffic_s(plan, piece, stack, machine)
    stage_passes(plan, piece, stack, machine, (gather, reduce), layers, where, out)
    out[HOP_S] = hop_s(plan, stack, machine)
    if plan["blocking_hop"] > 0:
        wait_for_hop(out, out[HOP_S] * chunks)
    out[DP_S] = layers * (gather + reduce) + end * num_end(plan, where)
    out[OPTIMIZER_S] = update_s(plan, piece, stack, machine, layers, where)


@njit
def stage_passes(
    plan: Record, piece: Records, stack: Record, machine: Machine, traffic: tuple[float, float], layers: float,
    where: int, out: Floats,
) -> None:  # fmt: skip
    """Passes of one microbatch through `layers` layers into `out[STAGE]`, with the exchanges that nothing hides;
    `traffic` of a layer: seconds of the gather and of the reduction among its replicas."""
    gather, reduce = traffic
    layer = piece[BODY]
    forward, back = layer["forward_s"], layer["input_grad_s"] + layer["weight_grad_s"]
    # products overlap with the traffic of their own links; between nodes nothing of it was ever measured to hide
    overlap = plan["tp_overlap"] if plan["tp"] <= stack["device_per_node"] else 0.0
    tp_s = layer["tp_s"] - min(layer["tp_s"] * overlap, forward)
    tp_back = layer["tp_back_s"] - min(layer["tp_back_s"] * overlap, back)
    ep_s = layer["ep_s"] - min(layer["ep_s"] * plan["ep_overlap"], forward)
    ep_back = layer["ep_back_s"] - min(layer["ep_back_s"] * plan["ep_overlap"], back)
    cp_s = layer["cp_s"]
    held = stack["contention"] / (1 - stack["contention"])  # cores that hidden exchanges keep from the compute
    forward += held * (layer["ep_s"] - ep_s)
    back += held * (layer["ep_back_s"] - ep_back)
    # the host runs ahead of kernels and exchanges alike
    forward = max(forward + tp_s + ep_s + cp_s, layer["num_op"] * stack["host_s"])
    back_alone = max(back + tp_back + ep_back + layer["cp_back_s"], layer["num_back_op"] * stack["host_s"])
    again = layer["recompute_s"]
    again += layer["tp_again_s"] * (1 - overlap) + layer["ep_again_s"] * (1 - plan["ep_overlap"]) + layer["cp_again_s"]
    again = max(again, layer["num_again_op"] * stack["host_s"])
    back = back_alone
    copy = layer["kept_byte"] * plan["act_offload"] + layer["away_byte"]
    own, shards = 1.0, 1.0  # ranks that the weights are split over: each fetches its own, and gathers the others'
    if plan["zero"] >= 3:
        own, shards = plan["dp"] * plan["cp"], plan["expert_dp"]
    fetch = (layer["dense"] / own + layer["expert"] / shards) * plan["weight_byte"] * plan["weight_offload"]
    if copy + fetch > 0:
        # kept tensors leave under the forward pass and come back under the backward pass; weights come in for each,
        # under the layer before. An engine copies each way: what comes back waits for what comes in
        fetch_s = copy_s(fetch, 0.0, plan, stack, machine)
        forward = max(forward, copy_s(copy, plan["offload_write_byte_per_s"], plan, stack, machine), fetch_s)
        back = max(back, copy_s(copy, plan["offload_read_byte_per_s"], plan, stack, machine) + fetch_s - again)
    if plan["dp_scheduled"] == 0 and plan["zero"] >= 2 and plan["dp"] * plan["cp"] > 1:
        beside = 0.0 if plan["gather_limit"] == 1 else 1.0
        share = 1.0
        if plan["zero"] >= 3:  # weights are gathered for each pass
            wait, slow = _hidden(gather, beside * forward, stack)
            forward += wait + slow
            wait, slow = _hidden(gather, beside * (back + again) / 2, stack)
            back += wait + slow
            share = 0.5
        wait, slow = _hidden(reduce, (back_alone + again) * share, stack)  # gradients are scattered under the next
        back += wait + slow
    weight_grad = layer["weight_grad_s"]
    out[FORWARD_S] = forward * layers
    out[WEIGHT_GRAD_S] = weight_grad * layers
    out[INPUT_GRAD_S] = max(0.0, back - weight_grad) * layers
    out[RECOMPUTE_S] = again * layers
    out[TP_S], out[EP_S], out[CP_S] = tp_s * layers, ep_s * layers, cp_s * layers
    if where in (FIRST_STAGE, ONLY):
        _end(piece[FIRST], out)
    if where in (LAST_STAGE, ONLY):
        _end(piece[LAST], out)


@njit
def _end(end: Record, out: Floats) -> None:
    out[FORWARD_S] += end["forward_s"] + end["tp_s"]
    out[INPUT_GRAD_S] += end["input_grad_s"] + end["tp_back_s"]
    out[WEIGHT_GRAD_S] += end["weight_grad_s"]


@njit
def num_end(plan: Record, where: int) -> float:
    """Vocabularies whose gradients a rank holds: one of a tied pair where it has both."""
    if where == ONLY:
        return 1.0 if plan["tied"] > 0 else 2.0
    return 0.0 if where == MIDDLE else 1.0


@njit
def trained_values(plan: Record, piece: Records, layers: float, where: int) -> tuple[float, float]:
    """Values of a rank that have gradients: (dense, experts), the vocabulary's of the ends with them. One of a tied
    pair is counted once where one rank has both."""
    value = piece[BODY]["trained"] * layers
    if where in (FIRST_STAGE, ONLY):
        value += piece[FIRST]["trained"]
    if where == LAST_STAGE or (where == ONLY and plan["tied"] == 0):
        value += piece[LAST]["trained"]
    return value, piece[BODY]["trained_expert"] * layers


@njit
def update_s(plan: Record, piece: Records, stack: Record, machine: Machine, layers: float, where: int) -> float:
    """Seconds of the update of a rank's values."""
    value, expert = trained_values(plan, piece, layers, where)
    zero, grad = plan["zero"], plan["grad_byte"]
    group, expert_group = plan["dp"] * plan["cp"], plan["expert_dp"]
    state = value / (group if zero >= 1 else 1.0) + expert / (expert_group if zero >= 1 else 1.0)
    held = state if zero >= 2 else value + expert
    read, write = update_byte(plan, state, held)
    fit = machine.fit[OPTIMIZER, ANY_FORMAT]
    seconds = stream_s(UPDATE_FLOP * state, read, write, machine.rate, fit)[0] * stack["vector"]
    away = plan["optimizer_offload"]
    if away > 0 and plan["host_update"] > 0:  # beside the device's own: out, updated in the host's memory, and back
        out_s = copy_s(state * away * plan["grad_byte"], 0.0, plan, stack, machine)
        in_s = copy_s(state * away * plan["weight_byte"], 0.0, plan, stack, machine)
        updated = (2 * plan["optimizer_byte"] + plan["grad_byte"] + plan["weight_byte"]) / stack["host_mem_byte_per_s"]
        seconds = max(seconds * (1 - away), out_s + state * away * updated + in_s)
    elif away > 0:  # states come and go over the host link, both ways at once
        seconds = max(seconds, copy_s(state * plan["optimizer_byte"] * away, 0.0, plan, stack, machine))
    seconds += piece[BODY]["update_s"] * layers / (group if zero >= 1 else 1.0)
    # encoding and decoding stand before and after what they compress
    return seconds + plan["compress_pass"] * (value + expert) * grad / stack["mem_byte_per_s"]
