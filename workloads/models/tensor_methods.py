"""Methods that name the formats of weights and of activations: fp8 and mxfp4 as Transformers writes them,
compressed-tensors, ModelOpt, Quark."""

from typing import Any

from kernels.errors import InputError
from workloads.models.quantization import Quantization, Scheme
from workloads.models.schemes import (
    FP8,
    INT8,
    MXFP4,
    MXFP4_A16,
    MXFP8,
    NVFP4,
    SCALE_BIT,
    W4A8,
    Fields,
    fp8_block,
    kv_format,
    weight_only,
    words,
)


def fp8(fields: Fields, file: object) -> Quantization:
    block = fields.get("weight_block_size")
    scheme = fp8_block(block, file) if block else FP8
    exclude = words(fields, "modules_to_not_convert", "ignored_layers", "ignore")
    return Quantization("fp8", scheme, exclude, kv=kv_format(fields.get("kv_cache_scheme"), file))


def mxfp4(fields: Fields, file: object) -> Quantization:
    """gpt-oss: the experts alone, whatever else the list leaves out."""
    return Quantization("mxfp4", MXFP4_A16, words(fields, "modules_to_not_convert"), only=("expert",))


def mxfp8(fields: Fields, file: object) -> Quantization:
    return Quantization("mxfp8", MXFP8, words(fields, "modules_to_not_convert", "ignored_layers", "ignore"))


def w4afp8(fields: Fields, file: object) -> Quantization:
    """SGLang's: experts in 4 bits with fp8 activations, the other matrices in fp8 by blocks."""
    other = fp8_block(fields.get("weight_block_size") or [128, 128], file)
    return Quantization("w4afp8", other, words(fields, "ignored_layers", "ignore"), part=(("expert", W4A8),))


def arguments(weights: Fields, inputs: Fields | None, file: object) -> Scheme:
    """A scheme from compressed-tensors' arguments of weights and input activations."""
    bits, kind = int(weights.get("num_bits", 8)), str(weights.get("type", "int"))
    strategy, group = weights.get("strategy"), int(weights.get("group_size") or 0)
    act = int(inputs.get("num_bits", 8)) if inputs else 16
    if kind == "float" and bits == 8:
        block = weights.get("block_structure")
        if isinstance(block, str):
            block = [int(side) for side in block.split("x")]
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
    if (bits, act, kind) == (8, 8, "int"):
        return INT8
    if kind == "float":  # MX with a byte a group (Quark's mxfp6)
        return Scheme("", bits + (8 / group if group else 0.0), f"mxfp{bits}" if group == 32 else f"fp{bits}")
    return Scheme("", bits + (SCALE_BIT / group if group else 0.0), f"w{bits}a{act}")


def compressed(fields: Fields, file: object) -> Quantization:
    """compressed-tensors: groups of targets with arguments each; targets are module classes or names."""
    exclude = words(fields, "ignore")
    scheme: Scheme | None = None
    head: Scheme | None = None
    own: list[tuple[str, Scheme | None]] = []
    for group in (fields.get("config_groups") or {}).values():
        weights = group.get("weights")
        if not weights:
            continue
        found = arguments(weights, group.get("input_activations"), file)
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
    kv = kv_format(fields.get("kv_cache_scheme"), file)
    if scheme is None and not own and not kv:
        raise InputError("quantises nothing", file=file, field="quantization_config.config_groups",
                         value=fields.get("config_groups"), allowed="groups with weights")  # fmt: skip
    return Quantization("compressed-tensors", scheme, exclude, tuple(own), head=head, kv=kv)


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
        raise InputError(
            "unknown algorithm", file=file, field="quant_algo", value=name, allowed=[*ALGORITHMS, "MIXED_PRECISION"]
        )
    if isinstance(group, int) and group > 0 and found.name == "w4a16" and found.said == "w4a16":
        return weight_only(4, group)
    return found


def modelopt(fields: Fields, file: object) -> Quantization:
    """ModelOpt's `hf_quant_config.json` (its `quantization` table) and what it writes into `config.json`."""
    exclude = words(fields, "exclude_modules", "ignore", "modules_to_not_convert")
    kv = kv_format(fields.get("kv_cache_quant_algo") or fields.get("kv_cache_scheme"), file)
    name = fields.get("quant_algo")
    if name is None:
        scheme = None if kv and not fields.get("config_groups") else compressed(fields, file).scheme
        return Quantization("modelopt", scheme, exclude, kv=kv)
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


QUARK_BIT = {"fp8_e4m3": 8, "int8": 8, "uint8": 8, "fp6_e3m2": 6, "fp6_e2m3": 6, "fp4": 4, "int4": 4, "uint4": 4,
             "mxfp4": 4, "int2": 2}  # fmt: skip


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
    said: dict[str, Any] = {"num_bits": QUARK_BIT[kind], "type": "float" if "fp" in kind else "int",
                 "group_size": 32 if kind == "mxfp4" or (kind == "fp4" and not group) else group}  # fmt: skip
    act = {"num_bits": QUARK_BIT.get(str(inputs.get("dtype")), 16)} if inputs else None
    return arguments(said, act if act and act["num_bits"] < 16 else None, file)


def quark(fields: Fields, file: object) -> Quantization:
    own = tuple(
        (name, _quark_scheme(config, file)) for name, config in (fields.get("layer_quant_config") or {}).items()
    )
    kv = (fields.get("export") or {}).get("kv_cache_group") or fields.get("kv_cache_group") or ()
    return Quantization(
        "quark", _quark_scheme(fields.get("global_quant_config"), file), words(fields, "exclude"), own,
        kv="fp8" if kv else "",
    )  # fmt: skip
