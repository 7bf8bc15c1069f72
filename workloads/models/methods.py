"""Every method of quantising that checkpoints name: from the fields of its configuration to a `Quantization`.

Stored bits a weight, for groups of `g` weights: the weight's own, a 16-bit scale (16 / g), a zero point of the
weight's width where the scheme is asymmetric (bits / g). Sources: AutoAWQ's and GPTQModel's packed tensors
(`qweight`, `scales`, `qzeros`), compressed-tensors' `QuantizationArgs`, bitsandbytes' 64-weight blocks, OCP MX
(an 8-bit exponent a 32 values), NVFP4 (an fp8 scale a 16 values), DeepSeek's fp32 scale a 128 x 128 block.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from kernels.errors import InputError
from workloads.models.quantization import Quantization, Scheme

Fields = Mapping[str, Any]
SCALE_BIT = 16
BNB_BLOCK = 64  # weights a scale of bitsandbytes' 4-bit formats
BNB_NESTED = 256  # scales a scale of the second level


def weight_only(bits: float, group: int, zero: bool = False) -> Scheme:
    """Integer weights of `bits`, activations in 16 bits.

    >>> weight_only(4, 128, zero=True)
    Scheme(name='w4a16', bit=4.15625, said='w4a16')
    """
    stored = bits + (SCALE_BIT + (bits if zero else 0)) / group if group > 0 else float(bits)
    name = {4: "w4a16", 8: "w8a16"}.get(int(bits), "")
    return Scheme(name, stored, f"w{bits:g}a16")


FP8 = Scheme("fp8", 8.0)
INT8 = Scheme("int8", 8.0)
NVFP4 = Scheme("nvfp4", 4 + 8 / 16)
MXFP4 = Scheme("mxfp4", 4 + 8 / 32)
MXFP4_A16 = Scheme("mxfp4_a16", 4 + 8 / 32)
MXFP8 = Scheme("fp8", 8 + 8 / 32)
W4A8 = Scheme("", 4 + SCALE_BIT / 128, "w4a8")


def fp8_block(block: Any, file: object) -> Scheme:
    """Blocks with an fp32 scale each."""
    if not isinstance(block, list) or len(block) != 2 or not all(isinstance(b, int) and b > 0 for b in block):
        raise InputError("not a block", file=file, field="weight_block_size", value=block, allowed="two sizes")
    return Scheme("fp8_block", 8 + 32 / math.prod(block))


def _words(fields: Fields, *names: str) -> tuple[str, ...]:
    return tuple(str(word) for name in names for word in fields.get(name) or ())


def _awq(fields: Fields, file: object) -> Quantization:
    scheme = weight_only(_int(fields, "bits", "w_bit", default=4), _int(fields, "group_size", "q_group_size", default=128),
                         bool(fields.get("zero_point", True)))  # fmt: skip
    return Quantization("awq", scheme, _words(fields, "modules_to_not_convert"))


def _gptq(fields: Fields, file: object) -> Quantization:
    bits, group = _int(fields, "bits", default=4), _int(fields, "group_size", default=128)
    zero = not fields.get("sym", True)
    scheme = weight_only(bits, group, zero)
    exclude, own = [*_words(fields, "modules_to_not_convert")], []
    for pattern, change in (fields.get("dynamic") or {}).items():
        if pattern.startswith("-"):
            exclude.append("re:.*" + pattern.removeprefix("-:"))
        else:
            other = weight_only(int(change.get("bits", bits)), int(change.get("group_size", group)), zero)
            own.append(("re:.*" + pattern.removeprefix("+:"), other))
    head = scheme if fields.get("lm_head") else None
    return Quantization("gptq", scheme, tuple(exclude), tuple(own), head=head)


def _auto_round(fields: Fields, file: object) -> Quantization:
    bits, group = _int(fields, "bits", default=4), _int(fields, "group_size", default=128)
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


def _bitsandbytes(fields: Fields, file: object) -> Quantization:
    skip = _words(fields, "llm_int8_skip_modules")
    if fields.get("load_in_8bit") or fields.get("_load_in_8bit"):
        return Quantization("bitsandbytes", INT8, skip)
    if not (fields.get("load_in_4bit") or fields.get("_load_in_4bit")):
        raise InputError("says neither 4 nor 8 bits", file=file, field="quantization_config.load_in_4bit", value=None,
                         allowed="load_in_4bit or load_in_8bit")  # fmt: skip
    nested = bool(fields.get("bnb_4bit_use_double_quant", False))
    scale = 8 / BNB_BLOCK + 32 / (BNB_BLOCK * BNB_NESTED) if nested else 32 / BNB_BLOCK
    name = str(fields.get("bnb_4bit_quant_type", "fp4"))
    return Quantization("bitsandbytes", Scheme("w4a16", 4 + scale, name), skip)


def _fp8(fields: Fields, file: object) -> Quantization:
    block = fields.get("weight_block_size")
    scheme = fp8_block(block, file) if block else FP8
    exclude = _words(fields, "modules_to_not_convert", "ignored_layers", "ignore")
    return Quantization("fp8", scheme, exclude, kv=kv_format(fields.get("kv_cache_scheme"), file))


def _mxfp4(fields: Fields, file: object) -> Quantization:
    """gpt-oss: the experts alone, whatever else the list leaves out."""
    return Quantization("mxfp4", MXFP4_A16, _words(fields, "modules_to_not_convert"), only=("expert",))


def _arguments(weights: Fields, inputs: Fields | None, file: object) -> Scheme:
    """A scheme from compressed-tensors' arguments of weights and input activations."""
    bits, kind = int(weights.get("num_bits", 8)), str(weights.get("type", "int"))
    strategy, group = weights.get("strategy"), int(weights.get("group_size") or 0)
    act = int(inputs.get("num_bits", 8)) if inputs else 16
    if kind == "float" and bits == 8:
        block = weights.get("block_structure")
        if strategy == "block" or (isinstance(block, list) and block):
            return fp8_block(block or [128, 128], file)
        if act == 16:
            return Scheme("w8a16", 8.0)
        return MXFP8 if group == 32 else FP8
    if kind == "float" and bits == 4:
        narrow = group in (0, 16)
        if act == 16:
            return Scheme("w4a16", NVFP4.bit, "nvfp4 a16") if narrow else MXFP4_A16
        if act == 8:
            return Scheme("", (NVFP4 if narrow else MXFP4).bit, "w4a8")
        return NVFP4 if narrow else MXFP4
    if act == 16:
        return weight_only(bits, group, not weights.get("symmetric", True))
    if (bits, act) == (8, 8):
        return INT8
    return Scheme("", bits + (SCALE_BIT / group if group else 0.0), f"w{bits}a{act}")


