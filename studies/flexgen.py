"""What can one small GPU do with a model ten times its memory? (FlexGen, ICML 2023, tables 2 and 3)"""

import dataclasses
from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.offload.policy import BlockPolicy
from sim.offload.simulate import Offload, prepare
from sim.show.plot_style import BLUE, ORANGE, new_figure, styled, suptitle
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "FlexGen (Sheng et al. 2023): OPT-6.7B, 30B and 175B on one T4 at 25.3, 7.32 and 0.69 tokens/s, prompts of 512"

PROMPT, OUTPUT = 512, 32
STACK = "flexgen"
DEVICE, HOST, DISK = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
# Policies: the authors' command lines (benchmark/flexgen/bench_suite.py, seq_len = 512). Of OPT-30B's 20 % of weights
# on the device their loader, which places whole matrices, leaves a quarter of attention: a twelfth. Where tensors lie
# off the device they time the prompts and the first step after them, and count that step for all (fewer_batch).
ON_HOST = BlockPolicy(weight=HOST, cache=HOST, hidden=HOST, schedule="step", pack_cache=True)
MODELS = ("opt-6.7b", "opt-30b", "opt-175b")
PLAIN = {
    "opt-6.7b": (25.26, BlockPolicy(batch=2, schedule="serial")),
    "opt-30b": (7.32, BlockPolicy(batch=48, num_batch=3, weight=(1 / 12, 11 / 12, 0.0), cache=HOST, hidden=HOST,
                                  host_attention=True, schedule="step")),
    "opt-175b": (0.69, BlockPolicy(batch=32, num_batch=8, weight=(0.0, 0.5, 0.5), cache=DISK, hidden=HOST,
                                   host_attention=True, schedule="step")),
}  # fmt: skip
PACKED = {
    "opt-6.7b": (29.12, BlockPolicy(batch=72, schedule="serial", pack_weight=True, pack_cache=True)),
    "opt-30b": (8.38, dataclasses.replace(ON_HOST, batch=64, num_batch=8)),
    "opt-175b": (1.12, dataclasses.replace(ON_HOST, batch=48, num_batch=3, pack_weight=True)),
}
# What streams weights past one batch, cache on the device: batches as the authors tuned them (batch_size_table.md).
BASELINE = {
    ("Accelerate", "opt-6.7b"): (25.12, 2, DEVICE), ("Accelerate", "opt-30b"): (0.62, 8, HOST),
    ("DeepSpeed", "opt-6.7b"): (9.28, 16, HOST), ("DeepSpeed", "opt-30b"): (0.60, 4, HOST),
}  # fmt: skip
OWN = "kernels: T4 by its datasheet, an A100's fit, one measured product and one measured copy; nothing fitted here"
THEIRS = (
    "rates of links, disk and unfused attention: the authors' own, of which most were fitted by them on runs of this "
    "machine"
)
NEEDS = (
    "the paper's 2 GB/s of disk; the published rate reads {0:.1f} TB in the {1:.0f} s that prompts leave, {2:.2f} "
    "GB/s; four local disks of 375 GB are sold with 2.65, and a page cache may add to them"
)
UNPACKED = (
    "passes of the released unpacking code at a T4's measured rate of copies; how fast its strided kernels run is not "
    "published; tried: sectors that are written in part are read before (ECC), 33.8 tokens/s of OPT-6.7B"
)
RELAYED = (
    "packed keys and values (and weights of OPT-175B) are not page-locked: the released code copies them once more on "
    "the host before it launches a kernel, 101 and 196 GB a step of OPT-30B and 175B, of which the published rates "
    "would make 10 and 6 GB/s; no rate of such copies is published"
)
RATE, FOUND, BOUND = (
    "tokens/s",
    "the programme's policy is no slower than the published one",
    "datasheets alone bound it",
)

SMALL = {"models": ("opt-6.7b",)}


