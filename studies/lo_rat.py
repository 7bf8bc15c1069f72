"""How small a card trains a tracker of ViT-g through adapters alone, and how much sooner? (LoRAT, ECCV 2024)"""

from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from sim.training.estimate import Estimate, estimate, known_site
from studies._panels import Panel, panels
from studies._verdict import frame, order, point, row
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec
from workloads.training import TrainPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "LoRAT (Lin et al. 2024): trackers of ViT-g trained in 25.8 GB at a batch of 16, adapters of rank 64 alone"
SMALL: dict[str, Any] = {"sizes": ("L", "g")}
SYSTEM, STACK, BATCH, RANK = "dgx_a100", "llm-foundry", 16, 64


def _vit(name: str, hidden: int, num_layer: int, num_head: int, inter: int, gated: bool) -> ModelSpec:
    block = Block(Attention(num_head, num_head, hidden // num_head, hidden // num_head), FeedForward(inter, gated))
    return ModelSpec(name, "vit", hidden, 256, 0, (block,), (0,) * num_layer, norm="layer")


# DINOv2's; the largest has a gated feed-forward part
SIZES = {"B": _vit("ViT-B", 768, 12, 12, 3072, False), "L": _vit("ViT-L", 1024, 24, 16, 4096, False),
         "g": _vit("ViT-g", 1536, 40, 24, 4096, True)}  # fmt: skip
# tokens of template and search region in patches of 14 pixels: 112 and 224 pixels, or 196 and 378
TOKENS = {"224": 8**2 + 16**2, "378": 14**2 + 27**2}
PUBLISHED_GB, HOURS = 25.8, (35.0, 10.8)
# samples of 16 that a part of a block computes: the authors' configuration leaves 40 % out at random for ViT-g, and
# their backbone gathers the others first (of ViT-L 10 %, which it only scales)
COMPUTED = {"g": 9}
ADAPTERS, ALL = "adapters", "all weights"
GB, PER = "GB of training, batch 16", "ms a pair"
NOTE = (
    "A100, mixed precision: frozen weights in 32 bits (or 16, or 32 and the copy in 16 that autocast keeps for the "
    "backward pass), activations in 16, an adapter beside every linear map; of ViT-g 9 of 16 samples a part; 224 or "
    "378 pixels (which of them the figure is for is not said, and it lies between them); the head is not counted"
)


class Way(NamedTuple):
    """Pixels of the search region, and bytes of a frozen weight."""

    pixel: str
    weight_byte: float


WAYS = (Way("224", 4.0), Way("224", 2.0), Way("224", 6.0), Way("378", 4.0))


def step(size: str, way: Way, rank: int = RANK) -> Estimate:
    """One step of 16 pairs, as far as they are computed; rank 0 trains everything."""
    pair = COMPUTED.get(size, BATCH)
    plan = TrainPlan(micro_batch=pair, batch=pair, seq=TOKENS[way.pixel], lora_rank=rank, attention="flash2",
                     weight_byte=way.weight_byte, act_byte=2.0, grad_byte=4.0, optimizer_byte=8.0)  # fmt: skip
    return estimate(SIZES[size], plan, known_site(SYSTEM, 1, STACK, "flash2"))


def run(sizes: tuple[str, ...] = tuple(SIZES)) -> pd.DataFrame:
    """Memory and time of a pair, by size, with adapters and without."""
    rows: list[dict[str, Any]] = []
    need = [step("g", way).peak_byte / 1e9 for way in WAYS]
    rows.append(row(ADAPTERS, GB, "ViT-g", PUBLISHED_GB, need[0], NOTE, tag="approx", spread=need))
    for size in sizes:
        own, whole = (step(size, WAYS[0], rank) for rank in (RANK, 0))
        rows += [point(name, GB, f"ViT-{size}, 224", one.peak_byte / 1e9)
                 for name, one in ((ADAPTERS, own), (ALL, whole))]  # fmt: skip
        rows += [point(name, PER, f"ViT-{size}, 224", 1e3 * one.step_s / BATCH)
                 for name, one in ((ADAPTERS, own), (ALL, whole))]  # fmt: skip
        rows.append(
            order(
                ADAPTERS,
                "order: less memory than training all weights",
                f"ViT-{size}",
                own.peak_byte < whole.peak_byte,
                f"{whole.peak_byte / own.peak_byte:.2f} times; {NOTE}",
            )
        )
    narrow, full = (step("L", Way("224", 4.0), rank).step_s for rank in (RANK, 0))
    rows.append(
        row(ADAPTERS, "faster training, ratio", "ViT-L, 224", HOURS[0] / HOURS[1], full / narrow,
            f"35.0 to 10.8 GPU hours; what the former trained, and for how long, is not said; {NOTE}", said=True)
    )  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Memory beside the published one, and time of a pair, by size."""
    return panels(table, [Panel(GB, "memory", GB), Panel(PER, "time", PER)], "LoRAT: trackers through adapters")
