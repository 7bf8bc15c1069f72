"""What do programs gain that stop when they are certain, and are scheduled as one? (Dynasor, 2024)"""

import functools
from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.cluster.simulate_programs import ProgramRun, simulate_programs
from sim.run.scenario import Scenario
from sim.show.plot_style import BLUE, ORANGE, new_figure, styled, suptitle
from studies._panels import from_zero
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Dynasor (Fu et al. 2024): stopped when certain and scheduled as programs, 1.6 to 3.3x the rate at one deadline"

RATE, IN_TIME, SAVED, MEAN = "programs/s at the deadline", "share in time", "tokens saved", "mean program (s)"
SAMPLES = "self-consistency"
OPEN = (
    "neither machine, samples, lengths nor deadlines are published, when a program is certain is a draw: Qwen2.5-7B on "
    "an A100, 64 sequences a step, deadlines of three and four times a lone program's time; remaining tokens known"
)
SYSTEMS = {  # order of the waiting queue, and whether samples are stopped
    "plain": ("request", 0), "stopping": ("request", 1), "shortest first": ("remaining", 0), "both": ("remaining", 1),
}  # fmt: skip
RATES = (1.4, 1.7, 2.0, 2.4, 2.8, 3.3)  # programs/s: from what all systems carry to what none does
SLACK = (3.0, 4.0)  # deadlines, over a lone program's mean time
CHUNKS = (0, 64, 128, 320)  # tokens between probes, of those that the paper tries, and none

SMALL = {"rates": (1.4, 3.3), "chunks": (0, 320), "answer": 900}


