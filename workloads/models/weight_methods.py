"""Methods that store integer weights and widen them in the kernel: AWQ, GPTQ, AutoRound, bitsandbytes, HQQ, torchao,
MLX."""

from collections.abc import Mapping
from typing import Any

from kernels.errors import InputError
from workloads.models.quantization import Quantization, Scheme
from workloads.models.schemes import (
    FP8,
    INT8,
    MXFP4,
    MXFP8,
    NVFP4,
    SCALE_BIT,
    Fields,
    weight_only,
    whole,
    words,
)

BNB_BLOCK = 64  # weights a scale of bitsandbytes' 4-bit formats
BNB_NESTED = 256  # scales a scale of the second level


def awq(fields: Fields, file: object) -> Quantization:
    bits, group = whole(fields, "bits", "w_bit", default=4), whole(fields, "group_size", "q_group_size", default=128)
    scheme = weight_only(bits, group, bool(fields.get("zero_point", True)))
    return Quantization("awq", scheme, words(fields, "modules_to_not_convert"))


def gptq(fields: Fields, file: object) -> Quantization:
    bits, group = whole(fields, "bits", default=4), whole(fields, "group_size", default=128)
    zero = not fields.get("sym", True)
    scheme = weight_only(bits, group, zero)
    exclude, own = [*words(fields, "modules_to_not_convert")], []
    for pattern, change in (fields.get("dynamic") or {}).items():
        if pattern.startswith("-"):
            exclude.append("re:.*" + pattern.removeprefix("-:"))
        else:
            other = weight_only(int(change.get("bits", bits)), int(change.get("group_size", group)), zero)
            own.append(("re:.*" + pattern.removeprefix("+:"), other))
    head = scheme if fields.get("lm_head") else None
    return Quantization("gptq", scheme, tuple(exclude), tuple(own), head=head)


def auto_round(fields: Fields, file: object) -> Quantization:
    bits, group = whole(fields, "bits", default=4), whole(fields, "group_size", default=128)
    zero = not fields.get("sym", True)
    own = []
    for name, change in (fields.get("extra_config") or {}).items():
        width = int(change.get("bits", bits))
        own.append((name, None if width >= 16 else weight_only(width, int(change.get("group_size", group)), zero)))
    said = str(fields.get("data_type", "int"))
    scheme = weight_only(bits, group, zero)
    if said != "int":
        scheme = {("mx_fp", 4): MXFP4, ("nv_fp", 4): NVFP4, ("fp", 8): FP8, ("mx_fp", 8): MXFP8}.get(
            (said.rstrip("48"), bits), Scheme("", float(bits), f"{said}{bits}")
        )
    return Quantization("auto-round", scheme, own=tuple(own))


def bitsandbytes(fields: Fields, file: object) -> Quantization:
    skip = words(fields, "llm_int8_skip_modules")
    if fields.get("load_in_8bit") or fields.get("_load_in_8bit"):
        return Quantization("bitsandbytes", INT8, skip)
    if not (fields.get("load_in_4bit") or fields.get("_load_in_4bit")):
        raise InputError("says neither 4 nor 8 bits", file=file, field="quantization_config.load_in_4bit", value=None,
                         allowed="load_in_4bit or load_in_8bit")  # fmt: skip
    nested = bool(fields.get("bnb_4bit_use_double_quant", False))
    scale = 8 / BNB_BLOCK + 32 / (BNB_BLOCK * BNB_NESTED) if nested else 32 / BNB_BLOCK
    name = str(fields.get("bnb_4bit_quant_type", "fp4"))
    return Quantization("bitsandbytes", Scheme("w4a16", 4 + scale, name), skip)


def hqq(fields: Fields, file: object) -> Quantization:
    weight = (fields.get("quant_config") or fields).get("weight_quant_params") or fields
    bits, group = whole(weight, "nbits", "bits", default=4), whole(weight, "group_size", default=64)
    stored = bits + 2 * SCALE_BIT / group  # a scale and a zero point, 16 bits each
    return Quantization("hqq", Scheme({4: "w4a16", 8: "w8a16"}.get(bits, ""), stored, f"w{bits}a16"),
                        words(fields, "skip_modules"))  # fmt: skip


def eetq(fields: Fields, file: object) -> Quantization:
    """EETQ: 8 bits a weight, a scale a channel."""
    return Quantization("eetq", weight_only(8, 0), words(fields, "modules_to_not_convert"))


QUANTO = {"float8": Scheme("w8a16", 8.0), "int8": weight_only(8, 0), "int4": weight_only(4, 128, zero=True),
          "int2": weight_only(2, 128, zero=True)}  # fmt: skip


def quanto(fields: Fields, file: object) -> Quantization:
    """Quanto: weights alone (`weights`), unless activations are named too."""
    said, inputs = fields.get("weights"), fields.get("activations")
    if said not in QUANTO:
        raise InputError("unknown number format", file=file, field="weights", value=said, allowed=list(QUANTO))
    both = {("int8", "int8"): INT8, ("float8", "float8"): FP8}.get((str(said), str(inputs)))
    if inputs and both is None:
        both = Scheme("", QUANTO[said].bit, f"{said} with {inputs}")
    return Quantization("quanto", both or QUANTO[said], words(fields, "modules_to_not_convert"))


def torchao(fields: Fields, file: object) -> Quantization:
    """torchao: a configuration class by name (`Int4WeightOnlyConfig`), or an older word (`int4_weight_only`)."""
    said: Any = fields.get("quant_type")
    said = said.get("default", said) if isinstance(said, Mapping) else said
    name = str(said.get("_type") if isinstance(said, Mapping) else said)
    data = said.get("_data", {}) if isinstance(said, Mapping) else fields.get("quant_type_kwargs") or {}
    word = name.lower().replace("_", "")
    group = whole(data, "group_size", default=128)
    for sign, scheme in (
        ("float8dynamic", FP8),
        ("float8weightonly", Scheme("w8a16", 8.0)),
        ("int8dynamicactivationint4weight", Scheme("", 4 + SCALE_BIT / group, "w4a8")),
        ("int8dynamicactivationint8weight", INT8),
        ("int8weightonly", Scheme("w8a16", 8.0)),
        ("int4weightonly", weight_only(4, group, zero=True)),
    ):
        if sign in word:
            return Quantization("torchao", scheme, words(fields, "modules_to_not_convert"))
    raise InputError("unknown configuration", file=file, field="quant_type", value=name,
                     allowed="int4, int8 or float8, weight only or dynamic")  # fmt: skip


def mlx(fields: Fields, file: object) -> Quantization:
    """MLX: every matrix, embedding and head included, with a 16-bit scale and bias a group."""
    bits, group = whole(fields, "bits", default=4), whole(fields, "group_size", default=64)
    scheme = Scheme({4: "w4a16", 8: "w8a16"}.get(bits, ""), bits + 2 * SCALE_BIT / group, f"w{bits}a16")
    return Quantization("mlx", scheme, head=scheme, embedding=scheme)
