"""What does a vision transformer's training memory become with activations saved in 8 bits? (Mesa, 2021, DeiT)"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from kernels.train_plan import M_RESERVE
from sim.training.estimate import Estimate, estimate, known_site
from studies._panels import Panel, panels
from studies._verdict import frame, order, point, row
from studies._vit import vit
from workloads.kept_activations import kept_tensors
from workloads.models.tensors import num_param
from workloads.training import TrainPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Mesa (Pan et al. 2021): DeiT-B in 8.6 GB instead of 17.7, activations exact forward and saved in 8 bits"
SMALL: dict[str, Any] = {}
SYSTEM, STACK, TOKEN, BATCH = "dgx_1", "megatron-2021", 197, 128  # 224 pixels in patches of 16, and a class token
MODELS = {
    "DeiT-Ti": vit("DeiT-Ti", 192, 12, 3),
    "DeiT-S": vit("DeiT-S", 384, 12, 6),
    "DeiT-B": vit("DeiT-B", 768, 12, 12),
}
# MB of training, plain and with Mesa (the repository's table)
MEMORY = {"DeiT-Ti": (4171, 1858), "DeiT-S": (8459, 3840), "DeiT-B": (17691, 8616)}
PLAIN, MESA = "mixed precision", "Mesa"
MB, SAVED, SLOWER = "MB of training", "memory saved, share", "step over plain"
NOTE = (
    "batch 128, 224 pixels; weights, gradients and moments in 32 bits, activations in 16 under automatic mixed "
    "precision, eager operators of PyTorch 1.7, whose softmax keeps its input too; the average of the weights that "
    "DeiT's training has by default, their 16-bit copies and the images; with Mesa every kept tensor in 8 bits (half "
    "of 16, a quarter of 32) and a scale a head; megabytes taken as 2^20; stochastic depth's copies are not counted"
)
WIDE = "wide copies of the {} norm"
# of the 10 B of a norm that is written out PyTorch's own keeps its 32-bit input alone; instead of the 6 B of a masked
# softmax its 32-bit input and result, which automatic mixed precision has: the release that Mesa installs (1.7.1; its
# own softmax too) keeps both for the backward pass, later ones the result
USUAL = {WIDE.format("first"): 4 / 10, WIDE.format("second"): 4 / 10, "masked scores": 8 / 6}
# bytes a weight: DeiT's moving average of them in 32 bits, and what autocast has of them in 16
COPY_BYTE, IMAGE_BYTE = 4 + 2, BATCH * 3 * 224**2 * (4 + 2)


def plan(model: str, way: str) -> TrainPlan:
    """The plan of one GPU; `way` decides what becomes of every kept tensor."""
    usual = tuple((name, "shrink", share) for name, share in USUAL.items())
    own = TrainPlan(micro_batch=BATCH, batch=BATCH, seq=TOKEN, attention="unfused", weight_byte=4.0, act_byte=2.0,
                    grad_byte=4.0, optimizer_byte=8.0, policy=usual)  # fmt: skip
    if way == PLAIN:
        return own
    spec = MODELS[model]
    names = [one.name for one in kept_tensors(spec.hidden, spec.block[0], own, "fp16")]
    narrow = dict.fromkeys(names, 0.5) | {name: share / 4 for name, share in USUAL.items()}
    return replace(own, policy=tuple((name, "shrink", share) for name, share in narrow.items()))


def step(model: str, way: str) -> Estimate:
    """One step, without the driver's share, which PyTorch's own count leaves out."""
    found = estimate(MODELS[model], plan(model, way), known_site(SYSTEM, 1, STACK, "unfused", "fp16"))
    beside = COPY_BYTE * num_param(MODELS[model]) + IMAGE_BYTE
    return found._replace(peak_byte=found.peak_byte - float(found.memory[M_RESERVE]) + beside)


def narrow_s(model: str) -> float:
    """Seconds of narrowing every kept tensor after it is made and widening it before it is used: 3 B a value each."""
    where = known_site(SYSTEM, 1, STACK, "unfused", "fp16")
    spec, own = MODELS[model], plan(model, PLAIN)
    kept = sum(one.byte for one in kept_tensors(spec.hidden, spec.block[0], own, "fp16")) * spec.num_layer
    return 2 * kept / 2 * 3 / float(where.stack["mem_byte_per_s"])


def run(models: tuple[str, ...] = tuple(MODELS)) -> pd.DataFrame:
    """Memory of either way, what is saved, and what the passes cost."""
    rows: list[dict[str, Any]] = []
    for model in models:
        found = {way: step(model, way) for way in (PLAIN, MESA)}
        for way, published in zip((PLAIN, MESA), MEMORY[model], strict=True):
            rows.append(row(way, MB, model, published, found[way].peak_byte / 2**20, NOTE))
        stated = round(1 - MEMORY[model][1] / MEMORY[model][0], 3)
        saved = 1 - found[MESA].peak_byte / found[PLAIN].peak_byte
        rows.append(row(MESA, SAVED, model, stated, saved, NOTE, null=0.0))
        slower = 1 + narrow_s(model) / found[PLAIN].step_s
        rows.append(point(MESA, SLOWER, model, slower))
        rows.append(
            order(
                MESA,
                "order: a slower step at an equal batch",
                model,
                slower > 1,
                f"{slower:.2f} times with fused passes; {NOTE}",
            )
        )
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Memory, the share that is saved, and the price in time."""
    shown = [Panel(MB, "batch 128", MB), Panel(SAVED, "saved", SAVED), Panel(SLOWER, "passes over 8 bits", SLOWER)]
    return panels(table, shown, "Mesa: DeiT with activations saved in 8 bits", columns=3)
