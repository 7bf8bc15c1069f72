"""One step of a model on a device that pairs an xPU with units in its memory, as the published simulator lays it out.

Operators are those of any GPU (`workloads.lowering`), dispatched by the device's rule or the one that is asked for
(`hw_models.dispatch`). Attention and dense layers are tensor parallel over `tp` devices, data parallel over `dp` such
groups; experts are whole on devices, or (`expert_tensor`) sharded by width inside a group. Energy is by level: bytes
at the pins or at the units, FLOPs, bytes on links; no static power.
"""

import dataclasses

import numpy as np

from hw_models import dispatch as rules
from hw_models.device import cost, machine
from hw_models.spec import System
from kernels import optable as op
from kernels.machine import (
    EXPERT_BYTE,
    EXPERT_PIM_BYTE,
    EXPERT_PIM_FLOP,
    LINK_BYTE_PER_S,
    LINK_LATENCY_S,
    LINK_OUT,
    LINK_UP,
    Machine,
)
from kernels.serving.beside import hidden_ps
from kernels.units import PS_PER_S
from sim.record.energy import LINK_J_PER_BYTE, pin_j_per_byte
from sim.serving.experts import look_up, rows_of
from workloads import placement
from workloads.formats import parse
from workloads.lowering import Plan, lower_step
from workloads.models.spec import ModelSpec

FLOP_J = 0.23e-12  # 0.46 pJ a multiply-accumulate (Duplex, MICRO 2024), on the xPU too

OUTSIDE = (b"embed", b"embed_reduce", b"embed_norm", b"final_norm", b"lm_head", b"logit_gather", b"sample")
"""Operators outside the layers, to which the published simulator gives no time."""


@dataclasses.dataclass(frozen=True)
class Policy:
    """Where operators go (`hw_models.dispatch`), and whether experts are sharded by width inside a group."""

    dispatch: str = "xpu:routing=uniform"
    expert_tensor: bool = False


POLICIES: dict[str, Policy] = {
    "gpu": Policy(),
    "gpu+et": Policy("xpu:routing=uniform", True),
    "pim": Policy("best:routing=uniform"),
    "pim+et": Policy("best:routing=uniform", True),
    "pim+pe": Policy("co_process"),
    "pim+pe+et": Policy("co_process", True),
}


@dataclasses.dataclass(frozen=True)
class Step:
    """Seconds and joules of one iteration, all devices together in `energy_j`."""

    time_s: float
    expert_s: float
    attention_s: float
    link_s: float
    energy_j: float


def placed(model: ModelSpec, tp: int, dp: int, expert_tensor: bool) -> placement.Placement:
    """Experts whole on as many of the `tp * dp` devices as there are experts, or sharded by width over `tp`."""
    devices = tp * dp
    num_expert = max(
        (layer.num_expert for layer in (block.ffn for block in model.dense_class(0, model.num_layer))), default=0
    )
    ep = 1 if not num_expert else (dp if expert_tensor else min(devices, num_expert))
    return placement.make(model, tp=tp, ep=ep, attn_dp=dp)


