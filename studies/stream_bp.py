"""StreamBP: how long a sequence 80 GB train, with logits and layers done in parts of the sequence."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw_models import catalog
from sim.show.plot_style import BLUE, GREEN, ORANGE, PURPLE, RED, new_figure, styled, suptitle
from studies._max_length import Library, max_length, plan_byte
from studies._verdict import frame, point, row
from workloads import models
from workloads.models.tensors import num_param
from workloads.training import TrainPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "StreamBP (Luo et al. 2025): sequences 2.8 to 5.5 times longer than with gradient checkpointing, on one GPU"
SMALL: dict[str, Any] = {}
SYSTEM = "a100_sxm_80gb"  # an A800-80GB is an A100 with fewer links, and one GPU uses none
# one process on the GPU before it allocates, as nvidia-smi shows it for an idle one on an A100: 0.4 to 0.5 GB
CONTEXT_BYTE = 5e8
# bytes a logit at the peak, in the backward pass. Cross entropy in fp32: log-probabilities, their gradient, the logits'
# gradient; the logits themselves too where the caller holds the model's output (the authors' script of the backward
# pass does, the trainer does not). Log-probabilities in bf16 row by row: those that are left and the gradients that are
# there (2 between them), one more of the logits as rows are put together, and a row's own two
ROWS = {"DPO": 2, "GRPO": 8}  # sequences at once: chosen and rejected; the batch of the authors' script
LOGIT_BYTE = {"backward": 2 + 4 + 4 + 4, "SFT": 4 + 4 + 4} | {
    name: 2 + 2 + 2 * 2 / count for name, count in ROWS.items()
}
PROMPT = {"GRPO": 1000}  # tokens without logits: the authors' script
# the authors' collators pad (answers end early, chosen and rejected differ): for a batch with a padded token
# transformers' scaled-product attention writes a mask out, 2 B a pair of tokens, and keeps it to the end of the step.
# StreamBP's model drops the padding first, but its trainers of preferences and of rewards call the model inside it
MASK_BYTE = 2.0
# the script of DPO decodes tokens drawn at random to text, which its trainer encodes again: 20,000 of Qwen's 151,643
# became 1.053 times as many (6 draws, 1.051 to 1.054; the vocabulary as in the package dashscope, the model's pattern)
STRETCH = {"DPO": 1.053}
LOGIT_TOKEN, LAYER_CHUNK = 100, 3  # the authors' README: 100 tokens of logits at a time, a third of a layer's sequence
LORA_RANK = 32  # the authors' script: every linear map
# adapters and their gradients in fp32 (4 B each, of which the plan's weights count 2), Adam's states in fp32;
# everything trained: bf16 weights and gradients, states in 8 bits (fp32 states of 8B alone are 66 GB)
FULL, LORA = (2.0, 2.0), (4.0, 10.0)  # bytes a value of gradients, and of states
# a gated part one operator at a time, whose gate is kept; what norms copy in fp32 is not counted
EAGER = tuple((f"wide copies of the {which} norm", "skip", 1.0) for which in ("first", "second"))
CHECKPOINT, STREAM = "checkpointing", "StreamBP"
LONGEST, MEMORY = "longest sequence, thousands", "memory of the backward pass, GiB"
# thousands of tokens: checkpointing, StreamBP (figure of the backward pass alone; table 3)
BACKWARD = {"qwen3-8b": (20, 110), "qwen3-14b": (9, 40), "qwen3-32b": (5.7, 16)}
TABLE = (
    ("SFT", "qwen3-4b", False, 28.5, 200), ("SFT", "qwen3-4b", True, 36.5, 247), ("SFT", "qwen3-8b", False, 15.7, 72),
    ("SFT", "qwen3-8b", True, 30.6, 142.4), ("SFT", "qwen3-14b", True, 23, 84.6), ("SFT", "qwen3-32b", True, 5.9, 16.3),
    ("GRPO", "qwen3-4b", False, 8.5, 18.2), ("GRPO", "qwen3-4b", True, 12.1, 27.5),
    ("GRPO", "qwen3-8b", True, 9.5, 16.5), ("GRPO", "qwen3-14b", True, 6.9, 10.1),
    ("DPO", "qwen3-4b", False, 18.7, 57.2), ("DPO", "qwen3-4b", True, 32.2, 100.2),
    ("DPO", "qwen3-8b", True, 25.5, 60.9), ("DPO", "qwen3-14b", True, 18.5, 36.9), ("DPO", "qwen3-32b", True, 4.4, 7.8),
)  # fmt: skip
SEQUENCE = {"SFT": 1} | ROWS
MASKED = (
    "a padded batch's mask is written out, as transformers does; that of StreamBP's parts of a layer is not counted"
)
NOTE = {
    "backward": f"weights and gradients, no states; {MASKED}; what a framework copies besides (norms in fp32) neither",
    "SFT": f"states in 8 bits where all is trained (unstated; neither 16 nor 32 leave 8B its length); {MASKED}",
    "DPO": f"chosen and rejected at once, 1.053 times as long as stated (retokenized); {MASKED}; full training keeps 8 "
    "bits as in SFT, though with the script's own states, 16 bits, 4B's checkpointing ends at 18.5; 4B's 100.2 with "
    "adapters leaves no room for the mask (8 GB of weights, 39 of checkpoints, 45), so that run had none",
    "GRPO": f"the script's eight sequences at once, prompts of 1,000 tokens without logits; {MASKED}",
}


def library(model: str, method: str, logit_token: int, objective: str = "backward") -> Library:
    """The library's bytes a logit for an objective, the context of a process, what a method's attention and masks
    hold, and how the authors' script stretches its sequences."""
    masked = method != STREAM or objective in ROWS
    return Library(
        LOGIT_BYTE[objective], CONTEXT_BYTE, logit_token, PROMPT.get(objective, 0), expanded_byte(model, method),
        MASK_BYTE * masked, STRETCH.get(objective, 1.0),
    )  # fmt: skip


