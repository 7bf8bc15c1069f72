"""What a checkpoint says about the number formats of its weights: `quantization_config`, or the `hf_quant_config.json`
beside it.

Each method of quantising is a function of `methods.py` from the fields of its configuration to a `Quantization`: a
scheme for the linear modules, the modules that are left out or have one of their own, and the format of KV.
A scheme stores `bit` bits a weight, scales and zero points counted, and runs in the compute format `name` of
`kernels.formats` (empty: none there, so that pricing refuses it by the name of the method).
"""

import fnmatch
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

PREFIXES = (
    "", "model.", "language_model.model.", "model.language_model.", "language_model.", "backbone.", "transformer.",
    "model.decoder.", "gpt_neox.",
)  # fmt: skip

# modules of several projections in one: a pattern that is not written for them (`q*`) does not mean them
FUSED = ("qkv_proj", "query_key_value", "wqkv", "Wqkv", "c_attn", "gate_up_proj", "in_proj_qkvz", "fused_qkv_a_proj")


@dataclass(frozen=True)
class Scheme:
    """How a weight is stored and computed."""

    name: str  # of kernels.formats
    bit: float  # stored bits a weight, scales included
    said: str = ""  # how people call it, where `name` is empty


@dataclass(frozen=True)
class Quantization:
    """`scheme` holds for every linear module of the layers (of the parts `only`, where named) that no pattern of
    `exclude` matches; `own` are patterns with another scheme (or none), the first match wins."""

    method: str
    scheme: Scheme | None
    exclude: tuple[str, ...] = ()
    own: tuple[tuple[str, Scheme | None], ...] = ()
    part: tuple[tuple[str, Scheme | None], ...] = ()  # a scheme for whole parts of the model, before all else
    only: tuple[str, ...] = ()
    head: Scheme | None = None
    embedding: Scheme | None = None
    kv: str = ""  # format of the KV cache that the checkpoint asks for; empty: none

    def by_layer(self, num_layer: int) -> list["Quantization"]:
        """The same for each layer, with the patterns alone that can match there (lists name thousands of modules)."""
        exclude = _by_layer([(pattern, pattern) for pattern in self.exclude], num_layer)
        own = _by_layer([(each[0], each) for each in self.own], num_layer)
        return [replace(self, exclude=tuple(e), own=tuple(o)) for e, o in zip(exclude, own, strict=True)]

    def of(self, modules: tuple[str, ...], part: str, layer: int) -> Scheme | None:
        """The scheme of a tensor that holds `modules` (names within layer `layer`), None where it is not quantised."""
        if not modules:
            return None
        for name, scheme in self.part:
            if name == part:
                return scheme
        if any(_matches(self.exclude, module, layer) for module in modules):
            return None
        for pattern, scheme in self.own:
            if any(_matches((pattern,), module, layer) for module in modules):
                return scheme
        return None if self.only and part not in self.only else self.scheme


_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)(?:\.|$|\*)")


T = TypeVar("T")


def _by_layer(patterns: Sequence[tuple[str, T]], num_layer: int) -> list[list[T]]:
    """Entries for each layer, in their order: those whose pattern names that layer, and those that name none."""
    found: list[list[T]] = [[] for _ in range(num_layer)]
    for pattern, entry in patterns:
        named = _LAYER.search(pattern)
        if named is None:
            for each in found:
                each.append(entry)
        elif int(named[1]) < num_layer:
            found[int(named[1])].append(entry)
    return found


@functools.lru_cache(maxsize=1024)
def _compiled(patterns: tuple[str, ...]) -> tuple[frozenset[str], tuple[re.Pattern[str], ...]]:
    """Names that are given literally (from the layer on, or a run of a path), and the expressions of the rest: `re:`
    marks a regular expression, `*` a glob (over the module and whatever lies in it)."""
    literal, expression = set(), []
    for pattern in patterns:
        if pattern.startswith("re:"):
            expression.append(re.compile(pattern[3:]))
        elif any(sign in pattern for sign in "*?["):
            expression.append(re.compile(fnmatch.translate(pattern)))
            expression.append(re.compile(fnmatch.translate(pattern.rstrip("*.") + ".*")))
        else:
            name, found = pattern.removesuffix(".weight").strip("."), _LAYER.search(pattern)
            literal.add(f"layers.{found[1]}.{name[found.end() :]}".strip(".") if found else name)
    return frozenset(literal), tuple(expression)


@functools.lru_cache(maxsize=65536)
def _matches(patterns: tuple[str, ...], module: str, layer: int) -> bool:
    """Whether a pattern names the module, a module around it, or a run of its path (`mlp.gate` in any layer)."""
    literal, expression = _compiled(patterns)
    path = f"layers.{layer}.{module}"
    if literal:
        word = path.split(".")
        if any(".".join(word[i:j]) in literal for i in range(len(word)) for j in range(i + 1, len(word) + 1)):
            return True
    fused = next((name for name in FUSED if module.endswith(name)), "")
    return any(e.match(prefix + path) for e in expression if fused in e.pattern for prefix in PREFIXES)
