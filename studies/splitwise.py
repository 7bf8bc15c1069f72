"""What does handing a prompt's KV to another machine cost? (Splitwise, ISCA 2024, section 6.1)"""

from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.cluster.simulate import simulate_pools
from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from sim.show.plot_style import BLUE, ORANGE, new_figure, styled, suptitle
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Splitwise (Patel et al. 2024): layer by layer, a hand-over adds 16.5 % to the second token, 0.8 % to the whole"

# Llama-2-70B at TP 8 on a DGX for each phase; a machine's port (InfiniBand, a direction) and the part of a transfer
# that no layer hides, whatever the prompt (section 6.1: some 8 and 5 ms): both are published, neither is fitted here.
MACHINES = {"dgx_a100": ("vllm_2023_a100", 25e9, 8e-3), "dgx_h100": ("vllm_2023_h100", 50e9, 5e-3)}
PROMPT, OUTPUT = 2048, 28  # mean lengths of the coding trace of 2023-11-11
OPEN = (
    "which of the two machines is not said: both are run and both must agree; coding trace by its mean lengths; one "
    "port of 200 (A100) or 400 Gb/s (H100) a machine"
)
SECOND, WHOLE, SHARE = "second token, more by", "end to end, more by", "transfer in prompt time"

SMALL = {"machines": ("dgx_h100",)}


def run(machines: tuple[str, ...] = tuple(MACHINES), prompt: int = PROMPT, output: int = OUTPUT) -> pd.DataFrame:
    """A row a number: means over the machines, with what each gives as the spread."""
    found: dict[tuple[str, str], list[float]] = {}
    table: list[dict[str, Any]] = []
    for machine in machines:
        engine, byte_per_s, fixed_s = MACHINES[machine]
        scenario = Scenario(
            model="llama-2-70b", system=machine, tp=8, engine=engine,
            requests=f"constant:rate=0.05,n=3,prompt={prompt},output={output}",
        )  # fmt: skip
        alone = simulate(scenario).run.requests
        for rule, latency_s in (("layered", fixed_s), ("whole", 0.0)):
            apart = simulate_pools(scenario, {}, {}, transfer=rule, latency_s=latency_s, link_byte_per_s=byte_per_s)
            seen = apart.requests
            second_s = float(alone["tpot_s"].mean())
            added_s = float((seen["e2e_s"] - seen["ttft_s"]).mean() - (alone["e2e_s"] - alone["ttft_s"]).mean())
            values = {
                SECOND: added_s / second_s,
                WHOLE: float(seen["e2e_s"].mean() / alone["e2e_s"].mean()) - 1,
                SHARE: float(seen["transfer_s"].mean() / seen["ttft_s"].mean()),
            }
            for claim, value in values.items():
                found.setdefault((rule, claim), []).append(value)
                table.append(point("Splitwise", f"{claim}, {rule}", machine, value))
    for rule, claim, paper, tag in (
        ("layered", SECOND, 0.165, "exact"), ("whole", SECOND, 0.64, "exact"), ("layered", WHOLE, 0.008, "exact"),
        ("whole", WHOLE, 0.03, "exact"),
    ):  # fmt: skip
        each = found[rule, claim]
        mean = sum(each) / len(each)
        table.append(row("Splitwise", f"{claim}, {rule}", "coding", paper, mean, OPEN, tag=tag, spread=each))
    table.append(
        order("Splitwise", "layered transfers stay below 7 % of the prompt's time", "coding",
              all(value < 0.07 for value in found["layered", SHARE]))
    )  # fmt: skip
    less = all(a < b for a, b in zip(found["layered", SECOND], found["whole", SECOND], strict=True))
    table.append(order("Splitwise", "layer by layer costs the second token less than all at once", "coding", less))
    return frame(table)


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """What a hand-over adds to the second token and to the whole, a bar a machine, the published number as a line."""
    figure, axes = new_figure(1, 2, (8.0, 3.6))
    for axis, claim in zip(axes, (SECOND, WHOLE), strict=True):
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
    suptitle(figure, "Splitwise: Llama-2-70B, a prompt of 2,048 handed over")
    return figure
