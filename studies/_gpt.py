"""GPT and Llama shapes of papers that name a size and no catalogue model."""

from workloads.models.spec import Attention, Block, FeedForward, ModelSpec


def gpt(
    name: str, hidden: int, num_layer: int, num_head: int, *, vocab: int = 51200, position_row: int = 2048,
    tied: bool = True,
) -> ModelSpec:  # fmt: skip
    """A GPT: four-fold feed-forward part, learned positions, the vocabulary padded as Megatron pads it.

    >>> gpt("175B", 12288, 96, 96).block[0].ffn.inter
    49152
    """
    block = Block(Attention(num_head, num_head, hidden // num_head, hidden // num_head), FeedForward(4 * hidden, False))
    return ModelSpec(
        name, "gpt", hidden, vocab, position_row, (block,), (0,) * num_layer, norm="layer", tied=tied,
        position="learned", position_row=position_row,
    )  # fmt: skip
