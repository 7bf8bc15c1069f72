"""GPT-2 and GPT-3, OPT, BLOOM: layer norms and biases everywhere, a plain feed-forward part four times as
wide, a tied head; learned positions (GPT, OPT) or ALiBi with a norm after the embedding (BLOOM)."""

from kernels.errors import InputError
from workloads.models.fields import Fields
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec

MODEL_TYPES = ("gpt2", "gpt3", "opt", "bloom", "gpt_bigcode")
OPT_OFFSET = 2  # OPT's position table has two rows before position 0


def read(fields: Fields, name: str) -> ModelSpec:
    kind = fields.word("model_type")
    num_head, num_kv_head, dim = fields.heads()
    if kind == "gpt_bigcode" and fields.flag("multi_query", default=True):  # StarCoder
        num_kv_head = 1
    hidden = fields.size("hidden_size", "n_embd", "n_embed")
    context = fields.size("max_position_embeddings", "n_positions", "n_ctx", "seq_length", default=_context(kind))
    bias = fields.flag("enable_bias", default=True)
    if fields.size("word_embed_proj_dim", default=hidden) != hidden:
        raise InputError(
            "an embedding of another width than the layers is not supported",
            file=fields.file,
            field="word_embed_proj_dim",
            value=fields.raw["word_embed_proj_dim"],
            allowed=str(hidden),
        )
    inter = fields.size("ffn_dim", "n_inner", "intermediate_size", default=4 * hidden)
    block = Block(
        Attention(num_head, num_kv_head, dim, dim, qkv_bias=bias, out_bias=bias),
        FeedForward(inter, gated=False, bias=bias),
    )
    return ModelSpec(
        name=name,
        family="gpt",
        hidden=hidden,
        vocab=fields.size("vocab_size"),
        max_context=context,
        block=(block,),
        layer=(0,) * fields.size("num_hidden_layers", "n_layer", high=10_000),
        norm="layer",
        norm_bias=True,
        tied=fields.flag("tie_word_embeddings", default=True),
        position="alibi" if kind == "bloom" else "learned",
        position_row=0 if kind == "bloom" else context + (OPT_OFFSET if kind == "opt" else 0),
        embed_norm=kind == "bloom",
    )


def _context(kind: str) -> int | None:
    return 2048 if kind == "bloom" else None  # ALiBi has no table; BLOOM was trained on 2,048 tokens
