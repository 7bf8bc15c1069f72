"""Which models exist, and how a configuration becomes a `ModelSpec`.

A ready model is `configs/<name>.json`. A family is a file of `families/` with `MODEL_TYPES`, the values of
`model_type` that it reads, and `read(fields, name) -> ModelSpec`; files are found by listing the folder.
"""

import functools
import importlib
import pathlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kernels.errors import InputError
from workloads.models import checkpoint, class_defaults, hub, unread, vision
from workloads.models.fields import Fields, read_json
from workloads.models.spec import ModelSpec

FOLDER = pathlib.Path(__file__).parent
MAX_WIDTH = 2**28  # columns of an operator are 32-bit, and a projection joins a few of these
Reader = Callable[[Fields, str], ModelSpec]


def names() -> list[str]:
    """Names of the ready models."""
    return sorted(path.stem for path in (FOLDER / "configs").glob("*.json"))


@functools.cache
def families() -> dict[str, Reader]:
    """`model_type` to the function that reads it."""
    found: dict[str, Reader] = {}
    for path in _files():
        module = _family(path)
        found.update(dict.fromkeys(module.MODEL_TYPES, module.read))
    return found


def _files() -> list[pathlib.Path]:
    return sorted((FOLDER / "families").glob("[a-z]*.py"))


def _family(path: pathlib.Path) -> Any:
    return importlib.import_module(f"workloads.models.families.{path.stem}")


@functools.cache
def _reader(kind: str) -> Reader | None:
    """The function that reads a `model_type`; files that do not write the word are not imported."""
    for path in _files():
        if f'"{kind}"' in path.read_text(encoding="utf-8") and kind in _family(path).MODEL_TYPES:
            found: Reader = _family(path).read
            return found
    return None


@functools.cache
def _ready(name: str) -> ModelSpec:
    return read_config(FOLDER / "configs" / f"{name}.json", name)


def load(model: str | pathlib.Path | ModelSpec, field: str = "model") -> ModelSpec:
    """A ready model by name, or any `config.json` by path (a text with a slash or ending in `.json`, of the file
    or of the folder that holds it), or an id of the hub (`workloads.models.hub`); a `ModelSpec` passes through.
    Errors name `field`.

    >>> load("mixtral-8x7b").block[0].ffn.num_expert
    8
    >>> load("lama-2-7b")
    Traceback (most recent call last):
    ...
    kernels.errors.InputError: model = 'lama-2-7b': no such model; ... (nearest: llama-2-7b)
    """
    if isinstance(model, ModelSpec):
        return model
    if isinstance(model, str) and model in names():
        return _ready(model)
    path = pathlib.Path(model)
    if isinstance(model, str) and hub.is_id(model) and path.suffix != ".json" and not path.exists():
        found = hub.resolve(model, field)
        return _ready(found) if isinstance(found, str) else read_config(found, model.partition("@")[0].split("/")[1])
    if isinstance(model, pathlib.Path) or path.suffix == ".json" or len(path.parts) > 1:
        return read_config(path / "config.json" if path.is_dir() else path)
    raise InputError("no such model", field=field, value=model, allowed=names())


def read_config(path: str | pathlib.Path, name: str | None = None) -> ModelSpec:
    """Read one `config.json`, and the `hf_quant_config.json` beside it. `name` defaults to the file's stem, or its
    folder's name for `config.json`."""
    path = pathlib.Path(path)
    if name is None:
        name = path.resolve().parent.name if path.stem == "config" else path.stem
    return from_dict(read_json(path), name, path)


def from_dict(raw: dict[str, Any], name: str, file: object = None) -> ModelSpec:
    """A `ModelSpec` from the configuration's fields; a language model that is nested in it (`text_config` and its
    like) is read in place of the whole."""
    sibling = checkpoint.beside(file) if isinstance(file, pathlib.Path) else None
    file = file if file is not None else name
    whole = Fields(raw, file)
    inner = _language(raw, file)
    inner = class_defaults.filled(inner, nested=inner is not raw)
    fields = Fields(inner, file)
    model = _read_by(inner, file)(fields, name)
    unread.check(model, fields)
    found = checkpoint.quantization(raw, file, sibling)
    model = replace(
        model,
        max_context=context(fields, model.max_context),
        vision=vision.read(whole, model.hidden),
        quantization=checkpoint.with_experts_of(found, fields.word("expert_dtype")),
        stored=_stored(fields, whole),
    )
    _check_width(model, file)
    return model


