"""Steps of a model on a device that pairs an xPU with units in its memory, from the operators of any GPU.

Every operator is priced on the xPU as on any GPU. Decode attention and experts may go to the units: by a fixed map,
by trying both, or experts split by a look-up of time by tokens. Prefill attention on the xPU and decode attention on
the units run side by side. Experts see seeded uniform routing, so that the slowest device of a layer is the one
with most tokens, as in a run. Energy is by level: bytes at the pins or at the units, FLOPs, bytes on links.
"""

import dataclasses
import functools
from dataclasses import replace

import numpy as np

from hw_models.device import cost, machine
from hw_models.spec import System
from kernels import optable as op
from kernels.coprocess import MODES, XPU, mean_expert_s, roof_s
from kernels.errors import InputError
from workloads import placement
from workloads.formats import parse
from workloads.lowering import Plan, lower_step
from workloads.models.spec import ModelSpec

NUM_DRAW = 64  # routings averaged, fewer where many tokens even out: a layer's time is then within 2 %
LINK_J_PER_BYTE = 10.4e-12  # NVLink, 1.3 pJ/bit (AttAcc, ASPLOS 2024)
FLOP_J = 0.23e-12  # 0.46 pJ a multiply-accumulate (Duplex, MICRO 2024), on the xPU too


@dataclasses.dataclass(frozen=True)
class Policy:
    """Where operators go. `expert`: one of `kernels.coprocess.MODES`; `attention`: xpu, pim or best;
    `expert_tensor`: experts are sharded by width over the node instead of placed whole on devices."""

    expert: str = "xpu"
    attention: str = "xpu"
    expert_tensor: bool = False


POLICIES: dict[str, Policy] = {
    "gpu": Policy(),
    "pim": Policy("best", "best"),
    "pim+pe": Policy("co_process", "best"),
    "pim+pe+et": Policy("co_process", "best", True),
}


@dataclasses.dataclass(frozen=True)
class Step:
    """Seconds and joules of one iteration, all devices together in `energy_j`."""

    time_s: float
    expert_s: float
    attention_s: float
    energy_j: float


@functools.lru_cache(maxsize=64)
def _choices(num_token: int, num_expert: int, seed: int) -> np.ndarray:
    num_draw = max(4, min(NUM_DRAW, 60_000 // (num_token * num_expert)))
    return np.random.default_rng(seed).random((num_draw, num_token, num_expert))


def step(
    model: ModelSpec,
    system: System,
    policy: Policy,
    plan: Plan,
    *,
    tp: int,
    dp: int = 1,
    expert_rank: int = 0,
    seed: int = 0,
) -> Step:
    """One iteration of `plan` (the sequences of one of `dp` data-parallel groups of `tp` devices).

    `expert_rank`: devices that experts are spread over (all where 0); where there are more devices than experts, an
    expert is split by width over the rest.
    """
    device = system.device
    if policy.expert not in MODES or (policy != Policy() and device.pim is None):
        raise InputError("no units in this memory", file=device.file, field="policy", value=policy.expert)
    ops, work = lower_step(model, parse("fp16"), placement.make(model, tp=tp), 0, plan)
    price = cost(ops, work, machine(System(system.name, replace(system.node, device=replace(device, pim=None)))))
    seconds = price["time_ps"] * 1e-12
    count = ops["count"].astype(float)
    byte, flop = op.mem_byte(ops) * count, ops["flop"] * count
    energy = (byte * device_byte_j(system) + flop * FLOP_J + ops["link_byte"] * count * LINK_J_PER_BYTE) * (tp * dp)
    kind = ops["kind"]
    expert = kind == op.MOE
    decode = kind == op.ATTN_DECODE
    pim = device.pim
    attention_s = float(seconds[decode].sum())
    if pim is not None and policy.attention != "xpu":
        for i in np.flatnonzero(decode):
            on_pim = roof_s(flop[i], byte[i], pim.flop_per_s, pim.byte_per_s)
            if policy.attention == "pim" or on_pim < seconds[i]:
                attention_s += on_pim - float(seconds[i])
                energy[i] = (byte[i] * pim.read_j_per_byte + flop[i] * pim.flop_j) * (tp * dp)
    prefill_s = float(seconds[kind == op.ATTN_PREFILL].sum())
    side_by_side = policy.attention != "xpu"
    attend_s = max(prefill_s, attention_s) if side_by_side else prefill_s + attention_s
    other = ~(expert | decode | (kind == op.ATTN_PREFILL))
    expert_s, expert_j = _experts(ops[expert], system, policy, tp, dp, expert_rank, seed)
    total = float(seconds[other].sum()) + attend_s + expert_s
    if policy.expert_tensor and expert.any():
        # partial sums inside the expert group and their gathering: two more all-reduces of the layer's activations
        reduce = np.flatnonzero((kind == op.ALL_REDUCE) & (ops["count"] == ops[expert]["count"][0]))
        total += 2 * float(seconds[reduce[-1]]) if len(reduce) else 0.0
    return Step(total, expert_s, attend_s, float(energy[~expert].sum()) + expert_j)


def device_byte_j(system: System) -> float:
    """Joules of a byte at the pins of the device's memory part (3.48 pJ/bit where it names none)."""
    pim = system.device.pim
    return (pim.memory.read_pj_per_bit() if pim is not None else 3.48) * 8e-12


def _experts(
    rows: op.OpTable, system: System, policy: Policy, tp: int, dp: int, expert_rank: int, seed: int
) -> tuple[float, float]:
    """Seconds and joules of the expert layers."""
    device, total_s, total_j = system.device, 0.0, 0.0
    pim, mode = device.pim, MODES.index(policy.expert)
    for row in rows:
        num_expert, topk = int(row["num_expert"]), int(row["topk"])
        num_token = int(row["m"]) * dp
        hidden, width = float(row["k"]), float(row["n"])
        num_device = tp * dp
        matrices = round(float(row["flop"]) * tp / (2.0 * float(row["m"]) * topk * hidden * width))
        rank = expert_rank or num_device
        if policy.expert_tensor:
            rank = max(1, num_device // tp)
        rank = min(rank, num_expert)
        split = num_device / rank  # devices that share an expert by width
        tokens = np.arange(num_token + 1, dtype=float)
        weight = matrices * hidden * width * 2 / split
        moved = weight + tokens * (2 * hidden + (matrices + 1) * width / split) * 2
        work = 2 * tokens * matrices * hidden * width / split
        moved[0] = work[0] = 0.0
        xpu_s = np.maximum(work / device.peak("fp16"), moved / device.mem_byte_per_s)
        pim_s = np.maximum(work / pim.flop_per_s, moved / pim.byte_per_s) if pim is not None else xpu_s
        layer_s, share = mean_expert_s(
            _choices(num_token, num_expert, seed), topk, rank, xpu_s, pim_s, mode if pim is not None else XPU
        )
        total_s += layer_s * float(row["count"])
        active = num_expert * (1 - (1 - topk / num_expert) ** num_token)
        byte = active * weight * split + num_token * topk * (2 * hidden + (matrices + 1) * width) * 2
        flop = 2.0 * num_token * topk * matrices * hidden * width
        at_pins = byte * device_byte_j(system) + flop * FLOP_J
        at_units = byte * pim.read_j_per_byte + flop * pim.flop_j if pim is not None else at_pins
        total_j += float(row["count"]) * ((1 - share) * at_pins + share * at_units)
    return total_s, total_j
