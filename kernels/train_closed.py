"""A training step in closed form, and many plans: what a search asks (`ridgeline train` replays the order instead)."""

import math

import numpy as np

from kernels.jit import njit
from kernels.machine import Machine
from kernels.train_plan import (
    BREADTH_FIRST,
    INTERLEAVED,
    MEMORY,
    ONE_F_ONE_B,
    ZB_H1,
    ZB_H2,
    ZB_V,
    Floats,
    Record,
    Records,
    heavy_chunk,
    peak_byte,
)
from kernels.train_step import (
    CP_S,
    EP_S,
    FIRST_STAGE,
    FORWARD_S,
    INPUT_GRAD_S,
    LAST_STAGE,
    MIDDLE,
    ONLY,
    RECOMPUTE_S,
    STAGE,
    TP_S,
    WEIGHT_GRAD_S,
    hop_s,
    layer_traffic_s,
    num_end,
    stage_passes,
    update_s,
    wait_for_hop,
)

UNLIKE = 0.5  # layers a microbatch that ranks wait where chunks differ by a layer: 0.4 to 0.6 in the replay

RESULT: tuple[str, ...] = ("step_s", "bubble_s", "tp_s", "ep_s", "cp_s", "pp_s", "dp_s", "optimizer_s", "recompute_s",
                           "data_s")  # fmt: skip
R_STEP, R_BUBBLE, R_TP, R_EP, R_CP, R_PP, R_DP, R_OPTIMIZER, R_RECOMPUTE, R_DATA = range(len(RESULT))


@njit
def replicas_s(
    plan: Record, stack: Record, gather: float, reduce: float, ends: float, layers: float, row: Floats,
    slack_s: float,
) -> float:  # fmt: skip
    """Seconds that data-parallel traffic adds to a stage whose passes are `row[STAGE]` and that waits for `slack_s`
    besides: what compute hides layer by layer is hidden. `gather` and `reduce` of a layer, `ends` of the vocabulary.
    Passes of ZeRO 2 and 3 hold theirs already, unless they are beside the schedule (`dp_scheduled`; `ridgeline train`
    then replays them)."""
    if plan["dp"] * plan["cp"] <= 1:
        return 0.0
    zero, m, v = plan["zero"], plan["num_microbatch"], plan["num_chunk"]
    forward, recompute = row[FORWARD_S] / layers, row[RECOMPUTE_S] / layers
    back = (row[INPUT_GRAD_S] + row[WEIGHT_GRAD_S]) / layers
    keep = 1 - stack["exposed"]
    if plan["dp_scheduled"] == 0 and zero >= 2:
        first = gather if zero >= 3 else gather + (layers - 1) * max(0.0, gather - keep * forward)
        return first + reduce + ends
    once_a_batch = plan["keep_gathered"] > 0 and (v == 1 or plan["schedule"] == BREADTH_FIRST)
    if zero >= 2 and once_a_batch:
        traffic = layers * reduce + (layers / v * (2 * v - 1) * gather if zero >= 3 else layers * gather)
        return max(gather + reduce, traffic - m * layers * (forward + recompute + back) - slack_s)
    if zero >= 3:
        beside = 0.0 if plan["gather_limit"] == 1 else 1.0
        wait = max(0.0, gather - beside * forward) + max(0.0, beside * gather + reduce - back)
        wait += (1 - beside) * gather
        if plan["recompute"] == 2:
            wait += max(0.0, gather - beside * recompute)
        return m * layers * wait + gather + reduce
    if zero >= 2:
        return m * layers * max(0.0, reduce - back) + reduce + gather + (layers - 1) * max(0.0, gather - forward)
    first = gather + (layers / v - 1) * max(0.0, gather - keep * forward) if zero >= 1 else 0.0
    late = 1.0  # layers, of all microbatches, that run backward after the first reduction may begin
    if plan["schedule"] == BREADTH_FIRST:
        late = m
    elif v > 1:
        late = min(m, plan["pp"])
    window = layers / v * ((v - 1) * late + 1) * back * keep
    end = reduce + (layers / v - 1) * max(0.0, reduce - keep * back)
    return first + max(end, layers * reduce - window) + ends


@njit
def load_s(plan: Record, stack: Record) -> float:
    """Seconds that the loaders of one replica take for a step's samples; the next step's load under this one."""
    rate = plan["loader_byte_per_s"] if plan["loader_byte_per_s"] > 0 else stack["host_byte_per_s"]
    return plan["num_microbatch"] * plan["micro_batch"] * plan["sample_byte"] / rate


@njit
def waited(plan: Record, stack: Record) -> float:
    """How many times longer a step takes because every device waits for the slowest: the expected largest of as many
    normal step times, about sqrt(2 ln n) deviations above the mean."""
    number = plan["tp"] * plan["cp"] * plan["dp"] * plan["pp"]
    return 1.0 + stack["jitter"] * math.sqrt(2.0 * math.log(number)) if number > 1 else 1.0


