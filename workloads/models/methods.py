"""Every method of quantising that checkpoints name, and the reading of `quantization_config`."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from kernels.errors import InputError
from workloads.models.quantization import Quantization
from workloads.models.schemes import Fields
from workloads.models.tensor_methods import compressed, fp8, modelopt, mxfp4, mxfp8, quark, w4afp8
from workloads.models.weight_methods import auto_round, awq, bitsandbytes, eetq, gptq, hqq, mlx, quanto, torchao

METHODS: dict[str, Callable[[Fields, object], Quantization]] = {
    "awq": awq,
    "awq_marlin": awq,
    "gptq": gptq,
    "gptq_marlin": gptq,
    "auto-round": auto_round,
    "intel/auto-round": auto_round,
    "auto_round": auto_round,
    "bitsandbytes": bitsandbytes,
    "fp8": fp8,
    "fbgemm_fp8": fp8,
    "finegrained_fp8": fp8,
    "mxfp4": mxfp4,
    "compressed-tensors": compressed,
    "compressed_tensors": compressed,
    "modelopt": modelopt,
    "modelopt_fp4": modelopt,
    "modelopt_mixed": modelopt,
    "modelopt_mxfp8": modelopt,
    "nvfp4": modelopt,
    "mxfp8": mxfp8,
    "w4afp8": w4afp8,
    "quark": quark,
    "hqq": hqq,
    "eetq": eetq,
    "quanto": quanto,
    "torchao": torchao,
    "mlx": mlx,
}


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
        elif {"bits", "group_size"} <= set(fields):
            method = "mlx"
    reader = METHODS.get(str(method).lower())
    if reader is None:
        raise InputError(
            "unknown method", file=file, field="quantization_config.quant_method", value=method, allowed=sorted(METHODS)
        )
    try:
        return reader(fields, file)
    except InputError:
        raise
    except (TypeError, AttributeError, ArithmeticError, LookupError, ValueError, re.error) as error:
        raise InputError(
            f"cannot be read ({error})",
            file=file,
            field="quantization_config",
            value=method,
            allowed="as the method writes it",
        ) from error
