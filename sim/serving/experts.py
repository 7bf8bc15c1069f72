"""The look-up that prices a model's experts by tokens: seeded routing over the experts of a placement, each expert on
the xPU or the units as the device's dispatch has it."""

import numpy as np

from hw_models.dispatch import Dispatch
from hw_models.spec import Device
from kernels import coprocess
from kernels import machine as layout
from kernels.errors import InputError
from kernels.formats import FORMATS
from kernels.machine import CO_PROCESS, DISPATCHES, XPU, Machine
from kernels.moe import LAUNCH_S, TILE_M, moe_s
from kernels.optable import BOUND_COMPUTE, BOUND_MEMORY, BOUND_PIM_COMPUTE, BOUND_PIM_MEMORY, MOE, OpTable
from kernels.power import dynamic_j
from workloads.formats import Formats
from workloads.lowering import lower_dense
from workloads.models.spec import ModelSpec
from workloads.placement import Placement

NUM_DRAW = 64  # routings averaged: a layer's mean within 1 %
EVERY = 256  # token counts are priced one by one up to here, then 3 % apart and interpolated
GROWTH = 1.03


def rows_of(model: ModelSpec, formats: Formats, placement: Placement) -> OpTable:
    """The expert operators of a step of one token, one a shape; none for a model without experts."""
    rows = [lower_dense(model, formats, placement, stage, 1) for stage in range(placement.pp)]
    found = np.concatenate(rows)
    found = found[found["kind"] == MOE]
    _, first = np.unique(found[["k", "n", "num_expert", "topk", "tp", "ep"]], return_index=True)
    return found[np.sort(first)]


def with_experts(
    machine: Machine, device: Device, found: Dispatch, model: ModelSpec, formats: Formats, placement: Placement,
    max_token: int, seed: int,
) -> Machine:  # fmt: skip
    """`machine` with the look-up for steps of up to `max_token` tokens an attention group; unchanged where the dispatch
    draws no routing or the model has no experts. Raises `InputError` for experts of several shapes."""
    rows = rows_of(model, formats, placement)
    if not found.draws or not len(rows):
        return machine
    if len(rows) > 1:
        raise InputError(
            f"{model.name} has experts of several shapes", field="dispatch", value=found.expert, allowed="routing=even"
        )
    return machine._replace(expert=look_up(machine, device, found, rows[0], max_token * placement.attn_dp, seed))


def look_up(machine: Machine, device: Device, found: Dispatch, row: np.void, max_token: int, seed: int) -> np.ndarray:
    """`[max_token + 1, len(EXPERT_COLUMNS)]` of the expert operator `row` on each of its devices."""
    pim, rate = device.pim, machine.rate
    num_expert, topk, rank = int(row["num_expert"]), int(row["topk"]), int(row["ep"])
    token = grid(max_token)
    random = np.random.default_rng(seed)
    choice = np.stack(
        [random.integers(0, num_expert - k, (NUM_DRAW, max_token), dtype=np.int32) for k in range(topk)], axis=2
    )
    side = sides(machine, device, found, row, max_token)
    split = coprocess.expert_table(
        token, coprocess.without_repetition(choice), num_expert, rank, side, DISPATCHES.index(found.expert),
        pim.num_section if pim is not None else 0, float(rate[layout.MAIN_SHARE]), float(rate[layout.PIM_SHARE]),
    )  # fmt: skip
    split = np.concatenate([np.zeros((1, split.shape[1])), split])
    every = np.arange(max_token + 1)
    knots = np.concatenate([[0], token])
    seconds, joule, byte, pim_byte, pim_flop = (np.interp(every, knots, split[:, c]) for c in range(split.shape[1]))
    share = np.divide(pim_byte, byte, out=np.zeros(len(byte)), where=byte > 0)
    table = np.zeros((max_token + 1, len(layout.EXPERT_COLUMNS)))
    launch_s = machine.fit[MOE, row["fmt"], LAUNCH_S] if (side[coprocess.XPU_S] > 0).any() else 0.0
    table[:, layout.EXPERT_S] = seconds + np.where((every > 0) & (share < 1), launch_s, 0.0)
    table[:, layout.EXPERT_IDEAL_S] = joule / max(float(rate[layout.DYNAMIC_W]), 1.0)
    table[:, layout.EXPERT_PIM_BYTE], table[:, layout.EXPERT_PIM_FLOP] = pim_byte, pim_flop
    table[:, layout.EXPERT_BYTE] = byte
    each = every * topk / num_expert  # tokens of an expert
    at = np.clip(np.ceil(each).astype(np.int64), 1, max_token)
    flop_byte = 6.0 * at * float(row["k"]) * float(row["n"]) / float(row["tp"]) / side[coprocess.BYTE, at]
    peak, bandwidth = machine.peak_flop_per_s[row["fmt"]], rate[layout.MEM_BYTE_PER_S]
    on_xpu = np.where(flop_byte > peak / bandwidth, BOUND_COMPUTE, BOUND_MEMORY)
    on_pim = np.full(len(every), BOUND_PIM_MEMORY)
    if pim is not None:
        on_pim = np.where(flop_byte > pim.op_per_byte, BOUND_PIM_COMPUTE, BOUND_PIM_MEMORY)
    table[:, layout.EXPERT_BOUND] = np.where(share >= 0.5, on_pim, on_xpu)
    return table


