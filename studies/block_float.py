"""What does a shared exponent save the KV cache, and what does it cost? (Accurate Block Quantization, 2024)"""

from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.run.scenario import Scenario
from sim.run.setup import prepare
from studies._panels import Panel, panels
from studies._steps import arrays, decode_s
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Accurate Block Quantization (Trukhanov and Soloveychik 2024): KV in block floating point, half the memory"
SMALL: dict[str, Any] = {"models": ("llama-2-7b",)}
SYSTEM, CONTEXT = "a100_sxm_80gb", 4096  # model, machine and lengths are not published for memory
MODELS = ("llama-2-7b", "llama-2-13b", "llama-3-8b")
# stored formats: 8 bits, of which the exponent of a block is a few; 4 bits and an exponent of 8 bits for 32 values
FORMATS = {"16 bits": "fp16", "8-bit blocks": "fp8", "4-bit blocks": "mxfp4"}
HALF = "8-bit blocks"
ROOM, SAVED, TIME, RATE = "sequences that fit", "KV memory, 16 bits over blocks", "ms a step", "thousand tokens/s"
NOTE = (
    "channels are put in order before the run, into the weights: nothing is permuted in a step; block sizes and the "
    "model of the memory claim are not published: 8 bits a value, exponents included; contexts of 4,096, A100 80 GB"
)


def budget(model: str, fmt: str) -> tuple[float, int]:
    """Bytes of KV of a sequence, and how many sequences fit beside the weights."""
    found = prepare(Scenario(model=model, system=SYSTEM, weight_format=f"fp16:kv={fmt}")).budget
    byte = found.sequence_byte(CONTEXT)
    return byte, int(found.kv // byte)


def run(models: tuple[str, ...] = MODELS) -> pd.DataFrame:
    """Memory, sequences that fit, step times at one batch, and throughput with memory full."""
    where, rows = arrays(SYSTEM), []
    more: list[float] = []
    for model in models:
        byte, fits = budget(model, "fp16")
        step: dict[str, float] = {}
        rate: dict[str, float] = {}
        for name, fmt in FORMATS.items():
            own, num = budget(model, fmt)
            step[name] = decode_s(model, where, fits, CONTEXT, fmt=f"fp16:kv={fmt}")
            rate[name] = num / decode_s(model, where, num, CONTEXT, fmt=f"fp16:kv={fmt}")
            rows += [point(name, SAVED, model, byte / own, NOTE), point(name, ROOM, model, num, NOTE),
                     point(name, TIME, f"{model}, batch {fits}", 1e3 * step[name], NOTE),
                     point(name, RATE, model, rate[name] / 1e3, NOTE)]  # fmt: skip
            if name == HALF:
                more.append(num / fits)
        rows.append(order(HALF, "order: no step takes longer than with 16 bits", f"{model}, batch {fits}",
                          step[HALF] <= step["16 bits"], NOTE))  # fmt: skip
        rows.append(order(HALF, "order: memory full, fewer bits give more tokens a second", model,
                          list(rate.values()) == sorted(rate.values()), NOTE))  # fmt: skip
    rows.append(row(HALF, "sequences that fit, over 16 bits", "every model", 2.0, more[0],
                    f"published: half the memory of keys and values; {NOTE}", null=1.0, spread=more))  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Bytes, sequences, time and throughput by format."""
    return panels(table, [Panel(SAVED, "memory", "ratio"), Panel(ROOM, "4,096 tokens each", ROOM),
                          Panel(TIME, "one batch", TIME), Panel(RATE, "memory full", RATE)],
                  "KV in block floating point on an A100 80 GB")  # fmt: skip
