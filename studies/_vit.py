"""Vision transformers as the training step lowers them: blocks of a GPT, whose few classes take next to nothing."""

from dataclasses import replace

from studies._gpt import gpt
from workloads.models.spec import ModelSpec

CLASSES = 1000


def vit(name: str, hidden: int, num_layer: int, num_head: int) -> ModelSpec:
    """A ViT: the head and loss see one token of an image in reality; here all of them, of 1,000 values each.

    >>> vit("ViT-B", 768, 12, 12).block[0].ffn.inter
    3072
    """
    return replace(gpt(name, hidden, num_layer, num_head, vocab=CLASSES, position_row=1024), tied=False)
