"""Reading a `config.json` field by field, with errors that name file, field, value and what is allowed."""

import math
import pathlib
from collections.abc import Mapping
from typing import Any

from kernels.digits import whole
from kernels.errors import InputError
from workloads import files

FULL = "full_attention"  # a kind of layer, as files name it
MAX_SIZE = 100_000_000  # no dimension of a published model comes near; a larger one is a typing error


class Fields:
    """The fields of one configuration. Every getter takes aliases: the first one present wins."""

    def __init__(self, raw: Mapping[str, Any], file: object) -> None:
        self.raw, self.file = raw, file

    def _find(self, names: tuple[str, ...]) -> tuple[str, Any]:
        for name in names:
            if self.raw.get(name) is not None:
                return name, self.raw[name]
        return names[0], None

    def has(self, *names: str) -> bool:
        return self._find(names)[1] is not None

    def size(self, *names: str, default: int | None = None, low: int = 1, high: int = MAX_SIZE) -> int:
        """A whole number from `low` to `high`; `default` where no alias is present."""
        name, value = self._find(names)
        if value is None:
            if default is not None:
                return default
            raise InputError(f"field {' or '.join(names)} is missing", file=self.file)
        whole = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value) and value == int(value))
        if isinstance(value, bool) or not whole or not low <= value <= high:
            raise InputError(
                "not a usable size", file=self.file, field=name, value=value, allowed=f"whole number {low} to {high}"
            )
        return int(value)

    def flag(self, *names: str, default: bool) -> bool:
        name, value = self._find(names)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise InputError("not a flag", file=self.file, field=name, value=value, allowed="true, false")
        return value

    def number(self, *names: str, default: float, low: float, high: float) -> float:
        """A number from `low` to `high`."""
        name, value = self._find(names)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise InputError("out of range", file=self.file, field=name, value=value, allowed=f"{low:g} to {high:g}")
        return float(value)

    def table(self, name: str) -> "Fields":
        """The fields of a nested object; none where it is absent."""
        value = self.raw.get(name)
        if value is None:
            return Fields({}, self.file)
        if not isinstance(value, dict):
            raise InputError("is not an object", file=self.file, field=name, value=value)
        return Fields(value, self.file)

    def layer(self, index: int) -> "Fields":
        """The fields as they hold in one layer: those of the whole, less what `per_layer_config` says of it (keys are
        layer numbers, padded with zeros)."""
        stated = self.raw.get("per_layer_config")
        if not stated:
            return self
        if not isinstance(stated, dict) or not all(isinstance(each, dict) for each in stated.values()):
            raise InputError("is not an object a layer", file=self.file, field="per_layer_config", value=stated)
        own: dict[str, Any] = next((each for key, each in stated.items() if whole(str(key)) == index), {})
        return Fields({**self.raw, **own}, self.file) if own else self

    def rotary(self, dim: int, share: float = 1.0, kind: str = FULL) -> int:
        """Channels of a head of width `dim` that turn with the position in a layer of a `kind` (as `layer_types` has
        them): stated, or the stated share of them (in `rope_parameters` in later files: one table, or one for each kind
        of layer, of which the others say nothing here), else `share`.

        Proportional positions turn every channel, those beyond the share by no angle (vLLM's Gemma4RotaryEmbedding).

        >>> tables = {"full_attention": {"partial_rotary_factor": 0.25}, "sliding_attention": {"rope_theta": 1e4}}
        >>> fields = Fields({"rope_parameters": tables}, "config.json")
        >>> fields.rotary(128), fields.rotary(128, kind="sliding_attention")
        (32, 128)
        """
        table = self.table("rope_parameters")
        if any(isinstance(each, dict) for each in table.raw.values()):
            names = (FULL, "attention") if kind in (FULL, "attention") else (kind,)
            table = table.table(next((name for name in names if table.has(name)), kind))
        share = self.fraction("partial_rotary_factor", "rotary_pct", default=share)
        share = table.fraction("partial_rotary_factor", default=share)
        if table.word("rope_type") == "proportional":
            share = 1.0
        return self.size("rotary_dim", default=int(dim * share), low=0, high=dim)

    def per_layer(self, name: str, num_layer: int) -> list[int] | None:
        """A list with a whole number (or a flag) for each of `num_layer` layers; entries beyond are of prediction
        heads."""
        value = self.raw.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) < num_layer or any(not isinstance(v, int) for v in value):
            raise InputError(
                "not one entry a layer", file=self.file, field=name, value=value, allowed=f"{num_layer} whole numbers"
            )
        return [int(v) for v in value[:num_layer]]

    def fraction(self, *names: str, default: float) -> float:
        name, value = self._find(names)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            raise InputError("not a fraction", file=self.file, field=name, value=value, allowed="above 0, at most 1")
        return float(value)

    def word(self, *names: str, default: str = "") -> str:
        name, value = self._find(names)
        if value is None:
            return default
        if not isinstance(value, str):
            raise InputError("not a text", file=self.file, field=name, value=value, allowed="text")
        return value

    def integers(self, name: str) -> list[int] | None:
        value = self.raw.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or any(isinstance(v, bool) or not isinstance(v, int) for v in value):
            raise InputError("not a list of numbers", file=self.file, field=name, value=value, allowed="whole numbers")
        return list(value)

    def words(self, name: str, allowed: tuple[str, ...], length: int) -> list[str] | None:
        """A list of `length` words out of `allowed` (one a layer; entries beyond are of prediction heads), or
        nothing."""
        value = self.raw.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) < length:
            raise InputError(
                "not one entry a layer", file=self.file, field=name, value=value, allowed=f"{length} words"
            )
        for entry in value[:length]:
            if entry not in allowed:
                raise InputError("unknown layer kind", file=self.file, field=name, value=entry, allowed=allowed)
        return list(value[:length])

    def check_divides(self, small: int, large: int, field: str) -> None:
        if large % small:
            raise InputError(
                "does not divide", file=self.file, field=field, value=small, allowed=f"a divisor of {large}"
            )

    def heads(self, num_kv_head: int | None = None, head_dim: int | None = None) -> tuple[int, int, int]:
        """Query heads, key-value heads and head width. What the file gives counts; the arguments stand in for
        what an architecture leaves out, and the last resorts are multi-head and the hidden width's share."""
        num_head = self.size("num_attention_heads", "n_head", high=10_000)
        num_kv_head = self.size("num_key_value_heads", "num_kv_heads", default=num_kv_head or num_head, high=num_head)
        self.check_divides(num_kv_head, num_head, "num_key_value_heads")
        if self.has("head_dim", "attention_head_dim") or head_dim:
            return num_head, num_kv_head, self.size("head_dim", "attention_head_dim", default=head_dim, high=10_000)
        hidden = self.size("hidden_size", "n_embd", "n_embed")
        self.check_divides(num_head, hidden, "num_attention_heads")
        return num_head, num_kv_head, hidden // num_head


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """A JSON object from a file; what is wrong with the file is named with its line."""
    raw = files.read_json(path)
    if not isinstance(raw, dict):
        raise InputError("is not a JSON object", file=path)
    return raw
