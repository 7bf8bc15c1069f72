"""The description of a model that everything else reads: a few frozen dataclasses of shapes, no weights.

A model is a list of layers; a layer is one of a few distinct `Block`s (an attention and a feed-forward
part). Windows, expert layers and position-free layers make blocks of their own, so that a pipeline stage
knows what it holds layer by layer and identical layers are priced once.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from workloads.models.layers.base import Mixer
from workloads.models.quantization import Quantization
from workloads.models.vision import Vision

T = TypeVar("T")


@dataclass(frozen=True)
class Indexer:
    """A light scorer that picks which keys a query reads: DeepSeek's lightning indexer (V3.2, GLM-5; one key at a
    time) or MiniMax-M3's (whole blocks of keys). Its keys are cached, one narrow head a token."""

    num_head: int
    head_dim: int
    topk: int  # keys that a query reads at most
    q_rank: int = 0  # rank of its query's input; 0: the hidden width
    weighted: bool = True  # a learned weight a head (DeepSeek)
    kv_format: str = ""  # of its cached keys, where the kernels fix it; empty: as the other keys
    key_byte: float = 0.0  # bytes of a cached key where the kernels fix it, scales included
    reads: bool = True  # False: the layer reuses the picks of an earlier one


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
    q_rank: int = 0  # rank of the query projection; 0: full rank
    kv_rank: int = 0  # latent attention: rank of the cached latent; 0: plain attention
    gate: int = 0  # channels of a gate on the result, projected from the input (Qwen3-Next, Kimi-K3)
    key_is_value: bool = False  # one projection gives keys and values (Gemma 4); both are cached
    shared_kv: bool = False  # reads the cache of an earlier layer and has no keys of its own (Gemma 3n and 4)
    indexer: Indexer | None = None
    replicated: bool = False  # every device of a tensor-parallel group does all of it (DeepSeek's indexer)
    kv_format: str = ""  # of the cache, where the architecture fixes it
    absorbed: bool = False  # latent attention that stays in latent space in prompts too
    joined: int = 0  # channels that are joined to the input of its projections (Zamba2: the embedding)

    @property
    def latent(self) -> bool:
        return self.kv_rank > 0

    @property
    def nope_dim(self) -> int:
        """Channels of a latent head that carry no position."""
        return self.head_dim - self.rope_dim


NO_ATTENTION = Attention(0, 0, 0, 0)


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
    latent: int = 0  # width that routed experts work in, projected from the hidden one and back; 0: the hidden width
    latent_norm: bool = False  # a norm of what the experts give, before it is projected back
    num_group: int = 1  # equal groups of experts, of which a token's come from `topk_group` (node-limited routing)
    topk_group: int = 1

    @property
    def num_up(self) -> int:
        return 2 if self.gated else 1

    @property
    def empty(self) -> bool:
        """Whether the layer has no feed-forward part."""
        return not (self.inter or self.num_expert)


NO_FFN = FeedForward(0)


@dataclass(frozen=True)
class Block:
    """One distinct layer: its attention, its feed-forward part and the norms around them.

    `mixer` is a recurrent kind in place of attention (`NO_ATTENTION`), or beside it on the same input (Falcon-H1).
    A layer of one part alone has `NO_ATTENTION` or `NO_FFN`, and one norm.
    """

    attention: Attention
    ffn: FeedForward
    num_norm: int = 2  # of the hidden width in the layer (1, 2, or 4 with norms after each part; more: around experts)
    parallel: bool = False  # attention and feed-forward read the same input; one residual add
    mixer: Mixer | None = None
    streams: int = 0  # residual streams that hyper-connections mix around each part (DeepSeek-V4); 0: one, added to
    joins: int = 0  # outputs of earlier layers that are joined into each part's input (Kimi-K3); 0: none
    side: int = 0  # width of an embedding of the layer's own, gated and projected into the stream (Gemma 4 E models)
    extra_value: int = 0  # further weights of the layer, in no operator's name
    twin: bool = False  # weights of attention and feed-forward part are an earlier layer's (Zamba2)
    idle_value: int = 0  # weights that no token of text meets (experts of images, ERNIE 4.5 VL)


@dataclass(frozen=True)
class ModelSpec:
    """A decoder-only model. Parameters are those that serve a token: no vision encoder, no prediction heads.

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
    side_row: int = 0  # rows of the layers' own embeddings (`Block.side`)
    extra_value: int = 0  # further weights outside the layers, in no operator's name
    mtp: tuple[Block, ...] = ()  # layers of the multi-token-prediction heads; not part of what serves a token
    vision: Vision | None = None  # the encoder of images, prompt work; not among the parameters
    unpriced: tuple[str, ...] = ()  # fields whose operators nobody has lowered yet: pricing refuses them by name
    quantization: Quantization | None = None  # what the checkpoint says about its number formats
    stored: str = "bf16"  # format of the weights that are not quantised

    @property
    def num_layer(self) -> int:
        return len(self.layer)

    def num_block(self, start: int = 0, stop: int | None = None) -> dict[Block, int]:
        """Layers of each distinct block among layers `start:stop`, in order of first appearance."""
        return {self.block[i]: count for i, count in Counter(self.layer[start:stop]).items()}

    def attention_class(self, start: int = 0, stop: int | None = None) -> dict[Attention, int]:
        """Layers of each attention class (same shape and window) among layers `start:stop`; an indexer's scoring is
        a class of its own."""
        return _merged(
            (shape, n)
            for block, n in self.num_block(start, stop).items()
            for shape in attention_shapes(block.attention)
        )

    def mixer_class(self, start: int = 0, stop: int | None = None) -> dict[Mixer, int]:
        """Layers of each recurrent kind among layers `start:stop`."""
        return _merged((b.mixer, n) for b, n in self.num_block(start, stop).items() if b.mixer is not None)

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


def attention_shapes(a: Attention) -> tuple[Attention, ...]:
    """What the attention operators of a layer depend on: biases and rotary channels of plain heads do not matter.

    A sparse layer reads as many keys as its indexer picks, which costs what a window of that size does; the indexer
    scores every key with its own heads.

    >>> sparse = Attention(64, 4, 128, 128, indexer=Indexer(4, 128, 2048))
    >>> [(s.num_head, s.window, s.v_head_dim) for s in attention_shapes(sparse)]
    [(64, 2048, 128), (4, 0, 0)]
    """
    if not a.num_head:
        return ()
    shape = replace(
        a,
        qkv_bias=False,
        out_bias=False,
        qk_norm=0,
        sink=False,
        q_rank=0,
        rope_dim=a.rope_dim if a.latent else 0,
        gate=0,
        key_is_value=False,
        shared_kv=False,
        joined=0,
        indexer=None,
    )
    if a.indexer is None:
        return (shape,)
    seen = min(shape.window or a.indexer.topk, a.indexer.topk)
    # a latent layer that picks its keys runs absorbed in prompts too
    shape = replace(shape, window=seen, absorbed=a.latent)
    if not a.indexer.reads:
        return (shape,)
    scorer = Attention(a.indexer.num_head, 1, a.indexer.head_dim, 0, replicated=a.latent, kv_format=a.indexer.kv_format)
    return (shape, scorer)


def pattern(kinds: list[Block]) -> tuple[tuple[Block, ...], tuple[int, ...]]:
    """Distinct blocks and the index of each layer, from a list with one block a layer."""
    distinct = tuple(dict.fromkeys(kinds))
    index = {block: i for i, block in enumerate(distinct)}
    return distinct, tuple(index[block] for block in kinds)
