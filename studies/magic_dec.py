"""Where does speculation pay in large batches of long contexts? (MagicDec, ICLR 2025: a draft that keeps 256 tokens)"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from studies._gpt import llama
from studies._kernels import LAUNCH_S
from studies._panels import Panel, panels
from studies._steps import arrays, decode_s
from studies._verdict import frame, order, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "MagicDec (Chen et al. 2024): Llama-2-7B-32K on 8 A100 is up to 1.87 times faster with TinyLlama as its draft"
SMALL = {"prompts": (1024, 2048, 8000), "batches": (32, 128)}
SYSTEM, TP, DRAFT_TP = "dgx_a100", 8, 4  # drafts of 1B run on four of the eight cards
MODEL, DRAFT = "llama-2-7b", llama("tinyllama-1.1b", 2048, 22, 32, 4, 5632, 32000)
BUDGET, MOST = 257, 5  # tokens of KV that the draft keeps; draft lengths of 1 to 5 are searched
LOOPS_S = tuple(70 * launch_s for launch_s in LAUNCH_S)
LOOP_S = LOOPS_S[1]
"""Host time of a round beside its passes: what the authors' loop does to accept, roll back and store takes about 70
small kernels outside of the compiled passes and waits for several."""
BATCHES = (32, 48, 64, 128, 256)
# prompt: (ms a token with speculation, over plain decoding's) by batch, as far as published; at 8,000 both are, in ms
PAPER: dict[int, tuple[tuple[float, float], ...]] = {
    2048: ((9.19, 1.03), (10.27, 1.06), (12.19, 1.14), (16.96, 1.13), (26.9, 1.13)),
    4000: ((10.25, 1.16), (11.93, 1.21), (14.86, 1.30), (21.54, 1.34), (34.85, 1.40)),
    8000: ((12.83, 16.53 / 12.83), (15.26, 21.45 / 15.26), (20.09, 31.49 / 20.09), (30.41, 49.89 / 30.41)),
    16000: ((16.74, 1.57), (21.26, 1.69), (29.79, 1.85)),
    24000: ((20.76, 1.72), (26.95, 1.86)),
    32000: ((24.04, 1.87),),
}
LOSES, LOSES_BUDGET = 1024, 513  # a prompt where speculation no longer gains in large batches, and its draft's KV
PROMPTS = (LOSES, *PAPER)
HOST_AT, ACCEPT_AT = (2048, 32), (8000, 32)  # prompts and batches that host time and acceptance are fitted on
# the model drafts for itself with the same few tokens of KV: speedups by prompt and batch; the first one is fitted on
SELF: dict[str, dict[tuple[int, int], float]] = {
    "llama-2-7b": {(8000, 32): 1.18, (8000, 64): 1.48, (8000, 128): 1.63, (32000, 32): 2.00},
    "llama-3.1-8b": {(32000, 32): 1.22, (32000, 64): 1.38, (32000, 128): 1.47, (100000, 32): 1.84},
}
PLAIN, SPEC, GAIN = "ms a token, plain", "ms a token, speculation", "speedup"
NOTE = (
    "Llama-2-7B-32K on 8 A100 80 GB, tensor parallel, contexts of the prompt; host time of a pass (of either model) is "
    "fitted on plain decoding behind 2,048 tokens, acceptance (not published) on speculation behind 8,000, both at "
    "batch 32; one acceptance for all prompts; draft length searched; a round's loop of small kernels counted, 5 to "
    "25 us each"
)


class Speed(NamedTuple):
    """Seconds between two tokens of a sequence, plain and with speculation, and the draft length chosen."""

    plain_s: float
    spec_s: float
    length: int


@functools.cache
def passes(prompt: int, batch: int, model: str = MODEL, own: bool = False) -> tuple[float, float, tuple[float, ...]]:
    """Device seconds of a plain step, of a pass of the draft (`own`: the model itself, on all cards), and of
    verifications of 1 to `MOST` drafted tokens."""
    where, budget = arrays(SYSTEM, TP), LOSES_BUDGET if prompt == LOSES else BUDGET
    verify = tuple(
        decode_s(model, where, batch, prompt + k, query=k + 1, fmt="fp16", tp=TP) for k in range(1, MOST + 1)
    )
    return (
        decode_s(model, where, batch, prompt, fmt="fp16", tp=TP),
        decode_s(model if own else DRAFT, where, batch, budget, fmt="fp16", tp=TP if own else DRAFT_TP),
        verify,
    )


def speed(
    prompt: int, batch: int, host_s: float, accept: float, model: str = MODEL, own: bool = False,
    loop_s: float = LOOP_S,
) -> Speed:  # fmt: skip
    """The best draft length: a round of k drafts commits (1 - a^(k+1)) / (1 - a) tokens."""
    plain, draft, verify = passes(prompt, batch, model, own)
    found = [
        ((k * (draft + host_s) + verify[k - 1] + host_s + loop_s) * (1 - accept) / (1 - accept ** (k + 1)), k)
        for k in range(1, MOST + 1)
    ]
    return Speed(plain + host_s, *min(found))


def accepted(tried: Callable[[float], Speed], slower: Callable[[Speed], bool]) -> float:
    """The probability that a drafted token holds with which speculation stops being `slower` than published."""
    low, high = 0.0, 0.999
    for _ in range(40):
        accept = (low + high) / 2
        low, high = (accept, high) if slower(tried(accept)) else (low, accept)
    return accept


def fitted() -> tuple[float, list[float]]:
    """Host seconds of a pass, and the acceptance for each loop's time, from a published row each."""
    paper_ms, gain = PAPER[HOST_AT[0]][BATCHES.index(HOST_AT[1])]
    host_s = paper_ms * gain * 1e-3 - passes(*HOST_AT)[0]
    paper_s = PAPER[ACCEPT_AT[0]][BATCHES.index(ACCEPT_AT[1])][0] * 1e-3
    tries = [functools.partial(speed, *ACCEPT_AT, host_s, loop_s=loop_s) for loop_s in LOOPS_S]
    return host_s, [accepted(tried, lambda one: one.spec_s > paper_s) for tried in tries]


