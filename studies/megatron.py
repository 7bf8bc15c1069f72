"""Megatron-LM: step times on A100 with both recompute policies, the H100 table, strong scaling, Llama 3 in FP8."""

from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.training.step import TrainResult, train
from studies._gpt import gpt
from studies._panels import Panel, panels
from studies._verdict import frame, row
from workloads.training import TrainPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Megatron-LM: A100 step times of 22B to 1T within 5 %, the H100 table of 1.7B to 462B within 3 points of MFU"
SMALL = {"a100": ("22B",), "h100": ("7.1B",)}
# Korthikanti et al. 2022: hidden, layers, heads, stages, chunks, batch, microbatch; seconds with full recomputation,
# and with selective recomputation and sequence parallelism; MFU of the latter in percent
A100 = {
    "22B": (6144, 48, 64, 1, 1, 4, 4, 1.42, 1.10, 41.5),
    "175B": (12288, 96, 96, 8, 3, 64, 1, 18.13, 13.75, 51.4),
    "530B": (20480, 105, 128, 35, 3, 280, 1, 49.05, 37.83, 56.0),
    "1T": (25600, 128, 160, 64, 1, 512, 1, 94.42, 71.49, 56.3),
}
# Megatron-LM's table on H100: hidden, layers, heads, tensor parallel, stages, GPUs, batch, microbatch, chunks, MFU
H100 = {
    "1.7B": (2048, 24, 16, 1, 1, 48, 192, 4, 1, 41), "7.1B": (4096, 32, 32, 2, 1, 96, 192, 4, 1, 47),
    "16B": (5120, 48, 40, 4, 1, 192, 192, 4, 1, 49), "32B": (7168, 48, 56, 8, 1, 384, 192, 2, 1, 46),
    "70B": (8192, 84, 64, 8, 2, 768, 384, 1, 7, 42), "119B": (10752, 84, 96, 8, 4, 1536, 768, 1, 7, 43),
    "177B": (12288, 96, 96, 8, 6, 2304, 1152, 1, 8, 44), "314B": (16384, 96, 128, 8, 8, 3072, 1536, 1, 6, 48),
    "462B": (18432, 112, 144, 8, 16, 6144, 3072, 1, 7, 47),
}  # fmt: skip
SCALING = {96: 47, 4608: 42}  # GPT-3 with batch 1152 on so many H100: MFU
# Llama 3 in FP8 on H100: GPUs, tensor parallel, stages, context parallel, chunks, batch; tokens/s a GPU
LLAMA = {
    "llama-3-8b": (8, 1, 1, 2, 1, 128, 13812), "llama-3-70b": (64, 4, 8, 1, 5, 128, 1621),
    "llama-3.1-405b": (1024, 8, 8, 2, 8, 512, 315),
}  # fmt: skip
FITTED_A100 = "two factors of stack megatron-2022 fitted on these eight times"
FITTED_H100 = "one factor of stack megatron-core-2024 fitted on the nine rows of this table"
FITTED_LLAMA = "one factor of stack megatron-core fitted on these three rows, with a share of hidden traffic chosen"
NOT_FITTED = "not fitted"


def _a100(name: str, recompute: str) -> TrainResult:
    hidden, layers, heads, pp, chunks, batch, micro, *_ = A100[name]
    plan = TrainPlan(
        8, int(pp), micro_batch=int(micro), batch=int(batch), interleave=int(chunks), recompute=recompute,
        sequence_parallel=recompute == "selective", attention="fused_softmax", dropout=True, fused_norm=True,
        fused_loss=False,
    )  # fmt: skip
    return train(gpt(name, int(hidden), int(layers), int(heads)), "dgx_a100", plan, stack="megatron-2022")


def _h100(name: str, num_device: int = 0, batch: int = 0) -> TrainResult:
    hidden, layers, heads, tp, pp, size, own_batch, micro, chunks, _ = H100[name]
    plan = TrainPlan(
        tp, pp, (num_device or size) // tp // pp, micro_batch=micro, batch=batch or own_batch, seq=4096,
        interleave=chunks, sequence_parallel=tp > 1, zero=1, attention="flash3", fused_norm=True,
    )  # fmt: skip
    model = gpt(name, hidden, layers, heads, vocab=131072, position_row=4096, tied=False)
    return train(model, "dgx_h100", plan, stack="megatron-core-2024")