def plans(lora: bool, num_sequence: int = 1, *, states: bool = True) -> dict[str, tuple[TrainPlan, int]]:
    """(plan, tokens of logits at a time) of each method; without `states` the backward pass alone."""
    grad_byte, optimizer_byte = LORA if lora else FULL
    if not states:
        optimizer_byte = 2.0 if lora else 0.0
    plan = TrainPlan(micro_batch=num_sequence, batch=num_sequence, recompute="full", policy=EAGER,
                     grad_byte=grad_byte, optimizer_byte=optimizer_byte, lora_rank=LORA_RANK * lora)  # fmt: skip
    return {
        "no checkpointing": (replace(plan, recompute="none"), 0),
        CHECKPOINT: (plan, 0),
        STREAM: (replace(plan, backward_chunk=LAYER_CHUNK), LOGIT_TOKEN),
    }


def expanded_byte(model: str, method: str) -> float:
    """Bytes a token that StreamBP's attention holds besides: keys and values of the whole sequence up to the chunk,
    repeated for every head of queries, and their gradients. (Checkpointing's peak is at its logits, before them.)"""
    if method != STREAM:
        return 0.0
    attention = models.load(model).block[0].attention
    return 2 * 2 * 2.0 * attention.num_head * attention.head_dim


def available_byte(model: str, objective: str, lora: bool) -> float:
    """Memory of the GPU, less a frozen reference model in bf16 where an objective needs one and there are no adapters
    to switch off."""
    device = catalog.device(SYSTEM)
    byte = device.mem_byte - device.mem_reserved_byte
    return byte if lora or objective not in ("DPO", "GRPO") else byte - 2 * num_param(models.load(model))


