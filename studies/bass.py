"""Does speculation pay in a batch, where sequences accept unlike numbers of tokens? (BASS, ACL Findings 2024)"""

from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.show.plot_style import BLUE, ORANGE, new_figure, styled, suptitle
from studies._gpt import gpt
from studies._speculate import Decoded, decode
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "BASS (Qian et al. 2024): 7.8B on one A100, batch 8: 5.8 ms a token of a sequence, 2.15x over regular decoding"

MODEL = gpt("code-7.8b", 4480, 32, 35, vocab=32768)  # 7.86 billion parameters
DRAFTS = {"0.2B": gpt("draft-0.2b", 1024, 12, 16, vocab=32768), "1.1B": gpt("draft-1.1b", 2048, 20, 16, vocab=32768)}
PROMPT, OUTPUT = 256, 256
BATCHES, ACCEPTS, FORMS = (1, 2, 4, 8), (0.7, 0.8, 0.9), ("pad", "split")
FIXED = (4, 8, 16)  # drafted tokens of a chain that algorithm 1 is compared with
OPEN = (
    "no draft size, acceptance, prompt or model shape is published (here drafts of 0.2 and 1.1 billion, 0.7 to 0.9, "
    "256 in and 256 out, a GPT of 4,480 x 32); no host time; a launch of a SPLIT kernel 5 us"
)
SPEEDUP, TOKEN, SHARE = "speed-up over regular decoding", "ms a token of a sequence", "use of the peak, %"

SMALL: dict[str, Any] = {"batches": (1, 8), "accepts": (0.8,), "forms": ("split",)}


def run(
    batches: tuple[int, ...] = BATCHES, accepts: tuple[float, ...] = ACCEPTS, forms: tuple[str, ...] = FORMS,
    system: str = "a100_sxm_80gb",
) -> pd.DataFrame:  # fmt: skip
    """What is said beside the range over all that is open; orders hold where every choice has them."""
    least, most = min(batches), max(batches)

    def one(batch: int, progress: str = "", draft: str = "") -> Decoded:
        return decode(MODEL, system, "bf16", batch, PROMPT, OUTPUT, progress=progress, draft=DRAFTS.get(draft))

    plain = {batch: one(batch) for batch in batches}
    found = {
        (batch, draft, accept, form): one(batch, f"bass:accept={accept},form={form}", draft)
        for batch in batches for draft in DRAFTS for accept in accepts for form in forms
    }  # fmt: skip
    table: list[dict[str, Any]] = []
    for batch in batches:
        for (_, draft, accept, form), each in (item for item in found.items() if item[0][0] == batch):
            setup = f"batch {batch}; draft {draft}; acceptance {accept:g}; {form}"
            table.append(point("BASS", SPEEDUP, setup, plain[batch].token_s / each.token_s))
    full = [each for (batch, *_), each in found.items() if batch == most]
    faster = [plain[most].token_s / each.token_s for each in full]
    for claim, paper, values in (
        (SPEEDUP, 2.15, faster), (TOKEN, 5.8, [1e3 * each.token_s for each in full]),
        ("tokens/s of the batch", 1100.0, [each.token_per_s for each in full]),
        (SHARE, 15.8, [100 * each.peak_share for each in full]),
    ):  # fmt: skip
        middle = sorted(values)[len(values) // 2]
        table.append(row("BASS", claim, f"7.8B, A100, batch {most}", paper, middle, OPEN, said=True, spread=values))
    pays = all(plain[key[0]].token_s > each.token_s for key, each in found.items())
    table.append(
        order("BASS", "speculation beats regular decoding at every batch", "batches, drafts, acceptances", pays)
    )
    regular = max(each.peak_share for each in plain.values())
    table.append(
        order("BASS", "use of the peak: more than 3x the highest of regular decoding", "best of the choices",
              max(each.peak_share for each in full) > 3 * regular)
    )  # fmt: skip
    grows = all(
        each.peak_share > found[least, draft, accept, form].peak_share
        for (batch, draft, accept, form), each in found.items() if batch > least
    )  # fmt: skip
    table.append(order("BASS", "a batch uses more of the peak than a sequence alone", "every choice", grows))
    for accept in accepts:  # algorithm 1 beside chains of a fixed length
        draft, form = next(iter(DRAFTS)), forms[0]
        adapted = found[most, draft, accept, form]
        fixed = {k: one(most, f"chain:k={k},accept={accept}", draft) for k in FIXED}
        best = min(each.token_s for each in fixed.values())
        setup = f"batch {most}; acceptance {accept:g}; chains of {', '.join(map(str, FIXED))}; {adapted.drafted:.1f}"
        table.append(
            point("BASS", "algorithm 1: time over that of the best fixed length", setup, adapted.token_s / best)
        )
    return frame(table)


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """Speed-up by batch, a line a draft and acceptance, and the number that is said."""
    figure, axis = new_figure(1, 1, (6.4, 4.0))
    part = table[(table["claim"] == SPEEDUP) & table["paper"].isna()]
    words = part["setup"].str.split("; ", expand=True)
    words = words.assign(batch=words[0].str.split().str[1].astype(int), value=part["simulated"])
    for n, (key, line) in enumerate(words.groupby([1, 2, 3])):
        draft, accept, form = (str(word) for word in tuple(key))
        axis.plot(
            line["batch"], line["value"], "-" if form == "split" else ":", marker=".",
            color=BLUE if "0.2B" in draft else "#6a9a4a", alpha=0.4 + 0.2 * (n // 2 % 3),
            label=f"{draft}, {accept.split()[1]}" if form == words[3].iloc[-1] else None,
        )  # fmt: skip
    said = table[(table["claim"] == SPEEDUP) & table["paper"].notna()]
    axis.plot(words["batch"].max(), float(said["paper"].iloc[0]), "o", color=ORANGE, mfc="white", label="said")
    axis.set(xlabel="sequences (dotted: PAD kernels)", ylabel=SPEEDUP, ylim=(0, None))
    axis.legend(fontsize=7, ncol=4, loc="lower left")
    suptitle(figure, "BASS: a 7.8B model on an A100, drafts by algorithm 1")
    return figure