def _compressed(fields: Fields, file: object) -> Quantization:
    """compressed-tensors: groups of targets with arguments each; targets are module classes or names."""
    exclude = _words(fields, "ignore")
    scheme: Scheme | None = None
    head: Scheme | None = None
    own: list[tuple[str, Scheme | None]] = []
    for group in (fields.get("config_groups") or {}).values():
        weights = group.get("weights")
        if not weights:
            continue
        found = _arguments(weights, group.get("input_activations"), file)
        if "marlin-24" in str(group.get("format") or fields.get("format")):
            found = Scheme(found.name, found.bit - 4 + 3, found.said)  # half of the weights, 2 bits of place for each
        for target in group.get("targets") or ["Linear"]:
            if target == "Linear":
                scheme = found
            elif target == "lm_head" or target.endswith("lm_head"):
                head = found
            elif target.startswith("re:") or "." in target or "*" in target:
                own.append((target, found))
            else:  # another class of modules: fused experts
                own.append(("re:.*experts.*", found))
    if scheme is None and not own:
        raise InputError("quantises nothing", file=file, field="quantization_config.config_groups",
                         value=fields.get("config_groups"), allowed="groups with weights")  # fmt: skip
    return Quantization("compressed-tensors", scheme, exclude, tuple(own), head=head,
                        kv=kv_format(fields.get("kv_cache_scheme"), file))  # fmt: skip


