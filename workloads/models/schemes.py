"""The schemes that methods of quantising use, and how their stored bits are counted.

Stored bits a weight, for groups of `g` weights: the weight's own, a 16-bit scale (16 / g), a zero point of the
weight's width where the scheme is asymmetric (bits / g). Sources: AutoAWQ's and GPTQModel's packed tensors
(`qweight`, `scales`, `qzeros`), compressed-tensors' `QuantizationArgs`, bitsandbytes' 64-weight blocks, OCP MX
(an 8-bit exponent a 32 values), NVFP4 (an fp8 scale a 16 values), DeepSeek's fp32 scale a 128 x 128 block.
"""

import math
from collections.abc import Mapping
from typing import Any

from kernels.errors import InputError
from workloads.models.quantization import Scheme

Fields = Mapping[str, Any]
SCALE_BIT = 16


def weight_only(bits: float, group: int, zero: bool = False) -> Scheme:
    """Integer weights of `bits`, activations in 16 bits.

    >>> weight_only(4, 128, zero=True)
    Scheme(name='w4a16', bit=4.15625, said='w4a16')
    """
    stored = bits + (SCALE_BIT + (bits if zero else 0)) / group if group > 0 else float(bits)
    name = {4: "w4a16", 8: "w8a16"}.get(int(bits), "")
    return Scheme(name, stored, f"w{bits:g}a16")


def fp8_block(block: Any, file: object) -> Scheme:
    """Blocks with an fp32 scale each."""
    if not isinstance(block, list) or len(block) != 2 or not all(isinstance(b, int) and b > 0 for b in block):
        raise InputError("not a block", file=file, field="weight_block_size", value=block, allowed="two sizes")
    return Scheme("fp8_block", 8 + 32 / math.prod(block))


def words(fields: Fields, *names: str) -> tuple[str, ...]:
    return tuple(str(word) for name in names for word in fields.get(name) or ())


def whole(fields: Fields, *names: str, default: int) -> int:
    for name in names:
        value = fields.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return default


def kv_format(said: Any, file: object) -> str:
    """The KV format that a scheme asks for, empty where it asks for none.

    >>> kv_format("FP8", "x"), kv_format({"num_bits": 8, "type": "float"}, "x"), kv_format(None, "x")
    ('fp8', 'fp8', '')
    """
    if not said:
        return ""
    if isinstance(said, Mapping):
        said = ("fp" if said.get("type") == "float" else "int") + str(said.get("num_bits", 8))
    found = {"fp8": "fp8", "int8": "int8", "nvfp4": "nvfp4", "fp4": "nvfp4", "int4": "int4", "none": "",
             "nvfp4_affine": "nvfp4", "mxfp4": "mxfp4"}.get(str(said).lower())  # fmt: skip
    if found is None:
        raise InputError(
            "unknown KV format", file=file, field="kv_cache_scheme", value=said, allowed="FP8, INT8, NVFP4"
        )
    return found


FP8 = Scheme("fp8", 8.0)
INT8 = Scheme("int8", 8.0)
NVFP4 = Scheme("nvfp4", 4 + 8 / 16)
MXFP4 = Scheme("mxfp4", 4 + 8 / 32)
MXFP4_A16 = Scheme("mxfp4_a16", 4 + 8 / 32)
MXFP8 = Scheme("mxfp8", 8 + 8 / 32)
W4A8 = Scheme("", 4 + SCALE_BIT / 128, "w4a8")