def step(model: ModelSpec, system: System, policy: Policy, plan: Plan, *, tp: int, dp: int = 1, seed: int = 0) -> Step:
    """One iteration of `plan` (the sequences of one of `dp` data-parallel groups of `tp` devices): all layers, without
    embedding and head."""
    device, formats, devices = system.device, parse("fp16"), tp * dp
    rule = rules.parse(policy.dispatch, device)
    arrays = machine(system)
    rules.fill(arrays.rate, device, rule)
    place = placed(model, tp, dp, policy.expert_tensor)
    row = rows_of(model, formats, place)
    num_token = int(plan.query_len.sum()) * dp
    if len(row):
        arrays = arrays._replace(expert=look_up(arrays, device, rule, row[0], num_token, seed))
    ops, work = lower_step(model, formats, placement.make(model, tp=tp), 0, plan)
    ops = ops[~np.isin(ops["name"], OUTSIDE)]
    experts = ops["kind"] == op.MOE
    ops["m"][experts] = num_token
    price = cost(ops, work, arrays)
    seconds, count = price["time_ps"] / PS_PER_S, ops["count"].astype(float)
    prefill, decode = (np.flatnonzero(ops["kind"] == kind) for kind in (op.ATTN_PREFILL, op.ATTN_DECODE))
    attention_s = float(seconds[prefill].sum() + seconds[decode].sum())
    for first, second in zip(prefill, decode, strict=False):
        layers = int(ops["count"][first])
        main_ps, pim_ps = (int(price["time_ps"][i]) // layers for i in (first, second))
        attention_s -= layers * hidden_ps(main_ps, pim_ps, int(price["bound"][second]), arrays.rate) / PS_PER_S
    exchange_s = float(sum(count[i] * exchange(ops[i], arrays.link, place) for i in np.flatnonzero(experts)))
    links = (ops["kind"] >= op.ALL_REDUCE) & (ops["kind"] <= op.P2P) | np.isin(ops["kind"], (op.DISPATCH, op.COMBINE))
    rest = ~np.isin(ops["kind"], (op.ATTN_PREFILL, op.ATTN_DECODE))
    total_s = float(seconds[rest].sum()) + attention_s + exchange_s
    energy_j = _energy_j(ops, price, arrays, system, devices)
    return Step(total_s, float(seconds[experts].sum()), attention_s, float(seconds[links].sum()) + exchange_s, energy_j)


def exchange(row: np.void, link: np.ndarray, place: placement.Placement) -> float:
    """Seconds of what an expert layer sends beside the all-reduce that every feed-forward has.

    Experts sharded by width over `e` devices add their partial sums up: one more all-reduce, a ring of 2 (e - 1) hops,
    each a latency and 1/e of the rows. Rows of tokens go to the experts of other attention groups over the network, and
    come back from all devices outside the shard, a share to each of a group; inside one node they only come back.
    """
    tp, dp, shard = place.tp, place.attn_dp, place.moe_tp
    token, hidden, topk = int(row["m"]) // dp, int(row["k"]), int(row["topk"])
    up_s, out_s = link[LINK_UP, LINK_LATENCY_S], link[LINK_OUT, LINK_LATENCY_S]
    up, out = link[LINK_UP, LINK_BYTE_PER_S], link[LINK_OUT, LINK_BYTE_PER_S]
    byte = 2.0 * token * topk * hidden  # rows of all choices
    seconds = 2 * (shard - 1) * (up_s + 2.0 * token * hidden / shard / up)
    back = byte * (1 - shard / place.stage_device) / shard / tp
    if dp > 1:
        seconds += out_s + byte * (1 - 1 / dp) / tp / out + out_s + back / out
    elif back > 0:
        seconds += up_s + back / up
    return float(seconds)


def _energy_j(ops: op.OpTable, price: op.CostTable, arrays: Machine, system: System, devices: int) -> float:
    """Joules of all devices by level."""
    pim = system.device.pim
    pin_j = pin_j_per_byte(system.device)
    count = ops["count"] * float(devices)
    byte, flop = op.mem_byte(ops), ops["flop"].copy()
    pim_byte, pim_flop = np.zeros(len(ops)), np.zeros(len(ops))
    there = price["bound"] >= op.BOUND_PIM_COMPUTE
    experts = ops["kind"] == op.MOE
    table = arrays.expert
    if len(table):
        at = ops["m"][experts]
        pim_byte[experts], pim_flop[experts] = table[at, EXPERT_PIM_BYTE], table[at, EXPERT_PIM_FLOP]
        byte[experts] = table[at, EXPERT_BYTE]
        there = there & ~experts
    pim_byte[there], pim_flop[there] = byte[there], flop[there]
    joule = (byte - pim_byte) * pin_j + np.maximum(flop - pim_flop, 0.0) * FLOP_J + ops["link_byte"] * LINK_J_PER_BYTE
    if pim is not None:
        joule += pim_byte * pim.read_j_per_byte + pim_flop * pim.flop_j
    return float((joule * count).sum())