ALGORITHMS: dict[str, Scheme] = {
    "FP8": FP8,
    "FP8_PER_CHANNEL_PER_TOKEN": FP8,
    "FP8_PB_WO": Scheme("fp8_block", 8 + 32 / 128**2),
    "FP8_PB_REAL": Scheme("fp8_block", 8 + 32 / 128**2),
    "FP8_BLOCK_SCALES": Scheme("fp8_block", 8 + 32 / 128**2),
    "MXFP8": MXFP8,
    "NVFP4": NVFP4,
    "NVFP4_AWQ": NVFP4,
    "NVFP4_SVDQUANT": NVFP4,
    "W4A16_NVFP4": Scheme("w4a16", NVFP4.bit, "nvfp4 a16"),
    "NVFP4A16": Scheme("w4a16", NVFP4.bit, "nvfp4 a16"),
    "W4A8_NVFP4_FP8": Scheme("", NVFP4.bit, "w4a8"),
    "MXFP4": MXFP4,
    "W4A16_MXFP4": MXFP4_A16,
    "W4A8_MXFP4_FP8": Scheme("", MXFP4.bit, "w4a8"),
    "W4A16": weight_only(4, 128),
    "W4A16_AWQ": weight_only(4, 128),
    "INT4_AWQ": weight_only(4, 128),
    "W4A8_AWQ": W4A8,
    "W8A16": weight_only(8, 0),
    "W8A8_SQ_PER_CHANNEL": INT8,
    "INT8_SQ": INT8,
}
"""ModelOpt's `quant_algo`."""


def _algorithm(name: Any, file: object, group: Any = None) -> Scheme:
    found = ALGORITHMS.get(str(name).upper())
    if found is None:
        raise InputError("unknown algorithm", file=file, field="quant_algo", value=name, allowed=[*ALGORITHMS, "MIXED_PRECISION"])
    if isinstance(group, int) and group > 0 and found.name == "w4a16" and found.said == "w4a16":
        return weight_only(4, group)
    return found


def _modelopt(fields: Fields, file: object) -> Quantization:
    """ModelOpt's `hf_quant_config.json` (its `quantization` table) and what it writes into `config.json`."""
    exclude = _words(fields, "exclude_modules", "ignore", "modules_to_not_convert")
    kv = kv_format(fields.get("kv_cache_quant_algo") or fields.get("kv_cache_scheme"), file)
    name = fields.get("quant_algo")
    if name is None:
        return Quantization("modelopt", _compressed(fields, file).scheme, exclude, kv=kv)
    if str(name).upper() == "MIXED_PRECISION":
        layers = fields.get("quantized_layers") or {}
        if not layers:
            raise InputError("mixed precision without a list", file=file, field="quantized_layers", value=layers,
                             allowed="module names with quant_algo")  # fmt: skip
        own = tuple(
            (layer, _algorithm(one.get("quant_algo"), file, one.get("group_size"))) for layer, one in layers.items()
        )
        return Quantization("modelopt", None, exclude, own, kv=kv)
    return Quantization("modelopt", _algorithm(name, file, fields.get("group_size")), exclude, kv=kv)


QUARK_BIT = {"fp8_e4m3": 8, "int8": 8, "uint8": 8, "fp4": 4, "int4": 4, "uint4": 4, "mxfp4": 4, "int2": 2}


def _quark_scheme(config: Fields | None, file: object) -> Scheme | None:
    weight = (config or {}).get("weight")
    if isinstance(weight, list):  # an fp8 view over packed int4
        weight = weight[-1]
    if not weight:
        return None
    kind = str(weight.get("dtype"))
    if kind not in QUARK_BIT:
        raise InputError("unknown number format", file=file, field="weight.dtype", value=kind, allowed=[*QUARK_BIT])
    inputs = (config or {}).get("input_tensors")
    if isinstance(inputs, list):
        inputs = inputs[-1]
    group = int(weight.get("group_size") or 0) if "group" in str(weight.get("qscheme")) else 0
    arguments = {"num_bits": QUARK_BIT[kind], "type": "float" if "fp" in kind else "int",
                 "group_size": 32 if kind == "mxfp4" or (kind == "fp4" and not group) else group}  # fmt: skip
    act = {"num_bits": QUARK_BIT.get(str(inputs.get("dtype")), 16)} if inputs else None
    return _arguments(arguments, act if act and act["num_bits"] < 16 else None, file)


