"""The description of a model that everything else reads: a few frozen dataclasses of shapes, no weights.

A model is a list of layers; a layer is one of a few distinct `Block`s (an attention and a feed-forward
part). Windows, expert layers and position-free layers make blocks of their own, so that a pipeline stage
knows what it holds layer by layer and identical layers are priced once.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Attention:
    """Shapes of one attention layer, whole model (before any sharding).

    With latent attention (`kv_rank` > 0, DeepSeek-V2, arXiv 2405.04434) `head_dim` is the query and key
    width of an expanded head, rotary part included, and the cache holds `kv_rank + rope_dim` values a token.
    """

    num_head: int
    num_kv_head: int
    head_dim: int
    v_head_dim: int
    window: int = 0  # keys that a query sees, its own included; 0: all
    rope_dim: int = 0  # rotated channels of a head; 0: no rotary embedding
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: int = 0  # weights of the query and key norms together; 0: none
    sink: bool = False  # one learned logit a head (gpt-oss)
    q_rank: int = 0  # latent attention: rank of the query projection; 0: full rank
    kv_rank: int = 0  # latent attention: rank of the cached latent; 0: plain attention

    @property
    def latent(self) -> bool:
        return self.kv_rank > 0

    @property
    def nope_dim(self) -> int:
        """Channels of a latent head that carry no position."""
        return self.head_dim - self.rope_dim

    @property
    def kv_value(self) -> int:
        """Cached values a token, whole model, one layer.

        >>> Attention(64, 8, 128, 128).kv_value
        2048
        """
        if self.latent:
            return self.kv_rank + self.rope_dim
        return self.num_kv_head * (self.head_dim + self.v_head_dim)


@dataclass(frozen=True)
class FeedForward:
    """One feed-forward part: dense (`inter`), or experts (`num_expert` > 0) with shared ones beside them."""

    inter: int  # width of the dense part, or of all shared experts together (0: none)
    gated: bool = True  # two up projections (SwiGLU and its kin) or one
    bias: bool = False
    num_expert: int = 0
    topk: int = 0
    expert_inter: int = 0
    router_bias: int = 0  # values of the router's bias or score correction
    shared_gate: bool = False  # a sigmoid gate on the shared expert (Qwen2-MoE)
    num_group: int = 1  # equal groups of experts, of which a token's come from `topk_group` (node-limited routing)
    topk_group: int = 1

    @property
    def num_up(self) -> int:
        return 2 if self.gated else 1


@dataclass(frozen=True)
class Block:
    """One distinct layer: its attention, its feed-forward part and the norms around them."""

    attention: Attention
    ffn: FeedForward
    num_norm: int = 2  # norms of the hidden width in the layer (1, 2, or 4 with norms after each part)
    parallel: bool = False  # attention and feed-forward read the same input; one residual add


@dataclass(frozen=True)
class ModelSpec:
    """A decoder-only model.

    `layer[i]` is the index into `block` of layer `i`. `position` is "rope", "learned", "alibi" or "none";
    learned positions own `position_row` rows of the embedding.
    """

    name: str
    family: str
    hidden: int
    vocab: int
    max_context: int
    block: tuple[Block, ...]
    layer: tuple[int, ...]
    norm: str = "rms"  # or "layer": with mean
    norm_bias: bool = False
    tied: bool = False  # LM head shares the embedding
    head_bias: bool = False
    position: str = "rope"
    position_row: int = 0
    embed_norm: bool = False  # a norm right after the embedding (BLOOM)

    @property
    def num_layer(self) -> int:
        return len(self.layer)

    def num_block(self, start: int = 0, stop: int | None = None) -> dict[Block, int]:
        """Layers of each distinct block among layers `start:stop`, in order of first appearance."""
        return {self.block[i]: count for i, count in Counter(self.layer[start:stop]).items()}

    def attention_class(self, start: int = 0, stop: int | None = None) -> dict[Attention, int]:
        """Layers of each attention class (same shape and window) among layers `start:stop`."""
        return _merged((_shape(block.attention), n) for block, n in self.num_block(start, stop).items())

    def dense_class(self, start: int = 0, stop: int | None = None) -> dict[Block, int]:
        """Layers whose cost outside attention is the same: blocks with the window forgotten."""
        return _merged(
            (replace(block, attention=replace(block.attention, window=0)), n)
            for block, n in self.num_block(start, stop).items()
        )


def _merged(counts: Iterable[tuple[T, int]]) -> dict[T, int]:
    total: dict[T, int] = {}
    for key, count in counts:
        total[key] = total.get(key, 0) + count
    return total


def _shape(attention: Attention) -> Attention:
    """What the attention operator itself depends on: biases and rotary channels of plain heads do not matter."""
    return replace(
        attention,
        qkv_bias=False,
        out_bias=False,
        qk_norm=0,
        sink=False,
        q_rank=0,
        rope_dim=attention.rope_dim if attention.latent else 0,
    )


def pattern(kinds: list[Block]) -> tuple[tuple[Block, ...], tuple[int, ...]]:
    """Distinct blocks and the index of each layer, from a list with one block a layer."""
    distinct = tuple(dict.fromkeys(kinds))
    index = {block: i for i, block in enumerate(distinct)}
    return distinct, tuple(index[block] for block in kinds)