def grid(max_token: int) -> np.ndarray:
    """Token counts that are priced, 1 to `max_token`.

    >>> grid(3).tolist()
    [1, 2, 3]
    """
    found = list(range(1, min(EVERY, max_token) + 1))
    while found[-1] < max_token:
        found.append(min(max_token, int(found[-1] * GROWTH) + 1))
    return np.array(found, np.int64)


def sides(machine: Machine, device: Device, found: Dispatch, row: np.void, max_token: int) -> np.ndarray:
    """`[len(SIDES), max_token + 1]`: one expert of so many tokens on a device of its group, on either engine.

    The xPU's time is that of the fused expert kernel without its launch (one launch does all): of a fitted kernel, the
    share of a layer whose experts all have so many tokens; at peak rates, that of the expert alone. The look-up knows
    peak rates, bandwidths at the share that the device states.
    """
    rate, fmt = machine.rate.copy(), int(row["fmt"])
    rate[layout.PIM_EXPERT] = XPU
    form, fit, peak = FORMATS[fmt], machine.fit[MOE, fmt].copy(), float(machine.peak_flop_per_s[fmt])
    fit[LAUNCH_S] = 0.0
    hidden, width, tp = int(row["k"]), int(row["n"]), int(row["tp"])
    token = np.arange(max_token + 1, dtype=float)
    flop = 6.0 * token * hidden * width / tp
    weight = 3.0 * hidden * width / tp * form.weight_bit / 8
    byte = np.where(token > 0, weight + 2.0 * token * hidden * form.act_bit / 8, 0.0)
    side = np.zeros((len(coprocess.SIDES), max_token + 1))
    num_expert, topk, ep = (
        (1, 1, 1) if fit[TILE_M] == 0.0 else (int(row["num_expert"]), int(row["topk"]), int(row["ep"]))
    )
    for n in range(1, max_token + 1):
        seconds, _, _ = moe_s(
            n * num_expert // topk, hidden, width, num_expert, topk, tp, ep, 0.0,
            form.weight_bit / 8, form.act_bit / 8, peak, rate, fit,
        )  # fmt: skip
        side[coprocess.XPU_S, n] = seconds * ep / num_expert
        side[coprocess.XPU_J, n] = dynamic_j(
            side[coprocess.XPU_S, n], flop[n] / peak, byte[n], float(rate[layout.PRODUCT_W]), rate
        )
    side[coprocess.BYTE], side[coprocess.FLOP] = byte, flop
    side[coprocess.LOW] = flop <= byte * rate[layout.PIM_OP_PER_BYTE]
    share = 1.0
    if device.pim is not None:
        pim_flop, pim_byte = device.pim.flop_per_s, float(rate[layout.PIM_BYTE_PER_S])
        side[coprocess.PIM_S] = np.maximum(flop / pim_flop, byte / pim_byte)
        share = device.pim.lookup_share if DISPATCHES.index(found.expert) == CO_PROCESS else 1.0
        side[coprocess.PIM_GUESS_S] = np.maximum(flop / pim_flop, byte / (share * device.pim.byte_per_s))
        joule = flop * device.pim.flop_j + byte * device.pim.read_j_per_byte
        stated = device.pim.flop_j > 0 or device.pim.read_j_per_byte > 0
        side[coprocess.PIM_J] = joule if stated else side[coprocess.PIM_S] * rate[layout.DYNAMIC_W]
    side[coprocess.XPU_GUESS_S] = np.maximum(flop / peak, byte / (share * device.mem_byte_per_s))
    return side
