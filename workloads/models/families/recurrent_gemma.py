"""RecurrentGemma (arXiv 2404.07839): two layers of Griffin's recurrent block for each of attention with a window.
`intermediate_size` counts both up projections."""

from workloads.models.fields import Fields
from workloads.models.layers.rg_lru import RgLru
from workloads.models.spec import NO_ATTENTION, Attention, Block, FeedForward, ModelSpec, pattern

MODEL_TYPES = ("recurrent_gemma",)
USUAL = ["recurrent", "recurrent", "attention"]


def read(fields: Fields, name: str) -> ModelSpec:
    hidden, num_layer = fields.size("hidden_size"), fields.size("num_hidden_layers", high=10_000)
    name_of = "block_types" if fields.has("block_types") else "_block_types"
    given = fields.raw.get(name_of)
    count = len(given) if isinstance(given, list) else 1
    cycle = fields.words(name_of, ("recurrent", "attention"), max(1, count)) or USUAL
    num_head, num_kv_head, dim = fields.heads()
    bias = fields.flag("attention_bias", default=False)
    window = fields.size("attention_window_size", default=2048)
    attention = Attention(
        num_head, num_kv_head, dim, dim, window=window, rope_dim=fields.rotary(dim, 0.5), qkv_bias=bias, out_bias=True
    )
    mixer = RgLru(num_head, fields.size("lru_width", default=hidden), fields.size("conv1d_width", default=4, high=1000))
    fields.check_divides(num_head, mixer.channel, "lru_width")
    ffn = FeedForward(fields.size("intermediate_size") // 2, bias=True)
    block, layer = pattern(
        [
            Block(attention, ffn) if cycle[i % len(cycle)] == "attention" else Block(NO_ATTENTION, ffn, mixer=mixer)
            for i in range(num_layer)
        ]
    )
    return ModelSpec(
        name=name,
        family="recurrent_gemma",
        hidden=hidden,
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings", default=8192),  # its training; nothing ends the context
        block=block,
        layer=layer,
        tied=fields.flag("tie_word_embeddings", default=True),
    )