@njit
def plan_step(plan: Record, piece: Records, stack: Record, machine: Machine, stage: Floats, out: Floats) -> float:
    """Seconds of a step in closed form, by kind in `out[RESULT]` (`stage[4, STAGE]` is filled on the way).

    The slowest stage runs every microbatch; the others add one pass each while filling and draining (divided by the
    chunks of an interleaved schedule, less what weight gradients fill). Exact for one slowest stage and no hop;
    `ridgeline train` replays the order instead.
    """
    pp, m, v = plan["pp"], plan["num_microbatch"], plan["num_chunk"]
    fullest, mean = plan["fullest"], plan["num_layer"] / pp
    total = np.zeros(4)
    gather, reduce, ends = layer_traffic_s(plan, piece, stack, machine)
    slowest, traffic = ONLY, (gather, reduce)
    if pp == 1:
        stage_passes(plan, piece, stack, machine, traffic, plan["num_layer"], ONLY, stage[ONLY])
    else:
        stage_passes(plan, piece, stack, machine, traffic, plan["first_layer"], FIRST_STAGE, stage[FIRST_STAGE])
        stage_passes(plan, piece, stack, machine, traffic, fullest, MIDDLE, stage[MIDDLE])
        stage_passes(plan, piece, stack, machine, traffic, plan["last_layer"], LAST_STAGE, stage[LAST_STAGE])
        slowest = FIRST_STAGE
    hop = hop_s(plan, stack, machine)
    if pp > 1 and plan["blocking_hop"] > 0:
        for where in range(3):
            wait_for_hop(stage[where], hop * v)
    for where in range(4):
        row = stage[where]
        total[where] = row[FORWARD_S] + row[INPUT_GRAD_S] + row[WEIGHT_GRAD_S] + row[RECOMPUTE_S]
    if pp > 1:
        slowest = LAST_STAGE if total[LAST_STAGE] >= total[FIRST_STAGE] else FIRST_STAGE
        if pp > 2 and total[MIDDLE] > total[slowest]:
            slowest = MIDDLE
    busy = m * total[slowest]
    # ranks at unlike chunks wait for one another
    if plan["schedule"] in (INTERLEAVED, BREADTH_FIRST) and heavy_chunk(plan) > 0:
        busy *= 1.0 + UNLIKE / fullest
    bubble, hops = 0.0, 0.0
    if pp > 1:
        ramp = total[FIRST_STAGE] + total[LAST_STAGE] + (pp - 2) * total[MIDDLE] - total[slowest]
        short = (fullest - mean) * pp - (2 * fullest - plan["first_layer"] - plan["last_layer"])
        ramp -= max(0.0, short) / fullest * total[MIDDLE]  # ranks between the ends that have a layer less
        filled = 0.0
        kind = plan["schedule"]
        if kind in (ZB_H1, ZB_H2, ZB_V):  # weight gradients of one microbatch wait for no stage; those of further ones
            own = min(ramp, (pp - 1) * stage[MIDDLE, WEIGHT_GRAD_S])  # fill what is left, as far as there are any
            most = min(ramp, 2 * own) if kind == ZB_H1 else ramp
            enough = pp - 1 if kind == ZB_H1 else 2 * (pp - 1)
            filled = own + (most - own) * min(1.0, (m - 1) / enough)
        bubble = max(0.0, ramp / v - filled)
        if kind in (ONE_F_ONE_B, ZB_H1, ZB_H2):
            hops = 2 * hop * ((pp - 1) * (1 + m / pp) - 1)
        elif kind in (INTERLEAVED, ZB_V):
            hops = 2 * hop * (pp - 1) * 2
        else:
            hops = 2 * hop * (pp - 1)
    row = stage[slowest]
    out[R_BUBBLE], out[R_PP] = bubble, hops
    passes = 3.0 if plan["recompute"] == 2 else 2.0
    out[R_TP], out[R_EP], out[R_CP] = m * row[TP_S] * passes, m * row[EP_S] * passes, m * row[CP_S] * passes
    out[R_RECOMPUTE] = m * row[RECOMPUTE_S]
    layers = plan["num_layer"] if pp == 1 else fullest
    if slowest == FIRST_STAGE:
        layers = plan["first_layer"]
    elif slowest == LAST_STAGE:
        layers = plan["last_layer"]
    ends *= num_end(plan, slowest)
    out[R_DP] = replicas_s(plan, stack, gather, reduce, ends, layers, row, bubble + hops)
    out[R_OPTIMIZER] = update_s(plan, piece, stack, machine, layers, slowest)
    alone = busy + bubble + hops + out[R_DP] + out[R_OPTIMIZER] + stack["step_s"]
    out[R_STEP] = alone * waited(plan, stack)
    out[R_DATA] = max(0.0, load_s(plan, stack) - out[R_STEP])
    out[R_STEP] += out[R_DATA]
    return out[R_STEP]


@njit
def score_plans(plans: Records, pieces: Records, stack: Record, machine: Machine, seconds: Floats, peak: Floats) -> int:
    """`seconds[i]` (inf where it does not fit) and `peak[i]` bytes of each plan, whose prices are row `piece` of
    `pieces[:, 3]`; returns how many fit."""
    stage, out, memory = np.zeros((4, len(STAGE))), np.zeros(len(RESULT)), np.zeros(len(MEMORY))
    num_fit = 0
    for i in range(plans.shape[0]):
        plan = plans[i]
        piece = pieces[int(plan["piece"])]
        peak[i] = peak_byte(plan, piece, stack, memory)
        if peak[i] > stack["mem_byte"]:
            seconds[i] = np.inf
            continue
        seconds[i] = plan_step(plan, piece, stack, machine, stage, out)
        num_fit += 1
    return num_fit
