"""Does logic under the DRAM stack double the throughput of mixture-of-experts serving? (Duplex, MICRO 2024)

The decode steps of its published simulator, its closed loops and its load sweep on the serving engine, its energy,
its baselines (2xGPU, Bank-PIM, GPUs beside Logic-PIM devices, split prefill and decode) and its EDAP.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hw_models import catalog
from hw_models.edap import edap
from hw_models.spec import System
from kernels.errors import InputError
from studies import _serve
from studies._claims import frame, holds, row
from studies._co_process import POLICIES, Step, step
from studies._serve import Loop, Server, closed, server
from workloads import models
from workloads.lowering import Plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Duplex (Yun et al. 2024): 2.07x the throughput of GPUs on average, 2.67x at most, 28 % less energy"
LENGTHS, BATCHES = (256, 1024, 2048, 4096), (32, 64, 128)
TWINS: dict[str, tuple[str, str]] = {
    "GPU": ("h100_sxm", "gpu"),
    "Bank-PIM": ("bank_pim", "pim"),
    "Duplex": ("duplex", "pim"),
    "Duplex+PE": ("duplex", "pim+pe"),
    "Duplex+PE+ET": ("duplex", "pim+pe+et"),
}
"""Device and policy of each machine of a decode step."""


class Setup(NamedTuple):
    """Model and placement of the paper's Table I: tensor parallel in a node, data parallel over nodes."""

    model: str
    tp: int
    dp: int = 1


MOE = (Setup("mixtral-8x7b", 4), Setup("glam-143b", 8), Setup("grok-1", 8, 2))
DENSE = (Setup("llama-3-70b", 4), Setup("opt-66b", 4))
NUM_EXPERT = {"mixtral-8x7b": 8, "glam-143b": 64, "grok-1": 8}

STEPS = {  # batch, input -> ms of GPU, Bank-PIM, Duplex, +PE, +PE+ET: the published simulator, Mixtral on 4 devices
    (32, 256): (7.460, 4.758, 2.771, 2.771, 2.527),
    (32, 2048): (8.038, 4.898, 2.911, 2.911, 2.667),
    (64, 2048): (8.837, 7.744, 4.993, 4.913, 3.592),
}
EDAP = {  # published, of each Op/B: Bank-PIM, BankGroup-PIM, Logic-PIM, the largest being 1
    1: (0.08, 1, 0.66), 2: (0.16, 1, 0.66), 4: (0.35, 1, 0.65), 8: (0.81, 1, 0.65), 16: (1, 0.96, 0.61),
    32: (1, 0.67, 0.40),
}  # fmt: skip
EDAP_DEVICES = ("bank_pim", "bankgroup_pim", "duplex")

RULES: dict[str, tuple[str, str, bool]] = {
    "GPU": ("h100_sxm", "xpu:routing=uniform", False),
    "2xGPU": ("h100_sxm", "xpu:routing=uniform", False),
    "Bank-PIM": ("bank_pim", "best:routing=uniform", True),
    "Duplex": ("duplex", "best:routing=uniform", False),
    "Duplex+PE": ("duplex", "co_process", False),
    "Duplex+PE+ET": ("duplex", "co_process", True),
}
"""Device, dispatch, and whether experts are sharded by width, of each machine that serves."""
FULL = "Duplex+PE+ET"
NOTE = (
    "closed loop on the serving engine: Gaussian lengths (10 %), whole prompts beside decodes, uniform random routing, "
    "peak FLOP/s, bandwidths as DRAM timing has them (refresh; rows that the units open together hide nothing), "
    "prompts' scores in memory, KV as if it fitted"
)
TIE = (
    "; largest at batch 128, where an expert has 32 tokens and takes as long on either engine: Duplex gains little "
    "from its units there"
)
EVEN = (
    "; a prompt lies on one of the two nodes of 2xGPU; at peak rates and on these links its mixed steps are still "
    "faster than the published ones"
)
MAC = "; joules a FLOP of units on DRAM dies are a fit of this figure at 32 Op/B, BankGroup-PIM's area at 1 Op/B"
Grid = dict[tuple[str, str, int, int], Loop]


