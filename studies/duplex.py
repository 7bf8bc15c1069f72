"""Does logic under the DRAM stack double the throughput of mixture-of-experts serving? (Duplex, MICRO 2024)

The decode steps of its published simulator, its closed loops and its load sweep on the serving engine, its energy,
its baselines (2xGPU, Bank-PIM, GPUs beside Logic-PIM devices, split prefill and decode) and its EDAP.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw_models import catalog
from kernels.errors import InputError
from studies import _serve
from studies._duplex import DENSE, FULL, MOE, TWINS, Grid, decode_step, grid, machine, ratio, step_table
from studies._edap import edap
from studies._serve import closed, server
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Duplex (Yun et al. 2024): 2.07x the throughput of GPUs on average, 2.67x at most, 28 % less energy"
SMALL = {"parts": ("steps", "edap")}
PARTS = ("steps", "grid", "latency", "sweep", "hetero", "split", "edap")
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

GRID = "3 MoE models, 256 to 4096 (GLaM 512 to 2048), batch 32 to 128"
FITTED = (("BankGroup-PIM", 32), *(("Logic-PIM", intensity) for intensity in (1, 2, 4, 8, 32)))
"""EDAP points that BankGroup-PIM's area (the largest up to 8 Op/B) and joules a FLOP (at 32) were fitted on."""
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


def run(
    parts: tuple[str, ...] = PARTS, step_model: str = "", step_batch: int = 32, step_input: int = 2048,
    step_devices: int = 4,
) -> pd.DataFrame:  # fmt: skip
    """Every claim of the `parts` (of PARTS), a row each; with `step_model` one decode step of that model instead, on
    each machine, `step_batch` sequences of `step_input` tokens on `step_devices` devices."""
    if step_model:
        setup = f"batch {step_batch}, {step_input} in, {step_devices} devices"
        table = step_table(step_model, step_batch, step_input, step_devices).set_index("system")
        return frame([point(str(name), str(column), f"{step_model}, {setup}", float(value))
                      for name, values in table.iterrows() for column, value in values.items()])  # fmt: skip
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise InputError("no such part", field="parts", value=unknown[0], allowed=PARTS)
    rows: list[dict[str, Any]] = []
    for part, make in (("steps", _steps), ("grid", _grid), ("latency", _latency), ("sweep", _sweep),
                       ("hetero", _hetero), ("split", _split), ("edap", _edap)):  # fmt: skip
        rows += make() if part in parts else []
    return frame(rows)


def _grid() -> list[dict[str, Any]]:
    loops = grid()
    return [*_throughput(loops), *_energy(loops), *_bank(loops)]


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
            rows.append(row(name, "decode step, ms", label, value, time, note + more.get(name, ""), bound=0.05))
    return rows


def _throughput(loops: Grid) -> list[dict[str, Any]]:
    where = GRID
    gain, plain = ratio(loops, FULL, "GPU"), ratio(loops, "Duplex", "GPU")
    by_model = {setup.model: ratio(loops, FULL, "GPU", models_=(setup.model,)) for setup in MOE}
    mixtral = ratio(loops, "Duplex", "GPU", models_=("mixtral-8x7b",))
    double = np.array(ratio(loops, FULL, "2xGPU"))
    split = float(np.mean(ratio(loops, "Duplex+PE", "Duplex")))
    least = min(by_model, key=lambda name: float(np.mean(by_model[name])))
    return [
        row(FULL, "throughput over GPU, mean", where, 2.07, float(np.mean(gain)), NOTE, null=1.0),
        row(FULL, "throughput over GPU, most", where, 2.67, max(gain), NOTE, null=1.0),
        row("Duplex", "throughput over GPU, most", "Mixtral, the grid", 2.51, max(mixtral), NOTE, null=1.0),
        row("Duplex+PE", "throughput over Duplex, mean", where, 1.04, split, NOTE, null=1.0),
        row(FULL, "throughput over Duplex, most", where, 1.36, max(ratio(loops, FULL, "Duplex")), NOTE + TIE,
            null=1.0),
        order(FULL, "order: above GPU everywhere", where, min(gain) > 1),
        order("Duplex", "order: not below GPU anywhere", where, min(plain) >= 1),
        order(FULL, "order: above Duplex everywhere", where, min(ratio(loops, FULL, "Duplex")) > 1),
        order(FULL, "order: above 2xGPU in most cases", where, bool((double > 1).mean() > 0.5),
              f"{(double > 1).mean():.0%} of the grid"),
        order(FULL, "order: Grok1, on two nodes, gains least", where, least == "grok-1"),
    ]  # fmt: skip


