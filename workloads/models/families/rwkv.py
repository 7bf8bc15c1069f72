"""RWKV-7 "Goose" (arXiv 2503.14456) as its Transformers-style checkpoints name it: time mixing in place of attention,
an ungated part with squared ReLU, layer norms with biases. Ranks that a file leaves out follow from the width."""

from kernels.errors import InputError
from workloads.models.families.mamba import UNBOUND
from workloads.models.fields import Fields
from workloads.models.layers.rwkv7 import Rwkv7
from workloads.models.spec import NO_ATTENTION, Block, FeedForward, ModelSpec, pattern

MODEL_TYPES = ("rwkv7",)
STEP = 32  # ranks are multiples of it


def read(fields: Fields, name: str) -> ModelSpec:
    hidden, num_layer = fields.size("hidden_size"), fields.size("num_hidden_layers", high=10_000)
    dim = fields.size("head_dim", default=64, high=10_000)
    fields.check_divides(dim, hidden, "head_dim")
    if fields.raw.get("attn"):
        raise InputError("layers of attention are not supported", file=fields.file, field="attn", value="set",
                         allowed="null")  # fmt: skip
    root = hidden**0.5
    mixer = Rwkv7(
        hidden,
        dim,
        decay_rank=fields.size("decay_low_rank_dim", default=_rank(1.8 * root)),
        rate_rank=fields.size("a_low_rank_dim", default=_rank(1.8 * root)),
        value_rank=fields.size("v_low_rank_dim", default=_rank(1.3 * root)),
        gate_rank=fields.size("gate_low_rank_dim", default=_rank(0.6 * hidden**0.8)),
    )
    ffn = FeedForward(fields.size("intermediate_size", default=4 * hidden), gated=False)
    later = Block(NO_ATTENTION, ffn, mixer=mixer, extra_value=hidden)  # channel mixing's share of the token before
    # the first layer's value is mixed with no earlier one, and its input has a norm of its own
    own = 2 * hidden * mixer.value_rank + hidden
    first = Block(NO_ATTENTION, ffn, mixer=mixer, extra_value=hidden + 2 * hidden - own)
    block, layer = pattern([first, *[later] * (num_layer - 1)])
    return ModelSpec(
        name=name,
        family="rwkv",
        hidden=hidden,
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings", default=UNBOUND),
        block=block,
        layer=layer,
        norm="layer",
        norm_bias=True,
        tied=fields.flag("tie_word_embeddings", default=False),
        position="none",
    )


def _rank(value: float) -> int:
    return max(STEP, round(value / STEP) * STEP)