def system(device: str) -> System:
    """A box of eight such devices on the paper's links."""
    return System(device, catalog.node("duplex_x8", with_device=catalog.device(device)))


def plan(num_decode: int, kv_len: int) -> Plan:
    """Decodes at `kv_len` tokens in one iteration."""
    one = np.ones(num_decode, np.int64)
    return Plan(one, one * kv_len, one == 1, one == 1)


def decode_step(name: str, setup: Setup, batch: int, kv_len: int) -> Step:
    """A decode step of a batch on one of `TWINS` at peak rates; data-parallel groups share the batch."""
    device, policy = TWINS[name]
    part = plan(max(1, batch // setup.dp), kv_len)
    return step(models.load(setup.model), system(device), POLICIES[policy], part, tp=setup.tp, dp=setup.dp)


def step_table(model: str, batch: int, kv_len: int, num_device: int) -> pd.DataFrame:
    """Milliseconds and joules of one decode step on each machine: any model, `batch` sequences of `kv_len` tokens on
    `num_device` devices, eight in a node."""
    if num_device > 8 and num_device % 8:
        raise InputError("nodes are of eight", field="devices", value=num_device, allowed="1 to 8, or a multiple of 8")
    if batch % max(1, num_device // 8):
        raise InputError("nodes share the batch evenly", field="batch", value=batch, allowed="a multiple of the nodes")
    setup = Setup(model, min(num_device, 8), max(1, num_device // 8))
    rows = []
    for name in TWINS:
        one = decode_step(name, setup, batch, kv_len)
        parts = {"experts": one.expert_s, "attention": one.attention_s, "links": one.link_s}
        rows.append({"system": name, "step_ms": one.time_s * 1e3}
                    | {f"{part}_ms": seconds * 1e3 for part, seconds in parts.items()}
                    | {"energy_J": one.energy_j})  # fmt: skip
    return pd.DataFrame(rows)


def machine(name: str, setup: Setup, batch: int = 128, max_token: int = 8_192) -> Server:
    """One of `RULES` laid out for a model; twice the GPUs fill the node first and then more nodes."""
    device, rule, by_width = RULES[name]
    tp, dp = setup.tp, setup.dp
    if name == "2xGPU":
        tp, dp = (tp * 2, dp) if tp < 8 else (tp, dp * 2)
    num_expert = NUM_EXPERT.get(setup.model, 0)
    ep = 1 if not num_expert else (dp if by_width else min(tp * dp, num_expert))
    rule += (":" if ":" not in rule else ",") + "bandwidth=timed"
    return server(setup.model, device, rule, tp=tp, ep=ep, attn_dp=dp, max_token=max_token, max_seq=batch)


def grid(
    setups: tuple[Setup, ...] = MOE, names: tuple[str, ...] = tuple(RULES), lengths: tuple[int, ...] = LENGTHS,
    batches: tuple[int, ...] = BATCHES,
) -> Grid:  # fmt: skip
    """Closed loops of every model, machine, length (in and out) and batch."""
    found: Grid = {}
    for setup in setups:
        for name in names:
            one = machine(name, setup)
            for batch in batches:
                if one.lowered.placement.attn_dp > 1:  # where a prompt lies depends on the batch beside it
                    one = machine(name, setup, batch)
                for length in lengths:
                    found[setup.model, name, length, batch] = closed(one, length, length, batch)
    return found


def run() -> pd.DataFrame:
    """Every claim, a row each."""
    loops = grid()
    return frame([
        *_steps(), *_throughput(loops), *_energy(loops), *_bank(loops), *_latency(), *_sweep(), *_hetero(), *_split(),
        *_edap(),
    ])  # fmt: skip


def _steps() -> list[dict[str, Any]]:
    rows = []
    note = "operator roofline of all layers (no embedding, no head), uniform random routing, links of 0.8 us"
    look_up = "; the split is decided by a look-up that counts on 75 % of the bandwidths, as published"
    more = {
        "Duplex+PE": look_up,
        "Duplex+PE+ET": look_up + "; one more all-reduce a layer, of the experts' partial sums, as published",
    }
    for (batch, length), published in STEPS.items():
        for name, value in zip(TWINS, published, strict=True):
            time = decode_step(name, MOE[0], batch, length).time_s * 1e3
            label = f"batch {batch}, {length} in"
            rows.append(row(name, "decode step, ms", label, value, time, 0.05, note + more.get(name, "")))
    return rows


def ratio(loops: Grid, name: str, base: str, *, models_: tuple[str, ...] = (), batches: tuple[int, ...] = BATCHES
          ) -> list[float]:  # fmt: skip
    """Throughput over that of `base` at every point of the grid that has both."""
    wanted = models_ or tuple({key[0] for key in loops})
    chosen = [key for key in loops if key[1] == name and key[3] in batches and key[0] in wanted]
    return [loops[key].token_per_s / loops[key[0], base, *key[2:]].token_per_s for key in chosen]


def _throughput(loops: Grid) -> list[dict[str, Any]]:
    where = "3 MoE models, 256 to 4096, batch 32 to 128"
    gain, plain = ratio(loops, FULL, "GPU"), ratio(loops, "Duplex", "GPU")
    by_model = {setup.model: ratio(loops, FULL, "GPU", models_=(setup.model,)) for setup in MOE}
    mixtral = ratio(loops, "Duplex", "GPU", models_=("mixtral-8x7b",))
    double = np.array(ratio(loops, FULL, "2xGPU"))
    split = float(np.mean(ratio(loops, "Duplex+PE", "Duplex")))
    least = min(by_model, key=lambda name: float(np.mean(by_model[name])))
    return [
        row(FULL, "throughput over GPU, mean", where, 2.07, float(np.mean(gain)), 0.10, NOTE),
        row(FULL, "throughput over GPU, most", where, 2.67, max(gain), 0.10, NOTE),
        row("Duplex", "throughput over GPU, most", "Mixtral, the grid", 2.51, max(mixtral), 0.10, NOTE),
        row("Duplex+PE", "throughput over Duplex, mean", where, 1.04, split, 0.10, NOTE),
        row(FULL, "throughput over Duplex, most", where, 1.36, max(ratio(loops, FULL, "Duplex")), 0.10, NOTE + TIE),
        holds(FULL, "order: above GPU everywhere", where, min(gain) > 1),
        holds("Duplex", "order: not below GPU anywhere", where, min(plain) >= 1),
        holds(FULL, "order: above Duplex everywhere", where, min(ratio(loops, FULL, "Duplex")) > 1),
        holds(FULL, "order: above 2xGPU in most cases", where, bool((double > 1).mean() > 0.5),
              f"{(double > 1).mean():.0%} of the grid"),
        holds(FULL, "order: Grok1, on two nodes, gains least", where, least == "grok-1"),
    ]  # fmt: skip


def _energy(loops: Grid) -> list[dict[str, Any]]:
    note = "an ACT of 0.909 nJ a KiB, 3.48 pJ/bit or the units' own, 0.46 pJ a multiply-accumulate; no static power"
    rows, every = [], []
    for setup, published in zip(MOE, (0.3328, 0.4203, 0.3459), strict=True):
        saved = [
            1 - loops[setup.model, FULL, length, batch].token_j / loops[setup.model, "GPU", length, batch].token_j
            for length in LENGTHS for batch in BATCHES
        ]  # fmt: skip
        every += saved
        rows.append(row(FULL, "energy saved, most", setup.model, published, max(saved), 0.04, note, points=True))
    where = "3 MoE models, 256 to 4096, batch 32 to 128"
    return [row(FULL, "energy saved, mean", where, 0.2819, float(np.mean(every)), 0.04, note, points=True), *rows]


def _bank(loops: Grid) -> list[dict[str, Any]]:
    note = NOTE + "; experts by width on both machines, as in the comparison's Duplex"

    def over(name: str, base: str, length: int, batch: int) -> float:
        one, other = (loops["mixtral-8x7b", which, length, batch] for which in (name, base))
        return one.token_per_s / other.token_per_s

    against = ratio(loops, FULL, "Bank-PIM", models_=("mixtral-8x7b",), batches=(32, 64))
    rows = [
        row(name, "throughput over GPU, Mixtral", f"{length}, batch {batch}", published,
            over(name, "GPU", length, batch), 0.10, note)
        for name, length, batch, published in (
            ("Bank-PIM", 4096, 32, 2.17), ("Bank-PIM", 256, 64, 1.18), (FULL, 256, 64, 2.05),
        )
    ]  # fmt: skip
    where = "Mixtral, batch 32 and 64"
    rows += [
        row(FULL, "throughput over Bank-PIM, mean", where, 1.49, float(np.mean(against)), 0.10, note),
        row(FULL, "throughput over Bank-PIM, most", where, 1.80, max(against), 0.10, note),
        holds(FULL, "order: above Bank-PIM", where, min(against) > 1),
    ]
    for setup, winner, loser in zip(DENSE, ("Duplex", "Bank-PIM"), ("Bank-PIM", "Duplex"), strict=True):
        loop = grid((setup,), ("Duplex", "Bank-PIM"), (256, 1024, 4096), (32, 64))
        won = ratio(loop, winner, loser)
        where = f"{setup.model}, 256 to 4096, batch 32 and 64"
        rows.append(holds(winner, f"order: above {loser}", where, min(won) > 1, f"by {min(won):.3f} to {max(won):.2f}"))
    return rows


def _latency() -> list[dict[str, Any]]:
    lengths = (512, 1024, 2048)
    loops = grid((MOE[1],), ("GPU", "2xGPU", "Duplex", FULL), lengths, (64,))

    def saved(name: str, base: str, field: str, length: int) -> float:
        one, other = (getattr(loops["glam-143b", which, length, 64], field) for which in (name, base))
        return 1 - float(one) / float(other)

    def mean(name: str, base: str, field: str) -> float:
        return float(np.mean([saved(name, base, field, length) for length in lengths]))

    where, short = "GLaM, batch 64, 512 to 2048", "GLaM, batch 64, 512"
    rows = [
        (FULL, "E2E latency saved over GPU", where, 0.602, mean(FULL, "GPU", "e2e_s"), NOTE),
        (FULL, "E2E latency saved over 2xGPU", where, 0.3538, mean(FULL, "2xGPU", "e2e_s"), NOTE + EVEN),
        (FULL, "p99 TBT saved over 2xGPU", short, 0.1674, saved(FULL, "2xGPU", "tbt_p99_s", 512), NOTE + EVEN),
        (FULL, "median T2FT saved over 2xGPU", short, 0.2617, saved(FULL, "2xGPU", "t2ft_s", 512), NOTE + EVEN),
        ("Duplex", "median TBT saved over GPU", where, 0.583, mean("Duplex", "GPU", "tbt_s"), NOTE),
    ]
    found = [
        row(name, claim, setup, paper, value, 0.06, note, points=True)
        for name, claim, setup, paper, value, note in rows
    ]
    lower = mean("Duplex", "2xGPU", "tbt_s") > 0
    return [*found, holds("Duplex", "order: median TBT below 2xGPU", where, lower)]


def _sweep() -> list[dict[str, Any]]:
    """Mixtral, 4096 in and 512 out, at most 128 sequences, Poisson arrivals at 4 to 16 a second."""
    note = NOTE + "; requests served a second at the last rate of the sweep, 16, of 1,000"
    rows, median = [], {}
    for name, published in (("GPU", 9.0), (FULL, 14.0), ("2xGPU", 0.0)):
        one = machine(name, MOE[0], max_token=32_768)
        served = {rate: _serve.poisson(one, rate, 1000, 4096, 512, 128) for rate in (4, 8, 12, 16)}
        median[name] = [served[rate].tbt_s for rate in (4, 8, 12, 16)]
        if published:
            rows.append(row(name, "saturation, requests/s", "Mixtral, 4096 in, 512 out", published,
                            served[16].request_per_s, 0.10, note))  # fmt: skip
    below = all(one < other for one, other in zip(median[FULL], median["2xGPU"], strict=True))
    rows.append(holds(FULL, "order: median TBT below 2xGPU at every rate", "Mixtral, 4 to 16 requests/s", below, note))
    return rows


def _hetero() -> list[dict[str, Any]]:
    """Two GPUs beside two Logic-PIM devices that hold all experts and KV, against four GPUs."""
    base = machine("GPU", MOE[0])
    both = server("mixtral-8x7b", "duplex", "pim:routing=uniform,bandwidth=timed", tp=2, ep=2, max_token=8_192)
    note = NOTE + "; Logic-PIM devices do the experts of all steps and decode attention, GPUs the rest"
    loops = {length: [closed(one, length, length, 32) for one in (both, base)] for length in (512, 2048)}
    where = "Mixtral, batch 32, 512 and 2048"
    pairs = list(loops.values())
    return [
        holds("2 GPU + 2 Logic-PIM", f"sign: {claim}", where, true, note)
        for claim, true in (
            ("median TBT falls", all(a.tbt_s < b.tbt_s for a, b in pairs)),
            ("p99 TBT rises", all(a.tbt_p99_s > b.tbt_p99_s for a, b in pairs)),
            ("median T2FT rises", all(a.t2ft_s > b.t2ft_s for a, b in pairs)),
        )
    ]


def _split() -> list[dict[str, Any]]:
    """Prefill on two Duplex devices and decode on two others, against four that do both."""
    rule = "co_process:bandwidth=timed"
    whole = machine(FULL, MOE[0])
    half = server("mixtral-8x7b", "duplex", rule, tp=2, max_token=8_192)
    slower, calmer = [], []
    for length in (256, 1024, 4096):
        together = closed(whole, length, length, 128)
        prompt_s = _serve.step_s(half, [length], [])
        decode_s = _serve.step_s(half, [], [length + length // 2] * 128)
        apart = min(1 / prompt_s, 128 / (length * decode_s)) * length
        slower.append(apart < together.token_per_s)
        calmer.append(decode_s < together.tbt_p99_s)
    note = "each half holds all weights; its rate is that of the slower half, hand-over of KV free"
    where = "Mixtral, batch 128, 256 to 4096"
    return [
        holds("Duplex-Split", "sign: throughput falls", where, all(slower), note),
        holds("Duplex-Split", "sign: p99 TBT falls", where, all(calmer), note),
    ]


def _edap() -> list[dict[str, Any]]:
    rows = []
    note = "energy x delay x silicon of a stack for a 16384 x 4096 matrix; the largest of three is 1" + MAC
    names = ("Bank-PIM", "BankGroup-PIM", "Logic-PIM")
    for intensity, published in EDAP.items():
        value = np.array([edap(catalog.device(name), intensity, 16384, 4096) for name in EDAP_DEVICES])
        for name, paper, one in zip(names, published, value / value.max(), strict=True):
            rows.append(row(name, "EDAP", f"{intensity} Op/B", paper, float(one), 0.20, note))
    best = [min(zip(names, published, strict=True), key=lambda pair: pair[1])[0] for published in EDAP.values()]
    found = [
        names[int(np.argmin([edap(catalog.device(name), intensity, 16384, 4096) for name in EDAP_DEVICES]))]
        for intensity in EDAP
    ]
    rows.append(holds("Logic-PIM", "order: least EDAP from 8 Op/B, Bank-PIM below", "1 to 32 Op/B", best == found))
    return rows


def plot(rows: pd.DataFrame) -> "Figure":
    """Decode steps, throughput and savings published beside simulated, and EDAP by Op/B."""
    from studies._duplex_plot import figure

    return figure(rows)
