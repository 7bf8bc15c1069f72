"""How large must a chunk of fast weights be before a GPU is busy? (LaCT, Zhang et al. 2025, test-time training)"""

from typing import TYPE_CHECKING, Any

import pandas as pd

from hw_models import catalog
from hw_models.device import cost
from kernels import optable
from kernels.formats import FORMAT_CODE
from studies._panels import Panel, panels
from studies._steps import arrays
from studies._verdict import frame, order, point

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "LaCT (Zhang et al. 2025): updates of 16 and 64 tokens use less than 5 % of a GPU, chunks of 2K and more fill it"
)
SMALL = {"systems": ("h100_sxm",), "widths": (512,)}
SYSTEMS, WIDTHS, CHUNKS = ("h100_sxm", "a100_sxm_80gb"), (512, 1024), (16, 64, 256, 1024, 2048, 4096)
HIDDEN, BATCH = 2048, 1  # width of the model whose heads the fast weights are; sequences at once
SHARE, LITTLE = "share of the peak", 0.05
NOTE = (
    "fast weights of a gated feed-forward part in each head of a width of 2,048, in 16 bits: a chunk reads and writes "
    "them once (three products for its update, two times three for its gradients, three to apply); one sequence; head "
    "widths of 512 and 1,024 (the paper's models differ)"
)


def share(system: str, head: int, chunk: int) -> float:
    """FLOPs of a chunk's update and use over what the device could do in its time."""
    heads = HIDDEN // head * BATCH
    ops, work = optable.empty(3)
    # apply and recompute (c x d by d x d), gradients of inputs likewise, gradients of weights (d x c by c x d)
    shapes = ((chunk, head, head, 6), (chunk, head, head, 3), (head, head, chunk, 3))
    for one, (m, n, k, count) in zip(ops, shapes, strict=True):
        one["kind"], one["fmt"], one["count"], one["batch"] = optable.GEMM, FORMAT_CODE["bf16"], count, heads
        one["m"], one["n"], one["k"], one["flop"] = m, n, k, 2.0 * heads * m * n * k
        one["weight_byte"], one["act_byte"], one["write_byte"] = (2.0 * heads * x for x in (n * k, m * k, m * n))
    second = float(cost(ops, work, arrays(system))["time_ps"].sum()) * 1e-12
    return float((ops["flop"] * ops["count"]).sum()) / second / catalog.system(system).device.peak("bf16")


def run(
    systems: tuple[str, ...] = SYSTEMS, widths: tuple[int, ...] = WIDTHS, chunks: tuple[int, ...] = CHUNKS
) -> pd.DataFrame:
    """Share of the peak by chunk, and the orders that the paper states."""
    rows: list[dict[str, Any]] = []
    for system in systems:
        for head in widths:
            found = {chunk: share(system, head, chunk) for chunk in chunks}
            where = f"{system}, heads of {head}"
            rows += [point("LaCT", SHARE, f"{where}, {chunk}", value, NOTE) for chunk, value in found.items()]
            shown = ", ".join(f"{value:.1%} at {chunk}" for chunk, value in found.items())
            for chunk in (16, 64):
                rows.append(order("LaCT", f"order: chunks of {chunk} use less than 5 %", where, found[chunk] < LITTLE,
                                  f"{shown}; {NOTE}"))  # fmt: skip
            rows.append(order("LaCT", "order: chunks of 2,048 use ten times what 16 do", where,
                              found[2048] > 10 * found[16], f"{shown}; {NOTE}"))  # fmt: skip
            rows.append(order("LaCT", "order: a larger chunk never uses less", where,
                              list(found.values()) == sorted(found.values()), shown))  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Share of the peak by chunk, a panel a device and width."""
    setups = dict.fromkeys(table[table["claim"] == SHARE]["setup"].str.rsplit(", ", n=1).str[0])
    return panels(table, [Panel(SHARE, one, SHARE, f"{one}, ", curve=True) for one in setups],
                  "LaCT: use of a GPU by tokens of a chunk")  # fmt: skip