def run(objectives: tuple[str, ...] = ("backward", "SFT", "DPO", "GRPO")) -> pd.DataFrame:
    """Longest sequences in thousands of tokens, and their ratios, for `objectives`."""
    rows: list[dict[str, Any]] = []
    cases = [("backward", model, model == "qwen3-32b", *paper) for model, paper in BACKWARD.items()]
    for objective, model, lora, *paper in [*cases, *TABLE]:
        if objective not in objectives:
            continue
        alone = objective == "backward"
        tag = "approx" if alone else "exact"  # read off a figure, or printed in a table
        setup = f"{objective}, {model}, {'LoRA' if lora else 'full'}"
        note = NOTE[objective]
        choice = plans(lora, 1 if alone else SEQUENCE[objective], states=not alone)
        found = []
        for name, published in zip((CHECKPOINT, STREAM), paper, strict=True):
            plan, token = choice[name]
            room = available_byte(model, objective, lora)
            longest = max_length(model, SYSTEM, plan, library(model, name, token, objective), mem_byte=room)
            found.append(longest / 1e3)
            rows.append(row(name, LONGEST, setup, published, found[-1], note, tag=tag))
        if alone:  # the headline; the table's ratios are its lengths' own
            rows.append(row(STREAM, "longer, ratio", setup, round(paper[1] / paper[0], 2), found[1] / found[0], note,
                            tag=tag, null=1.0))  # fmt: skip
            rows += memory_rows(model, choice, 1.15 * paper[1])
    return frame(rows)


def memory_rows(model: str, choice: dict[str, tuple[TrainPlan, int]], most: float) -> list[dict[str, Any]]:
    """GiB of a backward pass at eight lengths up to `most` thousand tokens, as far as 84 GiB, of every method."""
    spec, rows = models.load(model), []
    for name, (plan, token) in choice.items():
        for length in np.geomspace(most / 40, most, 12):
            byte = plan_byte(spec, replace(plan, seq=int(1000 * length)), library(model, name, token))
            if byte < 84 * 2**30:
                rows.append(point(name, MEMORY, f"{model}; {length:.4g}", byte / 2**30))
    return rows


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """Memory over the length of the sequence for three models, and the longest sequences below."""
    from matplotlib.gridspec import GridSpec

    figure, _ = new_figure(1, 1, (10, 7))
    figure.clear()
    grid = GridSpec(2, 3, figure, height_ratios=(1, 1.15))
    curves = table[table["claim"] == MEMORY]
    names = curves["setup"].str.split("; ").str[0]
    for at, model in enumerate(dict.fromkeys(names)):
        axis, own = figure.add_subplot(grid[0, at]), curves[names == model]
        for colour, method in zip((ORANGE, BLUE, GREEN), dict.fromkeys(own["system"]), strict=False):
            part = own[own["system"] == method]
            axis.plot(part["setup"].str.split("; ").str[1].astype(float), part["simulated"], color=colour, label=method)
        axis.axhline(80, color=RED, ls="--", lw=1)
        published = table[(table["claim"] == LONGEST) & table["setup"].str.startswith(f"backward, {model},")]["paper"]
        axis.plot(published, [80] * len(published), "v", color="black", ms=6, label="published longest")
        axis.set(title=str(model), xlabel="thousand tokens")
        axis.set_ylabel("GiB" if at == 0 else "")
        axis.set_ylim(0, 90)
    if figure.axes:
        figure.axes[0].legend(loc="lower right", fontsize=7)
    axis = figure.add_subplot(grid[1, :])
    part = table[(table["claim"] == LONGEST) & ~table["setup"].str.startswith("backward")]
    setups = [str(text) for text in dict.fromkeys(part["setup"])]
    axis.set_visible(bool(setups))
    series = [(name, kind) for name in (CHECKPOINT, STREAM) for kind in ("paper", "simulated")]
    for at, ((name, kind), colour) in enumerate(zip(series, (PURPLE, BLUE, ORANGE, GREEN), strict=True)):
        chosen = part[part["system"] == name].set_index("setup")[kind]
        axis.bar(np.arange(len(setups)) + 0.2 * (at - 1.5), chosen.loc[setups], 0.2, color=colour,
                 label=f"{name}, {'published' if kind == 'paper' else kind}")  # fmt: skip
    axis.set(yscale="log", ylabel="longest sequence, thousand tokens")
    axis.set_xticks(range(len(setups)), [text.replace("qwen3-", "").replace(", ", "\n") for text in setups], fontsize=7)
    axis.legend(ncols=2, fontsize=7)
    suptitle(figure, "StreamBP: memory of a backward pass, and the longest sequence in 80 GB")
    return figure