def every(prompt: int, batch: int, host_s: float, accepts: list[float], model: str = MODEL, own: bool = False
          ) -> tuple[Speed, list[Speed]]:  # fmt: skip
    """The middle of the loops' times, and all of them."""
    found = [
        speed(prompt, batch, host_s, accept, model, own, loop_s)
        for accept, loop_s in zip(accepts, LOOPS_S, strict=True)
    ]
    return found[LOOPS_S.index(LOOP_S)], found


def gain_of(one: Speed) -> float:
    """Speculation over plain decoding."""
    return one.plain_s / one.spec_s


def own_rows(host_s: float) -> list[dict[str, Any]]:
    """Speedups of self-speculation; one acceptance a model, fitted on its first."""
    rows = []
    for model, published in SELF.items():
        first, want = next(iter(published.items()))
        tries = [functools.partial(speed, *first, host_s, model=model, own=True, loop_s=loop_s) for loop_s in LOOPS_S]
        accepts = [accepted(tried, lambda one, want=want: gain_of(one) < want) for tried in tries]  # type: ignore[misc]
        for (prompt, batch), gain in published.items():
            one, found = every(prompt, batch, host_s, accepts, model, True)
            note = f"acceptance {accepts[1]:.2f}, {one.length} drafted; {NOTE}"
            rows.append(row("MagicDec, own draft", GAIN, f"{model}, {prompt} tokens, batch {batch}", gain,
                            gain_of(one), note, null=1.0, spread=[gain_of(other) for other in found],
                            kind="fitted" if (prompt, batch) == first else "number"))  # fmt: skip
    return rows


def run(prompts: tuple[int, ...] = PROMPTS, batches: tuple[int, ...] = BATCHES) -> pd.DataFrame:
    """Milliseconds a token of both and their ratio for every published prompt and batch, and where it loses."""
    host_s, accepts = fitted()
    note = f"{1e3 * host_s:.2f} ms and {accepts[1]:.2f}; {NOTE}"
    rows: list[dict[str, Any]] = []
    gains: dict[int, dict[int, float]] = {}
    for prompt in prompts:
        for at, batch in enumerate(BATCHES):
            if batch not in batches or (prompt in PAPER and at >= len(PAPER[prompt])):
                continue
            one, found = every(prompt, batch, host_s, accepts)
            gains.setdefault(prompt, {})[batch] = gain_of(one)
            if prompt not in PAPER:
                continue
            spec_ms, gain = PAPER[prompt][at]
            setup, at_host = f"{prompt} tokens, batch {batch}", "fitted" if (prompt, batch) == HOST_AT else "number"
            kind, text = "fitted" if (prompt, batch) == ACCEPT_AT else "number", f"{one.length} drafted; {note}"
            rows.append(row("MagicDec", SPEC, setup, spec_ms, 1e3 * one.spec_s, text, kind=kind,
                            spread=[1e3 * other.spec_s for other in found]))  # fmt: skip
            if prompt == ACCEPT_AT[0]:
                rows.append(row("plain decoding", PLAIN, setup, spec_ms * gain, 1e3 * one.plain_s, note))
            else:
                rows.append(row("MagicDec", GAIN, setup, gain, gain_of(one), text, kind=at_host, null=1.0,
                                spread=[gain_of(other) for other in found]))  # fmt: skip
    rows += own_rows(host_s)
    grows = all(list(one.values()) == sorted(one.values()) for prompt, one in gains.items() if prompt >= 4000)
    where = "prompts of 4,000 and more"
    rows.append(order("MagicDec", "order: gains more in larger batches", where, grows, NOTE))
    if LOSES in gains:
        loses = all(gain < 1 for batch, gain in gains[LOSES].items() if batch >= 128)
        text = f"{', '.join(f'{gain:.2f} at {batch}' for batch, gain in gains[LOSES].items())}; {NOTE}"
        rows.append(
            order("MagicDec", "order: loses at short contexts", f"{LOSES} tokens, batch 128 and more", loses, text)
        )
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Milliseconds a token by batch, plain and with speculation, and ratios by prompt and batch."""
    gains = table[(table["claim"] == GAIN) & (table["system"] == "MagicDec")]["setup"].str.split(", ").str[0]
    short, long, both = gains.iloc[0], gains.mode().iloc[-1], f"{ACCEPT_AT[0]} tokens"
    shown = [Panel(PLAIN, f"plain, prompt of {both}", "ms a token", f"{both}, "),
             Panel(SPEC, f"speculation, prompt of {both}", "ms a token", f"{both}, "),
             *(Panel(GAIN, f"speedup, prompt of {one}", "over plain", f"{one}, ") for one in {short: 0, long: 0}),
             *(Panel(GAIN, f"{model}, drafts for itself", "over plain", f"{model}, ") for model in SELF)]  # fmt: skip
    return panels(table, shown, "MagicDec: Llama-2-7B-32K and TinyLlama on 8 A100")
