"""What does a draft of the draft add? (Spector & Re, staged speculative decoding, 2023)"""

from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.serving.step_price import HostTime
from sim.show.plot_style import BLUE, ORANGE, new_figure, styled, suptitle
from studies._gpt import gpt
from studies._speculate import Decoded, decode
from studies._verdict import frame, order, row
from workloads.models.tensors import num_param

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Staged speculation (Spector & Re 2023): GPT-2-L 762M, batch 1, an RTX 4090: 150 tokens/s to 475, 3.16x"

MODEL = gpt("gpt2-large", 1280, 36, 20, vocab=50257, position_row=1024)
# shapes of about 40 million parameters: the paper gives the sum alone
DRAFTS = {2: (576, 9), 4: (512, 8), 6: (448, 7)}
PROMPT, OUTPUT = 128, 256  # HumanEval's prompts in the mean, and room for its answers
STAGES = ("one stage", "staged")
# tokens/s and weight traffic over plain decoding's, by sampling
PAPER = {"greedy": (150.0, (350.0, 475.0), (0.31, 0.23)), "top-k 50": (150.0, (219.0, 298.0), (0.48, 0.35))}
DEPTH, INNER, SECOND = 6, 4, 0.6  # of the spine; what the n-gram table proposes to the draft model, and how much holds
OPEN = (
    "acceptance is fitted on the published weight traffic; depth of the draft (6), n-gram proposals (4, 0.6 hold), the "
    "draft's shape (2, 4 or 6 layers) are open; the host's time a layer is fitted on 150 tokens/s"
)

SMALL: dict[str, Any] = {"layers": (4,), "sampling": ("greedy",), "output": 96}


def traffic(found: Decoded, draft_share: float) -> float:
    """Weights read a token, over those of plain decoding: the model's rounds and the draft's passes."""
    return found.rounds + found.passes * draft_share


def run(
    layers: tuple[int, ...] = tuple(DRAFTS), sampling: tuple[str, ...] = tuple(PAPER), output: int = OUTPUT,
    system: str = "rtx_4090",
) -> pd.DataFrame:  # fmt: skip
    """A row a number: traffic (fitted), then the speed that follows from it, with the range over draft shapes."""
    plain_s = 1 / PAPER["greedy"][0]
    free_s = decode(MODEL, system, "fp16", 1, PROMPT, output, fidelity="sol").token_s
    host = HostTime(layer_s=(plain_s - free_s) / len(MODEL.layer))
    table: list[dict[str, Any]] = []

    def one(num_layer: int, progress: str) -> tuple[Decoded, float]:
        hidden, num_head = DRAFTS[num_layer]
        draft = gpt(f"draft-{num_layer}", hidden, num_layer, num_head, vocab=50257, position_row=1024)
        found = decode(MODEL, system, "fp16", 1, PROMPT, output, progress=progress, draft=draft, host=host,
                       fidelity="sol")  # fmt: skip
        return found, traffic(found, num_param(draft) / num_param(MODEL))

    plain = decode(MODEL, system, "fp16", 1, PROMPT, output, host=host, fidelity="sol")
    table.append(row("staged", "tokens/s, plain", "batch 1", 150.0, plain.token_per_s, OPEN, kind="fitted"))
    for name in sampling:
        base, speeds, shares = PAPER[name]
        gains: dict[str, list[float]] = {stage: [] for stage in STAGES}
        reads: dict[str, list[float]] = {stage: [] for stage in STAGES}
        for num_layer in layers:
            for stage, share in zip(STAGES, shares, strict=True):
                form = "inner=0" if stage == STAGES[0] else f"inner={INNER},inner_accept={SECOND},width=2,side={{side}}"
                found, read = _fit(num_layer, form, share, one)
                gains[stage].append(plain.token_s / found.token_s)
                reads[stage].append(read)
        for stage, speed, share in zip(STAGES, speeds, shares, strict=True):
            mean = sum(gains[stage]) / len(layers)
            table.append(row("staged", f"weight traffic, {stage}", name, share, sum(reads[stage]) / len(layers), OPEN,
                             tag="approx", kind="fitted"))  # fmt: skip
            table.append(row("staged", f"speed-up, {stage}", name, speed / base, mean, OPEN, tag="approx", null=1.0,
                             spread=gains[stage]))  # fmt: skip
        more = all(a < b for a, b in zip(gains[STAGES[0]], gains[STAGES[1]], strict=True))
        table.append(order("staged", "two stages beat one", name, more))
    return frame(table)


def _fit(num_layer: int, form: str, share: float, one: Any) -> tuple[Decoded, float]:
    """The acceptance whose weight traffic is nearest to the published one, by halving."""
    low, high = 0.0, 1.0
    for _ in range(9):
        accept = (low + high) / 2
        found, read = one(num_layer, f"staged:depth={DEPTH},accept={accept:.6f}," + form.format(side=0.5))
        low, high = (accept, high) if read > share else (low, accept)
    return found, read


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """Speed-ups by sampling and stage beside the published ones."""
    figure, axis = new_figure(1, 1, (6.0, 3.8))
    part = table[table["claim"].str.startswith("speed-up")].reset_index(drop=True)
    labels = part["setup"] + "\n" + part["claim"].str.removeprefix("speed-up, ")
    axis.bar(part.index, part["simulated"], 0.6, color=BLUE, label="simulated")
    axis.plot(part.index, part["paper"], "o", color=ORANGE, mfc="white", label="measured")
    axis.set_xticks(part.index, labels)
    axis.set(ylabel="speed-up over plain decoding", ylim=(0, None))
    axis.legend()
    suptitle(figure, "Staged speculation: GPT-2-L at batch 1 on an RTX 4090")
    return figure
