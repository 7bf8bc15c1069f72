"""What does a recurrent step cost when nothing is left but its latency? (FlashRNN, Poeppel et al. 2024, an LSTM)"""

from typing import TYPE_CHECKING, Any

import pandas as pd

from hw_models import catalog
from studies._kernels import product, seconds, stream
from studies._panels import Panel, panels
from studies._steps import arrays
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "FlashRNN (Poeppel et al. 2024): an LSTM whose matrix stays in registers, 50 times faster than PyTorch's steps"
SMALL = {"heads": (64, 768)}
SYSTEM, BATCH, STEP, WIDTH, GATE = "h100_sxm", 16, 1024, 768, 4  # the benchmark's set-up; heads x head size = width
# ms of a forward pass by head size, read off the repository's figure (left panel)
ALTERNATE, FUSED, PLAIN = "two kernels a step", "fused, matrix in registers", "PyTorch, step by step"
FORWARD = {ALTERNATE: {64: 8.19, 768: 10.79}, FUSED: {64: 3.1, 768: 4.87}, PLAIN: {64: 152.03, 768: 147.47}}
NUM_KERNEL = 12  # of PyTorch's step: a product, four gates, states
FIT = 64
# NVIDIA H100 whitepaper: 64 K registers of 4 bytes and 228 KB of shared memory a multiprocessor
REGISTER_BYTE, SHARED_BYTE, TRITON = 65536 * 4.0, 228e3, 64
TIME, SIZE = "ms of a forward pass", "largest head over Triton's"
NOTE = (
    "one H100, bf16, batch 16, 1,024 steps; what lies between kernels (two a step), a launch of PyTorch and a "
    "synchronisation of the grid are each fitted at head size 64; at 768 a step is that and its own work, as long as "
    "loads and products do not wait for each other: there every block waits for a state twelve times as long, which is "
    "not priced"
)


def work_s(head: int) -> float:
    """Seconds of a step's two kernels at their calibrated price: products of all heads, then the gates."""
    kernel = product(BATCH, GATE * head, head, fmt="bf16", batch=WIDTH // head)
    gates = stream(2.0 * BATCH * WIDTH * (2 * GATE + 1), 2.0 * BATCH * WIDTH * 2)
    return seconds(arrays(SYSTEM), kernel, gates)


def resident_s(head: int) -> float:
    """Work of a step inside one kernel: every multiprocessor reads the state of its head through its share of L2."""
    device = catalog.device(SYSTEM)
    state = 2.0 * BATCH * head * device.num_core
    flop = 2.0 * BATCH * GATE * WIDTH * head
    return state / device.l2_byte_per_s + flop / device.peak("bf16")


def step_s(kind: str, head: int) -> float:
    """Seconds of a step without what is fitted."""
    if kind == PLAIN:
        return 0.0  # kernels end before the next one is launched
    return resident_s(head) if kind == FUSED else work_s(head)


def fixed_s(kind: str) -> float:
    """What is left of the published time at head size 64."""
    return FORWARD[kind][FIT] * 1e-3 / STEP - step_s(kind, FIT)


def forward_ms(kind: str, head: int) -> float:
    """A forward pass; PyTorch's steps take the longer of launches and kernels."""
    rest = step_s(kind, head) + fixed_s(kind)
    return 1e3 * STEP * (max(rest, work_s(head)) if kind == PLAIN else rest)


def largest(byte: float) -> float:
    """Head size whose gates' matrices fill so many bytes of every multiprocessor, in 16 bits."""
    return float((byte * catalog.device(SYSTEM).num_core / (2.0 * GATE)) ** 0.5)


def run(heads: tuple[int, ...] = (64, 128, 256, 384, 768)) -> pd.DataFrame:
    """Times of the three ways by head size, and how large a head stays on the chip."""
    rows: list[dict[str, Any]] = []
    for kind, published in FORWARD.items():
        for head in heads:
            found = forward_ms(kind, head)
            if head not in published:
                rows.append(point(kind, TIME, f"head of {head}", found, NOTE))
                continue
            note = f"{1e6 * fixed_s(kind):.2f} us a step beside {1e6 * step_s(kind, head):.2f} us of work; {NOTE}"
            rows.append(row(kind, TIME, f"head of {head}", published[head], found, note, tag="approx",
                            kind="fitted" if head == FIT else "number"))  # fmt: skip
    room = [largest(byte) / TRITON for byte in (REGISTER_BYTE, REGISTER_BYTE + SHARED_BYTE)]
    rows.append(row(FUSED, SIZE, "one head", 40.0, sum(room) / 2, "registers alone, and with shared memory",
                    tag="approx", spread=room))  # fmt: skip
    for head in heads:
        ranked = [forward_ms(kind, head) for kind in (FUSED, ALTERNATE, PLAIN)]
        rows.append(order("all", "order: fused, two kernels a step, PyTorch", f"head of {head}",
                          ranked == sorted(ranked), NOTE))  # fmt: skip
    host, kernel = fixed_s(PLAIN) / NUM_KERNEL, work_s(FIT) / 2
    rows.append(order(PLAIN, "order: a launch of PyTorch takes longer than a kernel", "head of 64", host > kernel,
                      f"{1e6 * host:.1f} us a launch, {1e6 * kernel:.1f} us a kernel"))  # fmt: skip
    gap = fixed_s(ALTERNATE) / 2 + kernel
    rows.append(order(ALTERNATE, "order: a synchronisation takes less than two launches", "head of 64",
                      fixed_s(FUSED) < 2 * gap, NOTE))  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Time by head size, as the paper has it, and the largest head."""
    return panels(table, [Panel(TIME, "LSTM, forward", TIME, curve=True, log=True), Panel(SIZE, "on the chip", SIZE)],
                  "FlashRNN on an H100")  # fmt: skip
