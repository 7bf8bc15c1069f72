"""Pure state-space models, no layer of which keeps keys: Mamba (arXiv 2312.00752), Falcon-Mamba and Mamba-2 (arXiv
2405.21060)."""

from workloads.models.families.qwen3_next import state_byte
from workloads.models.fields import Fields
from workloads.models.layers.base import Mixer
from workloads.models.layers.mamba import Mamba1, Mamba2
from workloads.models.spec import NO_ATTENTION, NO_FFN, Block, ModelSpec

MODEL_TYPES = ("mamba", "falcon_mamba", "mamba2")
UNBOUND = 1_048_576  # tokens; nothing in these models ends the context


def read(fields: Fields, name: str) -> ModelSpec:
    hidden = fields.size("hidden_size", "d_model")
    inner = fields.size("intermediate_size", "d_inner", default=fields.size("expand", default=2, high=100) * hidden)
    conv_bias, bias = fields.flag("use_conv_bias", default=True), fields.flag("use_bias", default=False)
    kernel = fields.size("conv_kernel", "d_conv", default=4, high=1000)
    mixer: Mixer
    if fields.word("model_type") == "mamba2":
        dim = fields.size("head_dim", default=64, high=10_000)
        mixer = Mamba2(
            fields.size("num_heads", default=inner // dim, high=100_000), dim,
            fields.size("state_size", default=128, high=10_000), fields.size("n_groups", default=1, high=10_000),
            kernel, conv_bias, bias, True, state_byte(fields),
        )  # fmt: skip
    else:
        rank = fields.raw.get("time_step_rank", "auto")
        rank = -(-hidden // 16) if rank == "auto" else fields.size("time_step_rank")
        state = fields.size("state_size", default=16, high=10_000)
        mixer = Mamba1(inner, state, rank, kernel, conv_bias, bias, False, state_byte(fields))
    return ModelSpec(
        name=name,
        family="mamba",
        hidden=hidden,
        vocab=fields.size("vocab_size"),
        max_context=fields.size("max_position_embeddings", default=UNBOUND),
        block=(Block(NO_ATTENTION, NO_FFN, num_norm=1, mixer=mixer),),
        layer=(0,) * fields.size("num_hidden_layers", "n_layer", high=10_000),
        tied=fields.flag("tie_word_embeddings", default=True),
        position="none",
    )