def _energy(loops: Grid) -> list[dict[str, Any]]:
    note = "an ACT of 0.909 nJ a KiB, 3.48 pJ/bit or the units' own, 0.46 pJ a multiply-accumulate; no static power"
    rows, every = [], []
    for setup, published in zip(MOE, (0.3328, 0.4203, 0.3459), strict=True):
        saved = [
            1 - loops[setup.model, FULL, length, batch].token_j / loops[setup.model, "GPU", length, batch].token_j
            for length, batch in dict.fromkeys(key[2:] for key in loops if key[0] == setup.model)
        ]  # fmt: skip
        every += saved
        rows.append(row(FULL, "energy saved, most", setup.model, published, max(saved), note, points=0.04, null=0.0))
    where = GRID
    return [row(FULL, "energy saved, mean", where, 0.2819, float(np.mean(every)), note, points=0.04, null=0.0),
            *rows]  # fmt: skip


def _bank(loops: Grid) -> list[dict[str, Any]]:
    note = NOTE + "; experts by width on both machines, as in the comparison's Duplex"

    def over(name: str, base: str, length: int, batch: int) -> float:
        one, other = (loops["mixtral-8x7b", which, length, batch] for which in (name, base))
        return one.token_per_s / other.token_per_s

    against = ratio(loops, FULL, "Bank-PIM", models_=("mixtral-8x7b",), batches=(32, 64))
    rows = [
        row(name, "throughput over GPU, Mixtral", f"{length}, batch {batch}", published,
            over(name, "GPU", length, batch), note, null=1.0)
        for name, length, batch, published in (
            ("Bank-PIM", 4096, 32, 2.17), ("Bank-PIM", 256, 64, 1.18), (FULL, 256, 64, 2.05),
        )
    ]  # fmt: skip
    where = "Mixtral, batch 32 and 64"
    rows += [
        row(FULL, "throughput over Bank-PIM, mean", where, 1.49, float(np.mean(against)), note, null=1.0),
        row(FULL, "throughput over Bank-PIM, most", where, 1.80, max(against), note, null=1.0),
        order(FULL, "order: above Bank-PIM", where, min(against) > 1),
    ]
    for setup, winner, loser in zip(DENSE, ("Duplex", "Bank-PIM"), ("Bank-PIM", "Duplex"), strict=True):
        batches = (32, 41) if setup.model == "opt-66b" else (32, 64)  # no more than 41 of OPT fit
        loop = grid((setup,), ("Duplex", "Bank-PIM"), (256, 1024, 4096), batches)
        won = ratio(loop, winner, loser)
        where = f"{setup.model}, 256 to 4096, batch {batches[0]} and {batches[1]}"
        rows.append(order(winner, f"order: above {loser}", where, min(won) > 1, f"by {min(won):.3f} to {max(won):.2f}"))
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
        row(name, claim, setup, paper, value, note, points=0.06, null=0.0)
        for name, claim, setup, paper, value, note in rows
    ]
    lower = mean("Duplex", "2xGPU", "tbt_s") > 0
    return [*found, order("Duplex", "order: median TBT below 2xGPU", where, lower)]


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
                            served[16].request_per_s, note))  # fmt: skip
    below = all(one < other for one, other in zip(median[FULL], median["2xGPU"], strict=True))
    rows.append(order(FULL, "order: median TBT below 2xGPU at every rate", "Mixtral, 4 to 16 requests/s", below, note))
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
        order("2 GPU + 2 Logic-PIM", f"sign: {claim}", where, true, note)
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
        order("Duplex-Split", "sign: throughput falls", where, all(slower), note),
        order("Duplex-Split", "sign: p99 TBT falls", where, all(calmer), note),
    ]


def _edap() -> list[dict[str, Any]]:
    rows = []
    note = "energy x delay x silicon of a stack for a 16384 x 4096 matrix; the largest of three is 1" + MAC
    names = ("Bank-PIM", "BankGroup-PIM", "Logic-PIM")
    for intensity, published in EDAP.items():
        value = np.array([edap(catalog.device(name), intensity, 16384, 4096) for name in EDAP_DEVICES])
        for name, paper, one in zip(names, published, value / value.max(), strict=True):
            setup = f"{intensity} Op/B"
            if paper == 1:  # what the others are divided by
                rows.append(point(name, "EDAP", setup, float(one), "published: the largest of the three, 1"))
                continue
            fitted = (name, intensity) in FITTED
            rows.append(row(name, "EDAP", setup, paper, float(one), note, tag="approx",
                            kind="fitted" if fitted else "number"))  # fmt: skip
    best = [min(zip(names, published, strict=True), key=lambda pair: pair[1])[0] for published in EDAP.values()]
    found = [
        names[int(np.argmin([edap(catalog.device(name), intensity, 16384, 4096) for name in EDAP_DEVICES]))]
        for intensity in EDAP
    ]
    rows.append(order("Logic-PIM", "order: least EDAP from 8 Op/B, Bank-PIM below", "1 to 32 Op/B", best == found))
    return rows


def plot(rows: pd.DataFrame) -> "Figure":
    """Decode steps, throughput and savings published beside simulated, and EDAP by Op/B."""
    from studies._duplex_plot import figure

    return figure(rows)
