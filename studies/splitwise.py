"""What does handing a prompt's KV to another machine cost, and how many machines does each phase need? (Splitwise)"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.cluster.simulate import simulate_pools
from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from sim.show.plot_style import BLUE, ORANGE, new_figure, styled, suptitle
from studies._provision import FIXED_S, Split, best_split, cheapest, mixed_keeps, most, scenario, split_keeps
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Splitwise (Patel et al. 2024): a hand-over adds 16.5 % to the second token; 70 requests/s take 27 + 3 DGX-H100"

# Llama-2-70B at TP 8 on a DGX for each phase: a machine's port (InfiniBand, a direction), as the prototype used one
MACHINES = {"dgx_a100": 25e9, "dgx_h100": 50e9}
OPEN = (
    "which of the two machines and which statistic of the coding trace are not said: both machines, mean and median of "
    "its requests must agree; lengths lognormal of the published means and medians; one port of 200 (A100) or 400 Gb/s "
    "(H100) a machine; what no layer hides is the published 8 and 5 ms, the last layer among it"
)
WHOLE_MISS = "a port at its nominal rate; tried at 70 % of it, H100's second token is 64 % later, A100's 85 %; "
SIZED = (
    "BLOOM-176B, as the authors' configurations have it, whose measured times are not among ours: times of an "
    "engine fitted on the prompt and token times of Llama-2-70B, its kernels priced for BLOOM; links of 200 GB/s a "
    "machine, all of a device's memory, prompts whole up to 2,048 tokens, the shortest queue of pending tokens and two "
    "minutes of arrivals, as those configurations; pools keep their roles (the mixed pool of the paper lends machines)"
)
FREE = (
    "their simulator reads the time of a decode step of n sequences where its table has a prompt of n tokens, so that "
    "a batch costs what one sequence costs; measured, 64 of them take 1.6 times as long; tried with steps that do not "
    "grow with the batch: 25 + 3 machines, rates at equal power 1.81 (coding) and 2.0 (conversation), at equal cost "
    "1.48 and 0.91; "
)
RATIO = "which trace is not said: both must agree; mixed machines run whole prompts beside decodes; "
SECOND, WHOLE, SHARE = "second token, more by", "end to end, more by", "transfer in prompt time"
COUNT, POWER, RATE = "DGX-H100 at 70 requests/s", "rate at equal power over mixed A100", "requests/s within objectives"
# machines for prompts at which the search for the best split begins: of 70 DGX-A100, in the authors' steps of five, and
# of 86, which cost as much as 40 DGX-H100
ISO, ISO_COST = {"coding": 55, "conversation": 35}, {"coding": 66, "conversation": 41}
CAP_W = 350.0  # of 700
HIGH = 100  # requests a second that nobody here keeps
COST = "rate at equal cost over mixed H100"
SMALL = {"machines": ("dgx_h100",), "traces": ("coding",), "second": 10}


def overheads(machine: str, num: int = 200) -> dict[tuple[str, str], list[float]]:
    """What a hand-over adds to each request of the coding trace, by rule of transfer and claim: mean and median."""
    one = scenario(machine, "coding", 0.02, num)
    load = one.requests.replace("poisson:rate=0.02", "constant:rate=0.01")  # one at a time
    one = Scenario(**{**vars(one), "model": "llama-2-70b", "requests": load})
    alone = simulate(one).run.requests
    many = alone["output_token"] > 1
    found = {}
    for rule in ("layered", "whole"):
        fixed_s = FIXED_S[machine] if rule == "layered" else 0.0
        left_s = 2 * 80 * 8 * 128 * 2 * alone["prompt_token"] / 80 / MACHINES[machine]  # the last layer's
        latency_s = max(0.0, fixed_s - float(left_s.mean()))
        seen = simulate_pools(one, {}, {}, transfer=rule, latency_s=latency_s, link_byte_per_s=MACHINES[machine])
        added_s = (seen.requests["e2e_s"] - alone["e2e_s"])[many]
        for claim, of in ((SECOND, alone["tpot_s"]), (WHOLE, alone["e2e_s"])):
            ratio = added_s / of[many]
            found[rule, claim] = [float(added_s.mean() / of[many].mean()), float(ratio.median())]
        part = seen.requests["transfer_s"] / seen.requests["ttft_s"]
        found[rule, SHARE] = [float(part.mean()), float(part.median())]
    return found


def overhead_rows(machines: tuple[str, ...]) -> list[dict[str, Any]]:
    """A row a number of section 6.1: the mean over machines and statistics, with all of them as the spread."""
    found: dict[tuple[str, str], list[float]] = {}
    table: list[dict[str, Any]] = []
    for machine in machines:
        for (rule, claim), each in overheads(machine).items():
            found.setdefault((rule, claim), []).extend(each)
            table.append(point("Splitwise", f"{claim}, {rule}", machine, sum(each) / 2))
    for rule, claim, paper in (
        ("layered", SECOND, 0.165), ("whole", SECOND, 0.64), ("layered", WHOLE, 0.008), ("whole", WHOLE, 0.03),
    ):  # fmt: skip
        each = found[rule, claim]
        note = (WHOLE_MISS if rule == "whole" else "") + OPEN
        value = max(each) if (rule, claim) == ("whole", WHOLE) else sum(each) / len(each)  # "up to 3 %"
        spread = () if value == max(each) else each
        table.append(row("Splitwise", f"{claim}, {rule}", "coding", paper, value, note, spread=spread))
    short = max(found["layered", SHARE]) < 0.07
    less = all(a < b for a, b in zip(found["layered", SECOND], found["whole", SECOND], strict=True))
    table.append(order("Splitwise", "layered transfers stay below 7 % of the prompt's time", "coding", short))
    table.append(order("Splitwise", "layer by layer costs the second token less than all at once", "coding", less))
    return table


def _mixed(machine: str, num: int, trace: str, second: int, rate: int) -> bool:
    return mixed_keeps(machine, num, trace, rate, second)


def _split_of(num: int, trace: str, second: int) -> Callable[[int, int], bool]:
    """Whether so many of `num` DGX-A100 for prompts, and the others for decodes, keep a rate."""
    return lambda prompts, rate: split_keeps(
        Split("dgx_a100", prompts, "dgx_a100", num - prompts), trace, rate, second
    )  # fmt: skip


def size_rows(traces: tuple[str, ...], second: int) -> list[dict[str, Any]]:
    """Machines at 70 requests a second, and rates of 70 DGX-A100 split and mixed."""
    table: list[dict[str, Any]] = []
    best = cheapest("dgx_h100", "coding", 70, range(2, 8), second)
    assert best is not None
    counts = (("prompts", 27, best.num_prompt), ("decodes", 3, best.num_token), ("both", 30, best[1] + best[3]))
    for phase, paper, num in counts:
        table.append(row("Splitwise-HH", f"{COUNT}, for {phase}", "coding, cheapest", paper, num, FREE + SIZED))
    claim = "order: machines for decodes keep the load at half of their boards' power"
    table.append(order("Splitwise-HHcap", claim, "coding, cheapest", split_keeps(best, "coding", 70, second, CAP_W)))
    ratio, dollar = [], []
    for trace in traces:
        h100 = most(functools.partial(_mixed, "dgx_h100", 40, trace, second), 5, HIGH)
        many = max(best_split(_split_of(86, trace, second), ISO_COST[trace], 5, 86, HIGH).values())
        dollar.append(many / h100)
        mixed = most(functools.partial(_mixed, "dgx_a100", 70, trace, second), 5, HIGH)
        table.append(point("mixed A100", RATE, trace, mixed))
        rates = best_split(_split_of(70, trace, second), ISO[trace], 5, 70, HIGH)
        table += [
            point("Splitwise-AA", RATE, f"{trace}, {num} + {70 - num}", rate) for num, rate in sorted(rates.items())
        ]
        ratio.append(max(rates.values()) / mixed)
        if trace == "coding":
            claim = "order: 55 machines for prompts and 15 for decodes are the best split"
            best_is = max(rates, key=lambda one: rates[one])
            table.append(
                order("Splitwise-AA", claim, "coding, 70 DGX-A100, steps of five", best_is == 55, FREE + SIZED)
            )
        table.append(order("Splitwise-AA", "order: pools beat mixed machines", f"{trace}, 70 DGX-A100", ratio[-1] > 1))
    note = RATIO + FREE + SIZED
    table += [
        row("Splitwise-AA", POWER, "70 DGX-A100", 2.15, ratio[0], note, null=1.0, spread=ratio),
        row("Splitwise-AA", COST, "86 DGX-A100, 40 DGX-H100", 1.4, dollar[0], note, null=1.0, spread=dollar),
    ]
    return table


def run(
    machines: tuple[str, ...] = tuple(MACHINES), traces: tuple[str, ...] = tuple(ISO), second: int = 120
) -> pd.DataFrame:
    """What a hand-over costs, and how many machines a load needs (`second` seconds of arrivals)."""
    return frame(overhead_rows(machines) + size_rows(traces, second))


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """What a hand-over adds to the second token and to the whole, a bar a machine, the published number as a line."""
    figure, axes = new_figure(1, 3, (12.0, 3.6))
    for axis, claim in zip(axes[:2], (SECOND, WHOLE), strict=True):
        part = table[table["claim"].str.startswith(claim)]
        points, said = part[part["paper"].isna()], part[part["paper"].notna()]
        rules = [text.rsplit(", ", 1)[1] for text in said["claim"]]
        for i, rule in enumerate(rules):
            own = points[points["claim"].str.endswith(rule)]
            for j, (machine, value) in enumerate(zip(own["setup"], own["simulated"], strict=True)):
                label = machine if i == 0 else None
                axis.bar(i + 0.36 * j - 0.18, 100 * value, 0.32, color=(BLUE, "#8fb4e3")[j % 2], label=label)
            paper = 100 * float(said["paper"].iloc[i])
            axis.plot([i - 0.4, i + 0.4], [paper, paper], color=ORANGE, lw=2, label="published" if i == 0 else None)
        axis.set_xticks(range(len(rules)), rules)
        axis.set(ylabel=f"{claim} (%)", ylim=(0, None))
    axes[0].legend(loc="upper left")
    sized = table[table["claim"].str.startswith(COUNT)]
    place = range(len(sized))
    axes[2].bar([i - 0.18 for i in place], sized["simulated"], 0.32, color=BLUE, label="simulated")
    axes[2].bar([i + 0.18 for i in place], sized["paper"], 0.32, color="none", edgecolor=ORANGE, label="published")
    axes[2].set_xticks(place, [claim.rsplit(" ", 1)[1] for claim in sized["claim"]])
    axes[2].set(ylabel=COUNT)
    axes[2].legend(loc="upper left")
    suptitle(figure, "Splitwise: Llama-2-70B's prompts handed over; machines for BLOOM-176B, coding")
    return figure
