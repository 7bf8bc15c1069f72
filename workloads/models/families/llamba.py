"""Llamba (arXiv 2502.14458): Llama's blocks with discrete Mamba-2 in place of attention, a head of keys and queries for
each head of values, no norm before the output, and every token's channels convolved."""

from workloads.models.families.mamba import UNBOUND
from workloads.models.families.qwen3_next import state_byte
from workloads.models.fields import Fields
from workloads.models.layers.mamba import Mamba2
from workloads.models.spec import NO_ATTENTION, Block, FeedForward, ModelSpec

MODEL_TYPES = ("llamba",)


def read(fields: Fields, name: str) -> ModelSpec:
    hidden = fields.size("d_model")
    ssm, mlp = fields.table("ssm_cfg"), fields.table("mlp_cfg")
    inner = ssm.size("expand", default=1, high=100) * hidden
    num_head = ssm.size("n_v_heads", high=10_000)
    ssm.check_divides(num_head, inner, "n_v_heads")
    mixer = Mamba2(
        num_head, inner // num_head, ssm.size("d_state", high=10_000), ssm.size("n_qk_heads", high=num_head),
        ssm.size("d_conv", default=4, high=1000), proj_bias=ssm.flag("bias", default=False), gated_norm=False,
        state_byte=state_byte(fields) or 4.0,  # the authors' code allocates fp32
    )  # fmt: skip
    ffn = FeedForward(mlp.size("intermediate_size"), bias=mlp.flag("bias", default=False))
    # D of each head and the gate's bias, where plain Mamba-2 has A, D and the bias of dt
    block = Block(NO_ATTENTION, ffn, mixer=mixer, extra_value=inner + num_head - 3 * num_head)
    multiple = fields.size("pad_vocab_size_multiple", default=8, high=100_000)
    return ModelSpec(
        name=name,
        family="llamba",
        hidden=hidden,
        vocab=-(-fields.size("vocab_size") // multiple) * multiple,
        max_context=fields.size("max_position_embeddings", default=UNBOUND),
        block=(block,),
        layer=(0,) * fields.size("n_layer", high=10_000),
        tied=fields.flag("tie_embeddings", default=False),
        position="none",
    )
