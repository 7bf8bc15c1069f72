"""Which kernel file prices each operator kind: the names of its fit slots and its ideal vector."""

from typing import NamedTuple

from kernels.attention import ATTENTION_FIT, IDEAL_ATTENTION
from kernels.attention_backward import BACKWARD_FIT, IDEAL_BACKWARD
from kernels.collective import COLLECTIVE_FIT, IDEAL_COLLECTIVE
from kernels.expert_exchange import EXCHANGE_FIT, IDEAL_EXCHANGE
from kernels.gemm import GEMM_FIT, IDEAL_GEMM
from kernels.kv_write import IDEAL_KV_WRITE, KV_WRITE_FIT
from kernels.moe import IDEAL_MOE, MOE_FIT
from kernels.scan import IDEAL_SCAN, SCAN_FIT
from kernels.stream import IDEAL_STREAM, STREAM_FIT


class Form(NamedTuple):
    names: tuple[str, ...]  # slots of the fit vector, in order
    ideal: tuple[float, ...]  # speed of light


STREAM_KINDS = ("norm", "rope", "act", "add", "embed", "sample", "convert", "copy")
ATTENTION_KINDS = ("attn_prefill", "attn_decode")
COLLECTIVE_KINDS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p")
EXCHANGE_KINDS = ("dispatch", "combine")

SCAN_KINDS = ("scan", "scan_channel")
RECURRENT_KINDS = ("conv", "recur", *SCAN_KINDS)

KIND_RELATIVES: dict[str, str] = {"optimizer": "add", "loss": "add", "conv": "copy", "recur": "copy"}
"""Whose constants an element-wise kind takes that was not measured: streams of many tensors, as an add is; passes over
a state, as a copy is."""

FORMS: dict[str, Form] = {
    "gemm": Form(GEMM_FIT, IDEAL_GEMM),
    "moe": Form(MOE_FIT, IDEAL_MOE),
    **{kind: Form(ATTENTION_FIT, IDEAL_ATTENTION) for kind in ATTENTION_KINDS},
    "attn_backward": Form(BACKWARD_FIT, IDEAL_BACKWARD),
    "kv_write": Form(KV_WRITE_FIT, IDEAL_KV_WRITE),
    **{kind: Form(STREAM_FIT, IDEAL_STREAM) for kind in (*STREAM_KINDS, *KIND_RELATIVES)},
    **{kind: Form(SCAN_FIT, IDEAL_SCAN) for kind in SCAN_KINDS},
    **{kind: Form(COLLECTIVE_FIT, IDEAL_COLLECTIVE) for kind in COLLECTIVE_KINDS},
    **{kind: Form(EXCHANGE_FIT, IDEAL_EXCHANGE) for kind in EXCHANGE_KINDS},
}

EAGER = frozenset(
    {"host_s", "host_copy", "switched_host_s", "weight_copy", "warm_share", "clumped"}
)  # of a benchmark alone: eager dispatch, full caches, an odd draw of loads

FORMAT_RELATIVES: dict[str, tuple[str, ...]] = {  # whose constants a format takes that was not measured
    "fp32": ("bf16",),
    "tf32": ("bf16",),
    "fp16": ("bf16",),
    "fp8": ("bf16",),
    "fp8_block": ("fp8", "bf16"),
    "mxfp8": ("fp8_block", "fp8", "bf16"),
    "int8": ("fp8", "bf16"),
    "int4": ("fp8", "bf16"),
    "nvfp4": ("fp8", "bf16"),
    "mxfp4": ("fp8", "bf16"),
    "w8a16": ("bf16",),
    "w4a16": ("mxfp4_a16", "bf16"),
    "mxfp4_a16": ("w4a16", "bf16"),
    "int2": ("int4", "fp8", "bf16"),
    "int1": ("int4", "fp8", "bf16"),
}
UNMEASURED_SIGMA = 0.45
"""Of the log of time, of a format that takes another's constants: what bf16's make of H100's multiplies in fp8 and
fp8_block, which were measured, over 112 shapes (0.55, 0.44, 0.45); they are 30 % too fast."""
