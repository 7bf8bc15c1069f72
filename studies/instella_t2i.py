"""What does a text-to-image model cost whose images are 128 tokens? (Instella-T2I, Wang et al. 2025, on MI300X)"""

import functools
from typing import TYPE_CHECKING, Any

import pandas as pd

from hw_models import catalog
from kernels.optable import OpTable
from studies._gpt import llama
from studies._kernels import encoder, encoder_s, product, seconds, stream
from studies._panels import Panel, panels
from studies._steps import arrays, step_s
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Instella-T2I (Wang et al. 2025): 128 tokens an image, batch 4,096 on eight MI300X, 220 images/s on each"
SMALL: dict[str, Any] = {"tokens": (128, 4096)}
SYSTEM, BATCH, NUM_GPU, RATE = "mi300x", 4096, 8, 220.0  # images of a step; images/s a GPU ("over 220")
# the authors' training script: 16 blocks of 2,048, each of which sees 128 tokens of the text model's same layer
NUM_LAYER, WIDTH, NUM_HEAD, TEXT, IMAGE, VOCAB = 16, 2048, 16, 128, 128, 50304
TEXT_MODEL = llama("amd-olmo-1b", WIDTH, NUM_LAYER, NUM_HEAD, NUM_HEAD, 8192, VOCAB)
TOKENS = (128, 256, 1024, 4096)  # of an image; 4,096: a grid of 64 x 64
MATRIX = 6 + 1 + 3 + 1 + 8  # width x width of a block: shifts and scales, text, queries to values, output, the two wide
LIVE = 24  # values of an image's token and width that a block keeps while it is done again
TRAIN, MEMORY, FORWARD = "images/s a GPU in training", "GiB of a GPU", "passes of a step"
WAYS = {"recomputed": 4.0, "kept": 3.0}  # forward passes that a step is worth
PIXELS = (512, 1024, 0)  # of a side, encoded in patches of 16; 0: beforehand
OPEN = (
    "as in the authors' script: images of 512 pixels through the tokenizer's encoder, 128 text tokens through a frozen "
    "language model and its head, blocks recomputed (its range: none; 1,024 pixels, or latents made beforehand); "
    "updates and gradients' traffic left out (some 2 % of a step); no kernels of MI300X were measured: H100's, "
    "stretched as one serving engine's batches were; eager operators"
)


def block(batch: int, image: int) -> list[OpTable]:
    """The forward pass of a block: keys and values of text and image, queries of both, the rest of the image alone."""
    rows, both, head = batch * image, batch * (image + TEXT), WIDTH // NUM_HEAD
    return [
        product(batch, 6 * WIDTH, WIDTH, fmt="bf16"),
        product(batch * TEXT, WIDTH, WIDTH, fmt="bf16"),
        product(both, 3 * WIDTH, WIDTH, fmt="bf16"),
        product(both, WIDTH, WIDTH, fmt="bf16"),
        product(rows, 4 * WIDTH, WIDTH, fmt="bf16"),
        product(rows, WIDTH, 4 * WIDTH, fmt="bf16"),
        product(both, 2 * (image + TEXT), head, fmt="bf16", count=NUM_HEAD, weight_share=0.0),  # fused attention
        *[stream(2.0 * rows * WIDTH, 2.0 * rows * WIDTH)] * 8,  # norms, shifts, gates, sums
        stream(8.0 * rows * WIDTH, 8.0 * rows * WIDTH),  # activation
        *[stream(2.0 * both * WIDTH, 2.0 * both * WIDTH)] * 4,  # joined text, norms of queries and keys, rotation
    ]


def encoded_s(batch: int, side: int, system: str) -> float:
    """The tokenizer's encoder: seven layers of 768 on all patches beside the latents, five on a quarter of them."""
    patch = (side // 16) ** 2
    parts = ((7, patch + IMAGE), (5, patch // 4 + IMAGE)) if side else ()
    return sum(
        encoder_s(arrays(system), encoder(count, 768, 3072, 12), [token] * batch, fmt="bf16") for count, token in parts
    )


@functools.cache
def rate(image: int, passes: float, system: str, side: int = PIXELS[0]) -> float:
    """Images a second of a GPU; text model and encoder run once, forward."""
    where, batch = arrays(system), max(1, BATCH // NUM_GPU * 128 // image)
    text_s = step_s(TEXT_MODEL, where, [TEXT] * batch, [TEXT] * batch, decode=False, sampled=TEXT)
    blocks_s = passes * NUM_LAYER * seconds(where, *block(batch, image))
    return batch / (blocks_s + text_s + encoded_s(batch, side, system))


def gib(image: int, kept: bool) -> float:
    """Weights, gradients, states split over the node, the text model, what blocks keep and what one lives on."""
    batch = BATCH // NUM_GPU
    weight = NUM_LAYER * MATRIX * WIDTH**2
    value = 2.0 * batch * image * WIDTH
    text = 2.0 * (NUM_LAYER * 16 * WIDTH**2 + VOCAB * WIDTH) + NUM_LAYER * 2.0 * batch * TEXT * WIDTH
    blocks = LIVE * value * (NUM_LAYER if kept else 1) + NUM_LAYER * value
    return (weight * (2 + 2 + (4 + 8) / NUM_GPU) + text + blocks) / 2**30


def run(tokens: tuple[int, ...] = TOKENS, system: str = SYSTEM) -> pd.DataFrame:
    """Images a second, and what more tokens an image would cost."""
    found = [rate(IMAGE, WAYS["recomputed"], system, side) for side in PIXELS]
    found.append(rate(IMAGE, WAYS["kept"], system))
    room = catalog.device(system).mem_byte / 2**30
    table: list[dict[str, Any]] = [
        row("Instella-T2I", TRAIN, "128 tokens, batch 512 a GPU", RATE, found[0], OPEN, spread=found),
        order("Instella-T2I", "order: 4,096 images fit a node", "128 tokens, blocks recomputed", gib(128, False) < room,
              OPEN),
        order("Instella-T2I", "order: as many of 4,096 tokens do not", "blocks recomputed", gib(4096, False) > room,
              OPEN),
    ]  # fmt: skip
    for image in tokens:
        for way, passes in WAYS.items():
            table += [point(way, TRAIN, f"of {image} tokens", rate(image, passes, system), OPEN),
                      point(way, MEMORY, f"of {image} tokens", gib(image, way == "kept"), OPEN)]  # fmt: skip
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """Images a second beside the published, then both by tokens an image."""
    shown = [Panel(TRAIN, "published set-up", "images/s a GPU", "128 tokens, "),
             Panel(TRAIN, "by tokens an image", "images/s a GPU", "of ", log=True),
             Panel(MEMORY, "batch 4,096 on eight GPUs", "GiB a GPU", "of ", log=True)]  # fmt: skip
    return panels(table, shown, "Instella-T2I: images of 128 tokens, MI300X", columns=3)