def run(models: tuple[str, ...] = MODELS, system: str = "n1_t4") -> pd.DataFrame:
    """A row a number: the published policies replayed, then what the linear programme finds in the same cost model."""
    table: list[dict[str, Any]] = []
    for model in models:
        theirs, own = (prepare(model, system, PROMPT, OUTPUT, stack=stack) for stack in (STACK, "sol"))
        for label, (paper, policy) in (("16 bit", PLAIN[model]), ("4 bit", PACKED[model])):
            setup = f"{model}, {label}"
            notes = [UNPACKED] if label == "4 bit" else []
            notes += [disk_note(theirs, policy, paper)] if policy.cache[2] else []
            notes += [RELAYED] if policy.pack_cache and policy.cache != DEVICE else []
            table.append(row("FlexGen", RATE, setup, paper, timed(theirs, policy), "; ".join([*notes, THEIRS]),
                             bound=0.10, kind="fitted"))  # fmt: skip
            table.append(order("FlexGen", BOUND, setup, timed(own, policy) * 1.05 >= paper))
            table += programme(theirs, policy, setup)
    for (name, model), (paper, batch, weight) in BASELINE.items():
        if model in models:
            run_of = prepare(model, system, PROMPT, OUTPUT)
            done = run_of.replay(BlockPolicy(batch=batch, weight=weight))
            note = "how fast it copies is not published: links at their datasheet's rate" if weight == HOST else OWN
            table.append(row(name, RATE, model, paper, done.token_per_s, note, said=weight == HOST))
    if "opt-175b" in models:
        table += slower_disk(prepare("opt-175b", system, PROMPT, OUTPUT, stack=STACK))
    return frame(table)


def timed(run_of: Offload, policy: BlockPolicy) -> float:
    """Tokens a second as the authors' script counts them."""
    done = run_of.replay(policy)
    if policy.cache == DEVICE:
        return done.token_per_s
    return policy.block * OUTPUT / done.projected_s(OUTPUT)


def disk_note(run_of: Offload, policy: BlockPolicy, paper: float) -> str:
    """What the published rate asks of the disk, at the least."""
    said = run_of.predict(policy)
    left_s = policy.block * OUTPUT / paper - said.prefill_s
    byte = said.busy_s[2] * run_of.tier.read_byte_per_s
    return NEEDS.format(byte / 1e12, left_s, byte / left_s / 1e9)


def programme(run_of: Offload, policy: BlockPolicy, setup: str) -> list[dict[str, Any]]:
    """The search from the published sizes: what it finds is no slower, and is what its replay gives."""
    batches = sorted({policy.batch, max(1, policy.batch // 2), 2 * policy.batch})
    blocks = sorted({policy.num_batch, 1, 2 * policy.num_batch})
    start = dataclasses.replace(policy, schedule="step")
    best = run_of.search(start, batches=batches, num_batches=blocks)
    said, done = run_of.predict(best), run_of.replay(best)
    no_slower = said.token_per_s >= run_of.predict(start).token_per_s * (1 - 1e-9)
    return [
        point("FlexGen", "tokens/s of the programme's policy", setup, done.token_per_s),
        order("FlexGen", FOUND, setup, no_slower),
        order(
            "FlexGen", "predicted within 2 % of replayed", setup, abs(said.token_per_s / done.token_per_s - 1) < 0.02
        ),
    ]


def slower_disk(run_of: Offload) -> list[dict[str, Any]]:
    """OPT-175B with a disk of 0.5 GB/s in place of 1.6 (appendix A.4): each at its own best policy."""
    start = PLAIN["opt-175b"][1]
    sizes = {"batches": (16, 32), "num_batches": (8, 16, 32)}
    rate = []
    for byte_per_s in (0.5e9, 1.6e9):
        one = dataclasses.replace(run_of, tier=run_of.tier.scaled_disk(byte_per_s, byte_per_s / 2))
        rate.append(one.replay(one.search(start, **sizes)).token_per_s)
    note = "writes at half the reads' rate; blocks of up to 1,024 sequences"
    return [row("FlexGen", "tokens/s with a disk of 0.5 over 1.6 GB/s", "opt-175b, 16 bit", 0.30 / 0.69,
                rate[0] / rate[1], note, tag="approx")]  # fmt: skip


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """Tokens a second: published, replayed with the published policy, and with the programme's."""
    figure, axis = new_figure(1, 1, (7.6, 3.8))
    part = table[(table["system"] == "FlexGen") & (table["claim"] == RATE)]
    best = table[table["claim"] == "tokens/s of the programme's policy"].set_index("setup")["simulated"]
    for i, one in enumerate(part.to_dict("records")):
        axis.bar(i - 0.27, one["paper"], 0.26, color=ORANGE, label="published" if i == 0 else None)
        axis.bar(i, one["simulated"], 0.26, color=BLUE, label="simulated" if i == 0 else None)
        axis.bar(i + 0.27, best[one["setup"]], 0.26, color="#8fb4e3", label="best by programme" if i == 0 else None)
    axis.set_xticks(range(len(part)), [text.replace(", ", "\n") for text in part["setup"]])
    axis.set(ylabel="tokens/s", yscale="log")
    axis.legend()
    suptitle(figure, "FlexGen: one T4, prompts of 512, answers of 32 tokens")
    return figure
