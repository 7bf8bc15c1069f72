"""A checkpoint's own number formats, tensor by tensor."""

import pathlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from workloads.models.fields import read_json
from workloads.models.quantization import Quantization, Scheme
from workloads.models.spec import ModelSpec
from workloads.models.tensor import Tensor
from workloads.models.tensors import block_tensors, tensors

ABSORBED = "kv_b"  # latent projections are kept in the activations' format, as the kernels multiply them


class PartFormat(NamedTuple):
    """What most of a part of the model is stored in, and the bits a weight of all of it."""

    scheme: Scheme | None
    bit: float


def beside(path: pathlib.Path) -> pathlib.Path | None:
    """The `hf_quant_config.json` that belongs to a configuration: in its folder, or with its name in front."""
    stem = path.stem
    if stem == "config":
        candidates = ["hf_quant_config.json"]
    else:
        base = stem.removesuffix("_config").removesuffix("-config").removesuffix(".config")
        candidates = [f"{base}{sign}hf_quant_config.json" for sign in "_-."]
    return next((path.parent / name for name in candidates if (path.parent / name).is_file()), None)


def quantization(raw: Mapping[str, Any], file: object, sibling: pathlib.Path | None = None) -> Quantization | None:
    """What `config.json` says (at its top or in its text model), else what the file beside it says; where both do,
    the configuration's schemes hold and either may name the KV format."""
    said = raw.get("quantization_config")
    if said is None:
        inner: Any = next((raw[key] for key in ("text_config", "llm_config", "language_config") if raw.get(key)), {})
        said = inner.get("quantization_config") if isinstance(inner, Mapping) else None
    if not said and sibling is None:
        return None
    from workloads.models import methods  # most configurations have no use for them

    other = methods.read(read_json(sibling), sibling) if sibling is not None else None
    if not said:
        return other
    if not isinstance(said, Mapping):
        said = {"quant_method": said}
    found = methods.read(said, file)
    if other is not None and not found.kv:
        found = replace(found, kv=other.kv)
    return found


def with_experts_of(found: Quantization | None, expert: str) -> Quantization | None:
    """The same where the configuration names the experts' format apart (`expert_dtype` of DeepSeek-V4)."""
    if found is None or expert not in ("fp4", "mxfp4"):
        return found
    from workloads.models.schemes import MXFP4_A16  # its activations are wider

    return replace(found, part=(*found.part, ("expert", MXFP4_A16)))


def tensor_byte(
    model: ModelSpec, found: Quantization, stored_byte: float, start: int = 0, stop: int | None = None
) -> dict[Tensor, float]:
    """Bytes a weight of each tensor of layers `start:stop`, summed over the layers that have it."""
    total: dict[Tensor, float] = {}
    for tensor, scheme in _stored(model, found, start, stop):
        byte = scheme.bit / 8 if scheme is not None else stored_byte
        total[tensor] = total.get(tensor, 0.0) + byte
    return total


def part_formats(model: ModelSpec, found: Quantization, stored_bit: float) -> dict[str, PartFormat]:
    """What each part of the model is stored in: the scheme of most of its weights, and the mean bits a weight."""
    value: dict[str, Counter[Scheme | None]] = {}
    for tensor, scheme in _stored(model, found, 0, None):
        if tensor.module or tensor.part in ("head", "embedding"):
            value.setdefault(tensor.part, Counter())[scheme] += tensor.value
    return {
        part: PartFormat(
            counts.most_common(1)[0][0],
            sum((scheme.bit if scheme else stored_bit) * n for scheme, n in counts.items()) / counts.total(),
        )
        for part, counts in value.items()
    }


def _stored(model: ModelSpec, found: Quantization, start: int, stop: int | None) -> list[tuple[Tensor, Scheme | None]]:
    """Every tensor of every layer with its scheme."""
    stop = model.num_layer if stop is None else stop
    held = {block: block_tensors(model, block) for block in model.num_block(start, stop)}
    inside = {tensor.name for each in held.values() for tensor in each}
    result: list[tuple[Tensor, Scheme | None]] = [
        (tensor, {"embed": found.embedding, "lm_head": found.embedding if model.tied else found.head}.get(tensor.name))
        for tensor in tensors(model, start, stop)
        if tensor.name not in inside or tensor.part == "embedding"
    ]
    scoped = found.by_layer(model.num_layer)
    for layer in range(start, stop):
        for tensor in held[model.block[model.layer[layer]]]:
            modules = () if tensor.name == ABSORBED else tensor.module
            result.append((tensor, scoped[layer].of(modules, tensor.part, layer)))
    return result
