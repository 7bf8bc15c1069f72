"""A folder of `config.json` files, each read as a checkpoint is: parameters, weights in its own formats, what a token
and a sequence keep, or the reason why not."""

import pathlib
from typing import Any

from kernels.errors import InputError
from workloads import formats, kv, memory, models
from workloads.models.fields import read_json
from workloads.placement import Placement

COLUMNS = ("file", "model_type", "param", "active_param", "weight_byte", "kv_byte_per_token",
           "state_byte_per_sequence", "format", "context", "reason")  # fmt: skip


def config_files(folder: str | pathlib.Path) -> list[pathlib.Path]:
    """The configurations in a folder and the folders in it: of a folder that has a `config.json` that file alone, else
    every JSON file but the `hf_quant_config.json` ones, which belong to others."""
    root = pathlib.Path(folder)
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise InputError("no such folder", field="--check", value=str(folder), allowed="a folder of config.json files")
    found: list[pathlib.Path] = []
    for each in sorted([root, *(path for path in root.rglob("*") if path.is_dir())]):
        whole = each / "config.json"
        found += [whole] if whole.is_file() else sorted(each.glob("*.json"))
    return [path for path in found if not path.name.endswith("hf_quant_config.json")]


def check(folder: str | pathlib.Path, weight_format: str = "stored") -> list[dict[str, Any]]:
    """A row a configuration, of `COLUMNS`: counts of the language model, bytes on one device. `kv_byte_per_token` is
    what one more token keeps while no window is full, `state_byte_per_sequence` what a sequence keeps whatever its
    length. A file that cannot be read has its `reason` and no numbers."""
    root = pathlib.Path(folder)
    return [_row(path, root, weight_format) for path in config_files(root)]


def _row(path: pathlib.Path, root: pathlib.Path, weight_format: str) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row["file"] = str(path.relative_to(root)) if path != root else path.name
    try:
        kind = read_json(path).get("model_type")
        row["model_type"] = kind if isinstance(kind, str) else None
        model = models.read_config(path)
        chosen = formats.of(model, weight_format)
        kept = kv.groups(model, chosen, Placement())
        row |= {
            "param": models.num_param(model),
            "active_param": models.num_active_param(model),
            "weight_byte": sum(memory.weight_byte(model, chosen, Placement(), 0).values()),
            "kv_byte_per_token": round(kv.token_byte(kept)),
            "state_byte_per_sequence": round(kv.state_byte(kept)),
            "format": chosen.label(),
            "context": model.max_context,
        }
    except InputError as error:
        row["reason"] = str(error).replace(f"{path}: ", "")
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # a field of a type that no reader expects must not end the report of the other files
        row["reason"] = f"cannot be read: {type(error).__name__} ({error})"
    return row
