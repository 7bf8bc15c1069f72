"""Number formats as stored and as computed.

A *format* says how many bits a value takes in memory, scales included, and which pipe of a machine
multiplies it. Weights, activations, KV and accumulators each have their own; a GEMM's `fmt` names the
pair of weight and activation formats (`w4a16` stores 4-bit weights and computes in bf16).
"""

from typing import NamedTuple


class Format(NamedTuple):
    name: str
    weight_bit: float  # stored bits a weight (or KV value), scales included
    act_bit: float  # stored bits an activation
    pipe: str  # the peak rate that it runs at
    convert: bool  # weights are widened in the kernel before the multiply


FORMATS: tuple[Format, ...] = (
    Format("fp32", 32, 32, "fp32", False),
    Format("tf32", 32, 32, "tf32", False),
    Format("bf16", 16, 16, "bf16", False),
    Format("fp16", 16, 16, "fp16", False),
    Format("fp8", 8, 8, "fp8", False),  # one scale a tensor, or a token and a channel
    Format("fp8_block", 8 + 32 / (128 * 128), 8 + 32 / 128, "fp8", False),  # fp32 scale a 128x128 block / 1x128
    Format("int8", 8, 8, "int8", False),  # w8a8
    Format("int4", 4, 4, "int4", False),  # w4a4
    Format("nvfp4", 4 + 8 / 16, 4 + 8 / 16, "fp4", False),  # one fp8 scale a group of 16
    Format("mxfp4", 4 + 8 / 32, 4 + 8 / 32, "fp4", False),  # one 8-bit exponent a group of 32
    Format("w8a16", 8, 16, "bf16", True),
    Format("w4a16", 4 + 16 / 128, 16, "bf16", True),  # one 16-bit scale a group of 128
    Format("mxfp4_a16", 4 + 8 / 32, 16, "bf16", True),
    Format("int2", 2, 16, "bf16", True),  # KV only
    Format("int1", 1, 16, "bf16", True),  # KV only
    Format("mxfp8", 8 + 8 / 32, 8 + 8 / 32, "fp8", False),  # one 8-bit exponent a group of 32
)
NUM_FORMAT = len(FORMATS)
FORMAT_CODE: dict[str, int] = {f.name: code for code, f in enumerate(FORMATS)}
ALIASES = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "w8a8": "int8", "w4a4": "int4"}
PIPES: tuple[str, ...] = ("fp32", "tf32", "bf16", "fp16", "fp8", "int8", "int4", "fp4")
