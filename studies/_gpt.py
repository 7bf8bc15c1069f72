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


def llama(name: str, hidden: int, num_layer: int, num_head: int, num_kv_head: int, inter: int, vocab: int) -> ModelSpec:
    """A Llama: gated feed-forward part, rotary positions, grouped keys and values.

    >>> llama("tinyllama-1.1b", 2048, 22, 32, 4, 5632, 32000).block[0].attention.num_kv_head
    4
    """
    dim = hidden // num_head
    block = Block(Attention(num_head, num_kv_head, dim, dim), FeedForward(inter, True))
    return ModelSpec(name, "llama", hidden, vocab, 0, (block,), (0,) * num_layer)