def _quark(fields: Fields, file: object) -> Quantization:
    own = tuple(
        (name, _quark_scheme(config, file)) for name, config in (fields.get("layer_quant_config") or {}).items()
    )
    kv = (fields.get("export") or {}).get("kv_cache_group") or fields.get("kv_cache_group") or ()
    return Quantization(
        "quark", _quark_scheme(fields.get("global_quant_config"), file), _words(fields, "exclude"), own,
        kv="fp8" if kv else "",
    )  # fmt: skip


def _hqq(fields: Fields, file: object) -> Quantization:
    weight = (fields.get("quant_config") or fields).get("weight_quant_params") or fields
    bits, group = _int(weight, "nbits", "bits", default=4), _int(weight, "group_size", default=64)
    stored = bits + 2 * SCALE_BIT / group  # a scale and a zero point, 16 bits each
    return Quantization("hqq", Scheme({4: "w4a16", 8: "w8a16"}.get(bits, ""), stored, f"w{bits}a16"),
                        _words(fields, "skip_modules"))  # fmt: skip


def _int(fields: Fields, *names: str, default: int) -> int:
    for name in names:
        value = fields.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return default


METHODS: dict[str, Callable[[Fields, object], Quantization]] = {
    "awq": _awq,
    "awq_marlin": _awq,
    "gptq": _gptq,
    "gptq_marlin": _gptq,
    "auto-round": _auto_round,
    "intel/auto-round": _auto_round,
    "auto_round": _auto_round,
    "bitsandbytes": _bitsandbytes,
    "fp8": _fp8,
    "fbgemm_fp8": _fp8,
    "finegrained_fp8": _fp8,
    "mxfp4": _mxfp4,
    "compressed-tensors": _compressed,
    "compressed_tensors": _compressed,
    "modelopt": _modelopt,
    "modelopt_fp4": _modelopt,
    "modelopt_mixed": _modelopt,
    "modelopt_mxfp8": _modelopt,
    "nvfp4": _modelopt,
    "quark": _quark,
    "hqq": _hqq,
}


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
        raise InputError("unknown KV format", file=file, field="kv_cache_scheme", value=said, allowed="FP8, INT8, NVFP4")
    return found


def read(raw: Mapping[str, Any], file: object) -> Quantization:
    """A `Quantization` from the table `quantization_config`, or from the whole of an `hf_quant_config.json`.

    >>> read({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, "x").scheme.bit
    4.15625
    >>> read({"quant_method": "owq"}, "x")
    Traceback (most recent call last):
    ...
    kernels.errors.InputError: x: quantization_config.quant_method = 'owq': unknown method; allowed: ...
    """
    fields = raw.get("quantization", raw) if "quant_method" not in raw else raw
    if not isinstance(fields, Mapping):
        raise InputError("is not an object", file=file, field="quantization", value=fields)
    method = fields.get("quant_method")
    if method is None:
        producer = raw.get("producer") or fields.get("producer") or {}
        if "quant_algo" in fields or producer.get("name") == "modelopt":
            method = "modelopt"
        elif fields.get("load_in_4bit") or fields.get("load_in_8bit"):
            method = "bitsandbytes"
        elif "config_groups" in fields:
            method = "compressed-tensors"
    reader = METHODS.get(str(method).lower())
    if reader is None:
        raise InputError(
            "unknown method", file=file, field="quantization_config.quant_method", value=method, allowed=sorted(METHODS)
        )
    try:
        return reader(fields, file)
    except (TypeError, AttributeError, ValueError, re.error) as error:
        raise InputError(
            f"cannot be read ({error})", file=file, field="quantization_config", value=method, allowed="as the method writes it"
        ) from error
