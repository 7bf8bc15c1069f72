"""From which batch on do 8-bit weights and activations beat 4-bit weights? (Kurtic et al. 2024, Llama-3.1 in vLLM)"""

from typing import TYPE_CHECKING, Any

import pandas as pd

from studies._panels import Panel, panels
from studies._steps import arrays, decode_s
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Kurtic et al. 2024: 4-bit weights serve a single stream about 2.4 times faster than BF16, W8A8 many 1.8 times"
SMALL = {"systems": ("a100_sxm_80gb",), "batches": (1, 16, 256)}
MODEL = "llama-3.1-8b"
SYSTEMS = ("rtx_a6000", "a100_sxm_80gb", "h100_sxm")
EIGHT = {"rtx_a6000": "int8", "a100_sxm_80gb": "int8", "h100_sxm": "fp8"}  # W8A8 in integers, or in floats on Hopper
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
ONE, MANY, KV_LEN = 2.4, 1.8, 1024
SPEED = "tokens/s over BF16"
NOTE = (
    "Llama-3.1-8B at 1,024 tokens of context, decodes alone, vLLM's kernels without host time; about 2.4 and 1.8 are "
    "means over use cases and GPUs whose rows are not published; many requests prefill too, which 8 bits "
    "make twice as fast"
)


def second(system: str, fmt: str, batch: int) -> float:
    """A decode step; 16-bit keys and values."""
    return decode_s(MODEL, arrays(system), batch, KV_LEN, fmt=f"{fmt}:kv=bf16")


def run(systems: tuple[str, ...] = SYSTEMS, batches: tuple[int, ...] = BATCHES) -> pd.DataFrame:
    """Speed over BF16 of both formats by batch, and which one is ahead at the ends."""
    rows: list[dict[str, Any]] = []
    gain: dict[tuple[str, str], list[float]] = {}
    for system in systems:
        base = [second(system, "bf16", b) for b in batches]
        for name, fmt in (("W4A16", "w4a16"), ("W8A8", EIGHT[system])):
            gain[name, system] = [a / second(system, fmt, b) for a, b in zip(base, batches, strict=True)]
            rows += [
                point(name, SPEED, f"{system}, batch {b}", g) for b, g in zip(batches, gain[name, system], strict=True)
            ]
    for name, claim, published, at in (("W4A16", "a single stream", ONE, 0), ("W8A8", "many requests", MANY, -1)):
        values = [gain[name, system][at] for system in systems]
        mean = sum(values) / len(values)
        rows.append(row(name, f"{SPEED}, {claim}", f"{MODEL}, {len(systems)} GPUs", published, mean, NOTE, said=True,
                        spread=values))  # fmt: skip
    for system in systems:
        cross = [
            b
            for b, four, eight in zip(batches, gain["W4A16", system], gain["W8A8", system], strict=True)
            if eight > four
        ]
        ends = gain["W4A16", system][0] > gain["W8A8", system][0] and bool(cross) and cross[-1] == batches[-1]
        note = f"W8A8 is ahead from batch {cross[0] if cross else 'none'} on; {NOTE}"
        rows.append(order("W4A16", "order: ahead of W8A8 for one stream, behind it for many", system, ends, note))
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Speed over BF16 by batch, a panel a GPU."""
    systems = list(dict.fromkeys(table[table["claim"] == SPEED]["setup"].str.split(", ").str[0]))
    shown = [Panel(SPEED, one, SPEED, f"{one}, batch ", curve=True) for one in systems]
    shown.append(Panel(f"{SPEED}, a single stream", "one stream", SPEED))
    shown.append(Panel(f"{SPEED}, many requests", "many requests", SPEED))
    return panels(table, shown, "Llama-3.1-8B in three formats", columns=3)
