"""What does a draft of the draft add? (Spector & Re, staged speculative decoding, 2023)"""

from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.serving.step_price import HostTime
from sim.show.plot_style import BLUE, ORANGE, new_figure, styled, suptitle
from studies._gpt import gpt
from studies._speculate import decode, spine_pass, tree_token
from studies._verdict import frame, order, row
from workloads.models.tensors import num_param

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Staged speculation (Spector & Re 2023): GPT-2-L 762M, batch 1, an RTX 4090: 150 tokens/s to 475, 3.16x"

MODEL = gpt("gpt2-large", 1280, 36, 20, vocab=50257, position_row=1024)
# shapes of about 40 million parameters: the paper gives the sum alone
DRAFTS = {2: (576, 9), 4: (512, 8), 6: (448, 7)}
PROMPT, OUTPUT, NUM_PROMPT = 128, 256, 164  # HumanEval: a prompt, room for its answer
STAGES = ("one stage", "staged")
# tokens/s and weight traffic over plain decoding's, by sampling
PAPER = {"greedy": (150.0, (350.0, 475.0), (0.31, 0.23)), "top-k 50": (150.0, (219.0, 298.0), (0.48, 0.35))}
DEPTH = 6  # of the spine
INNER, SECOND, SIDE = 4, 0.6, 0.5  # staged: n-gram proposals to the draft model, how much holds; a second candidate
OPEN = (
    "acceptance is fitted on the published weight traffic; depth (6), n-gram proposals (4, 0.6 hold), another one "
    "(0.5 right where the first is not) and the draft's shape (2, 4 or 6 layers) are open; the host's time a layer is "
    "fitted on 150 tokens/s, and what it does once a round (the paper has 35 % of staged time in Python) on the first "
    "speed of one stage, for each shape"
)

SMALL: dict[str, Any] = {"layers": (4,), "sampling": ("greedy",), "prompts": 6}


def fitted(stage: str, share: float, draft_share: float) -> str:
    """Options of the progress model whose mean weight traffic a token (a round of the model and the passes of its
    draft, over the tokens that they commit) is `share` of plain decoding's."""
    inner, side = (0, 0.0) if stage == STAGES[0] else (INNER, SIDE)
    read = 1 + draft_share * spine_pass(DEPTH, inner, SECOND)
    low, high = 0.0, 1.0
    for _ in range(40):
        accept = (low + high) / 2
        low, high = (accept, high) if read / tree_token(DEPTH, accept, side) > share else (low, accept)
    tree = f"depth={DEPTH},width={1 if stage == STAGES[0] else 2},accept={accept:.6f},side={side}"
    return f"staged:{tree},inner={inner},inner_accept={SECOND}"


def run(
    layers: tuple[int, ...] = tuple(DRAFTS), sampling: tuple[str, ...] = tuple(PAPER), prompts: int = NUM_PROMPT,
    system: str = "rtx_4090",
) -> pd.DataFrame:  # fmt: skip
    """A row a number: traffic (fitted), then the speed that follows from it, with the range over draft shapes."""
    base = PAPER["greedy"][0]
    free_s = decode(MODEL, system, "fp16", 1, PROMPT, OUTPUT, fidelity="sol").token_s
    host = HostTime(layer_s=(1 / base - free_s) / len(MODEL.layer))
    plain = decode(MODEL, system, "fp16", 1, PROMPT, OUTPUT, host=host, fidelity="sol")
    table = [row("staged", "tokens/s, plain", "batch 1", base, plain.token_per_s, OPEN, kind="fitted")]
    once_s: dict[int, float] = {}  # of the host a round, by the draft's layers
    for name in sampling:
        base, speeds, shares = PAPER[name]
        gain: dict[str, list[float]] = {stage: [] for stage in STAGES}
        for stage, speed, share in zip(STAGES, speeds, shares, strict=True):
            reads = []
            for num_layer in layers:
                hidden, num_head = DRAFTS[num_layer]
                draft = gpt(f"draft-{num_layer}", hidden, num_layer, num_head, vocab=50257, position_row=1024)
                part = num_param(draft) / num_param(MODEL)
                model = fitted(stage, share, part)
                found = decode(MODEL, system, "fp16", 1, PROMPT, OUTPUT, rounds=prompts, progress=model, draft=draft,
                               host=host, fidelity="sol")  # fmt: skip
                if num_layer not in once_s:
                    once_s[num_layer] = max(0.0, (base / speed * plain.token_s - found.token_s) / found.rounds)
                gain[stage].append(plain.token_s / (found.token_s + once_s[num_layer] * found.rounds))
                reads.append(found.rounds + found.passes * part)
            mean = sum(gain[stage]) / len(layers)
            table.append(row("staged", f"weight traffic, {stage}", name, share, sum(reads) / len(reads), OPEN,
                             tag="approx", kind="fitted"))  # fmt: skip
            ms = ", ".join(f"{1e3 * once_s[num_layer]:.1f}" for num_layer in layers)
            kind = "fitted" if (name, stage) == (sampling[0], STAGES[0]) else "number"
            table.append(row("staged", f"speed-up, {stage}", name, speed / base, mean, f"{ms} ms a round; {OPEN}",
                             tag="approx", null=1.0, spread=gain[stage], kind=kind))  # fmt: skip
        more = all(a < b for a, b in zip(*gain.values(), strict=True))
        table.append(order("staged", "two stages beat one", name, more))
    return frame(table)


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