NESTED = ("text_config", "llm_config", "language_config", "thinker_config")
OUTER = (
    "tie_word_embeddings",
    "model_type",
    "torch_dtype",
    "dtype",
)  # fields of the whole that the inner may leave out


def _language(raw: dict[str, Any], file: object) -> dict[str, Any]:
    """The fields of the language model: those of the whole, or of the configuration nested in it."""
    key = next((key for key in NESTED if raw.get(key) is not None), None)
    if key is None:
        return raw
    inner = raw[key]
    if not isinstance(inner, dict):
        raise InputError("is not an object", file=file, field=key, value=inner)
    outer = {name: raw[name] for name in OUTER if raw.get(name) is not None}
    # a null says "none" and not "as the class has it", but of what the whole says as well
    merged = outer | {name: value for name, value in inner.items() if value is not None or name not in outer}
    if key == "text_config" and "tie_word_embeddings" in outer:
        merged["tie_word_embeddings"] = outer["tie_word_embeddings"]  # the head is the whole's, not the inner model's
    return _language(merged, file)


def _stored(*fields: Fields) -> str:
    """Format of the weights that are not quantised, as the file says."""
    for each in fields:
        said = each.word("dtype", "torch_dtype").removeprefix("torch.")
        if said:
            return {"float16": "fp16", "float32": "fp32"}.get(said, "bf16")
    return "bf16"


def context(fields: Fields, stated: int) -> int:
    """Tokens that the positions reach: those stated, times what a scaling of the rotary positions adds.

    As serving engines derive it from the file: YaRN extends the length of the first training
    (`original_max_position_embeddings`, else the stated one), linear and dynamic scaling the stated one, by `factor`;
    Llama 3's and LongRoPE's scalings, and Gemma's, are in the stated length already.
    """
    scaling = fields.raw.get("rope_scaling") or fields.raw.get("rope_parameters")
    if not isinstance(scaling, dict) or fields.word("model_type").startswith("gemma"):
        return stated
    if isinstance(scaling.get("full_attention"), dict):  # a table a kind of layer
        scaling = scaling["full_attention"]
    own = Fields(scaling, fields.file)
    kind = own.word("rope_type", "type", default="default")
    factor = own.number("factor", default=1.0, low=0.01, high=1e4)
    if kind == "yarn":
        return max(1, round(own.size("original_max_position_embeddings", default=stated) * factor))
    return max(1, round(stated * factor)) if kind in ("linear", "dynamic", "ntk") else stated


def _check_width(model: ModelSpec, file: object) -> None:
    """Refuse products of fields that no operator column can hold."""
    for block in model.block:
        a, f = block.attention, block.ffn
        widths = {
            "num_attention_heads x head_dim": a.num_head * max(a.head_dim, a.v_head_dim),
            "linear attention": sum(state.value for state in block.mixer.states()) if block.mixer else 0,
            "intermediate_size": max(f.inter, f.expert_inter),
        }
        for field, width in widths.items():
            if width > MAX_WIDTH:
                raise InputError("absurdly wide", file=file, field=field, value=width, allowed=f"at most {MAX_WIDTH}")


def _read_by(raw: dict[str, Any], file: object) -> Reader:
    """The reader of the file's `model_type`; the language part of a larger model may be called `<type>_text`."""
    kind = raw.get("model_type")
    if kind is None:
        architectures = raw.get("architectures")
        raise InputError(
            "field model_type is missing" + (f" (architectures says {architectures!r})" if architectures else ""),
            file=file,
            allowed=sorted(families()),
        )
    found = _reader(kind) or _reader(kind.removesuffix("_text")) if isinstance(kind, str) else None
    if found is None:
        raise InputError("unknown architecture", file=file, field="model_type", value=kind, allowed=sorted(families()))
    return found