def run(a100: tuple[str, ...] = tuple(A100), h100: tuple[str, ...] = tuple(H100), llama: bool = True) -> pd.DataFrame:
    """Step times, MFU and throughput, paper against simulated, by exact replay of the schedules."""
    rows: list[dict[str, Any]] = []
    for name in a100:
        *_, full_s, selective_s, mfu = A100[name]
        for policy, recompute, step_s in (("full recompute", "full", full_s), ("selective", "selective", selective_s)):
            found = _a100(name, recompute).summary
            rows.append(row(policy, "step s, A100", name, step_s, found["step_s"], FITTED_A100, bound=0.05,
                            kind="fitted"))  # fmt: skip
        rows.append(row("selective", "MFU, A100", name, mfu / 100, found["mfu"], FITTED_A100, points=0.03,
                        kind="fitted"))  # fmt: skip
    model = gpt("175B", 12288, 96, 96)
    plan = TrainPlan(8, 16, 8, batch=1536, recompute="full", attention="fused_softmax",
                     dropout=True, fused_norm=True, fused_loss=False, fused_accumulation=False,
                     blocking_hop=True)  # fmt: skip
    step_s = train(model, "dgx_a100", plan, stack="megatron-2022").summary["step_s"]
    cause = (
        "an older release than the fitted runs, whose stages wait for their transfers and whose gradients are "
        "added apart (stack megatron-2022); 16 plain stages and 8 replicas are assumed, as in its published script"
    )
    setup = "175B, 1,024 GPUs, batch 1,536"
    rows.append(row("full recompute", "step s, 1,024 A100", setup, 32.0, step_s, f"{NOT_FITTED}; {cause}"))
    for name in h100:
        note = (
            f"{FITTED_H100}; hidden, layers and heads are assumed where the table gives the size alone; sequence of "
            "4,096"
        )
        published = H100[name][-1] / 100
        rows.append(
            row(
                "Megatron-LM",
                "MFU, H100",
                name,
                published,
                _h100(name).summary["mfu"],
                note,
                points=0.03,
                kind="fitted",
            )
        )
    for size, published in SCALING.items():
        found = _h100("177B", size, 1152).summary
        note = f"{NOT_FITTED} at this size; batch 1,152, 8 x 6 x data parallel"
        rows.append(row("Megatron-LM", "MFU, strong scaling", f"{size} GPUs", published / 100, found["mfu"], note,
                        points=0.03))  # fmt: skip
    for name, (size, tp, pp, cp, chunks, batch, published) in LLAMA.items() if llama else ():
        plan = TrainPlan(
            tp, pp, size // tp // pp // cp, cp, batch=batch, seq=8192, interleave=chunks, sequence_parallel=tp > 1,
            zero=1, attention="flash3", fused_norm=True, tp_overlap=0.7 if tp > 1 else 0.0,
        )  # fmt: skip
        found = train(name, "dgx_h100", plan, stack="megatron-core", number_format="fp8").summary
        note = (
            f"{FITTED_LLAMA}; a layer's products are the calibrated FP8 kernels, their inputs narrowed apart; "
            "attention and the head stay in BF16; sequence of 8,192; batch assumed"
        )
        rows.append(row("Megatron-LM", "tokens/s a GPU, FP8", name, published, found["token_per_s_per_device"],
                        note, kind="fitted"))  # fmt: skip
    return frame(rows)


def plot(rows: pd.DataFrame) -> "Figure":
    """Step times, MFU by model size, strong scaling and FP8 throughput."""
    shown = [
        Panel("step s, A100", "A100: step time", "s", log=True), Panel("MFU, H100", "H100: weak scaling", "MFU"),
        Panel("MFU, strong scaling", "GPT-3 on H100, batch 1,152", "MFU"),
        Panel("tokens/s a GPU, FP8", "Llama 3, FP8 on H100", "tokens/s a GPU"),
    ]  # fmt: skip
    return panels(rows, shown, "Megatron-LM: published and simulated")