def run(
    num: int = 80, samples: int = 8, rates: tuple[float, ...] = RATES, chunks: tuple[int, ...] = CHUNKS,
    answer: int = 1500,
) -> pd.DataFrame:  # fmt: skip
    """A row an order that the paper states; points for the picture."""
    done = {name: {rate: sampled(num, samples, rate, *how) for rate in rates} for name, how in SYSTEMS.items()}
    lone_s = mean_s(sampled(max(8, num // 8), samples, 0.02, "request", 0))
    peak = {name: [peak_rate(runs, slack * lone_s) for slack in SLACK] for name, runs in done.items()}
    most = max(rates)
    met = {name: in_time(runs[most], SLACK[0] * lone_s) for name, runs in done.items()}
    table: list[dict[str, Any]] = []
    for name in SYSTEMS:
        table.append(point("Dynasor", RATE, name, peak[name][0], OPEN))
        table += [point("Dynasor", IN_TIME, f"{name}; {rate:g}", in_time(one, SLACK[0] * lone_s), OPEN)
                  for rate, one in done[name].items()]  # fmt: skip
    for claim, paper, better in (
        ("rate at the deadline, both over plain", 3.3, "both"),
        ("rate at the deadline, shortest first over plain", 1.9, "shortest first"),
        ("rate at the deadline, stopping over not", 1.2, "stopping"),
    ):
        each = [a / b for a, b in zip(peak[better], peak["plain"], strict=True)]
        table.append(row("Dynasor", claim, SAMPLES, paper, max(each), OPEN, said=True, spread=each))
    for claim, true in (
        ("stopping meets more deadlines", met["stopping"] > met["plain"]),
        ("shortest first meets more deadlines", met["shortest first"] > met["plain"]),
        ("both together meet at least what either does", met["both"] >= max(met["stopping"], met["shortest first"])),
    ):
        table.append(order("Dynasor", claim, f"{SAMPLES}, overload", true))
    means = {name: mean_s(done[name][most]) for name in ("plain", "stopping")}
    table.append(row("Dynasor", "mean time of a program, stopping over not", f"{SAMPLES}, overload", 165 / 410,
                     means["stopping"] / means["plain"], OPEN, said=True))  # fmt: skip
    table.append(order("Dynasor", "stopping alone shortens the mean program", f"{SAMPLES}, overload",
                       means["stopping"] < means["plain"]))  # fmt: skip
    return frame(table + probing(num, chunks, answer) + together(num))


@functools.cache
def sampled(num: int, samples: int, rate: float, queue: str, stops: int) -> ProgramRun:
    """Self-consistency at a rate."""
    return reasoning(f"self_consistency:num={samples},stops={stops}", num, rate, queue, 300)


def reasoning(program: str, num: int, rate: float, queue: str, output: int) -> ProgramRun:
    """A run of programs of one kind on one engine."""
    load = f"poisson:rate={rate:.6g},n={num},prompt=150,output=lognormal:mean={output}:max={8 * output}"
    scenario = Scenario(model="qwen2.5-7b", system="a100_sxm_80gb", requests=load, max_num_seq=64)
    return simulate_programs(scenario, program, order=queue)


def mean_s(done: ProgramRun) -> float:
    """Mean seconds from a program's arrival to its end."""
    return float(done.programs["e2e_s"].mean())


def in_time(done: ProgramRun, deadline_s: float) -> float:
    """Share of programs that end in time."""
    return float((done.programs["e2e_s"] <= deadline_s).mean())


def peak_rate(runs: dict[float, ProgramRun], deadline_s: float) -> float:
    """The rate up to which nine of ten programs end in time, between two rates by a straight line."""
    before, met = min(runs), 1.0
    for rate, one in sorted(runs.items()):
        share = in_time(one, deadline_s)
        if share < 0.9:
            return before + (rate - before) * (met - 0.9) / (met - share) if met > share else before
        before, met = rate, share
    return before


def probing(num: int, chunks: tuple[int, ...], answer: int) -> list[dict[str, Any]]:
    """Chains of thought: what probes at every so many tokens save, and what they cost. All come at once, more than are
    seated: the paper's 289 to 366 s a program are mostly waiting."""
    done = {chunk: reasoning(f"chain_of_thought:chunk={chunk}", num, 40.0, "request", answer) for chunk in chunks}
    whole = float(done[0].programs["token"].sum())
    saved = {chunk: 1 - float(one.programs["token"].sum()) / whole for chunk, one in done.items() if chunk}
    table = [point("Dynasor", SAVED, f"probe every {chunk}", value, OPEN) for chunk, value in saved.items()]
    table += [point("Dynasor", MEAN, f"probe every {chunk}", mean_s(one), OPEN) for chunk, one in done.items()]
    fine, coarse = min(saved), max(saved)
    if fine < coarse:
        for claim, true in (
            ("finer probes save more tokens", saved[fine] > saved[coarse]),
            ("finer probes lengthen the mean program", mean_s(done[fine]) > mean_s(done[coarse])),
        ):
            table.append(order("Dynasor", claim, f"chain of thought, every {fine} over {coarse}", true))
    return table


def together(num: int) -> list[dict[str, Any]]:
    """Chunks of a chain that queue by program against chunks that queue by themselves, more load than can be served."""
    mean = {queue: mean_s(reasoning("chain_of_thought:chunk=64", 3 * num, 40.0, queue, 400))
            for queue in ("request", "program")}  # fmt: skip
    table = [point("Dynasor", MEAN, f"queue by {queue}", value, OPEN) for queue, value in mean.items()]
    table.append(order("Dynasor", "a program's requests as one shorten the mean program", "chain of thought, overload",
                       mean["program"] <= mean["request"]))  # fmt: skip
    return table


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """Programs in time by rate and system; tokens saved and time by probing interval."""
    figure, axes = new_figure(1, 3, (11.4, 3.6))
    part = table[table["claim"] == IN_TIME]
    name, rate = part["setup"].str.split("; ").str[0], part["setup"].str.split("; ").str[1].astype(float)
    for one in dict.fromkeys(name):
        axes[0].plot(rate[name == one], 100 * part["simulated"][name == one], "o-", label=one)
    axes[0].axhline(90, color="grey", lw=0.8)
    axes[0].set(xlabel="programs/s", ylabel="in time (%)", ylim=(0, 102))
    axes[0].legend()
    for axis, claim, color, scale, label in (
        (axes[1], SAVED, ORANGE, 100, "tokens saved (%)"), (axes[2], MEAN, BLUE, 1, MEAN),
    ):  # fmt: skip
        part = table[(table["claim"] == claim) & table["setup"].str.startswith("probe every")]
        every = part["setup"].str.split().str[-1].astype(int)
        keep = every > 0
        axis.plot(every[keep], scale * part["simulated"][keep], "o-", color=color)
        axis.set(xlabel="tokens between probes", ylabel=label)
        from_zero(axis)
    suptitle(figure, "Dynasor: stopping and scheduling programs")
    return figure
