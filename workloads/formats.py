"""Which number format each tensor of a model has: weights by part, activations, KV.

Storage is not compute: a projection's format names the pair of weight and activation formats
(`kernels.formats`); where it wants activations narrower than the residual stream, lowering puts a CONVERT
operator before it, and where it only stores weights narrower (`w4a16`), the kernel widens them itself.
Accumulators are at least as wide as the residual stream: every operator writes that format.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from kernels.errors import InputError
from kernels.formats import ALIASES, FORMAT_CODE, FORMATS, Format
from workloads.models.checkpoint import part_formats
from workloads.models.quantization import Quantization
from workloads.models.spec import ModelSpec

KV_BITS = {"16": "bf16", "8": "fp8", "4": "int4", "2": "int2", "1": "int1"}
KV_NAMES = ("fp32", "bf16", "fp16", "fp8", "int8", "int4", "nvfp4", "mxfp4", "int2", "int1")
PARTS = ("attention", "mixer", "ffn", "expert", "head", "embedding", "activation", "kv")
OWN = ("", "auto", "stored")  # texts that ask for the checkpoint's own formats
WEIGHT_ONLY = {"int4_wo": "w4a16", "int8_wo": "w8a16", "awq": "w4a16", "gptq": "w4a16"}  # other names of two formats
_LINEAR = tuple(f.name for f in FORMATS if f.name not in ("int1", "int2"))
_WIDE = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Formats:
    """Format names by part of the model. `parse` builds one from a text."""

    attention: str = "bf16"  # projections of attention (q, k, v, o)
    ffn: str = "bf16"  # dense feed-forward and shared experts
    expert: str = "bf16"  # routed experts
    head: str = "bf16"  # LM head
    embedding: str = "bf16"  # input embedding (stored; a tied head reads it)
    activation: str = "bf16"  # residual stream, norms, and what operators hand on
    kv: str = "bf16"  # stored keys and values
    mixer: str = field(default="bf16", repr=False)  # projections of recurrent layers
    bit: tuple[tuple[str, float], ...] = field(default=(), repr=False)  # parts whose bits a weight are not the format's
    checkpoint: Quantization | None = field(default=None, repr=False)  # whose own formats these are
    said: str = field(default="", repr=False)  # what was overridden, for reports

    def _format(self, part: str) -> Format:
        name = getattr(self, part)
        if name not in FORMAT_CODE:
            raise InputError(
                f"no kernel of this format is known; the checkpoint's {part} weights have it",
                field="quantization_config",
                value=name,
                allowed="a weight_format of your own",
            )
        return FORMATS[FORMAT_CODE[name]]

    def weight_byte(self, part: str) -> float:
        """Stored bytes a weight of a part, scales included (norms, routers and biases follow activations).

        >>> Formats(ffn="w4a16").weight_byte("ffn")
        0.515625
        """
        for name, bit in self.bit:
            if name == part:
                return bit / 8
        return self._format(part).weight_bit / 8

    def act_byte(self, part: str) -> float:
        """Bytes of an activation value as the kernels of a part read it.

        >>> Formats(ffn="fp8").act_byte("ffn"), Formats(ffn="w4a16").act_byte("ffn")
        (1.0, 2.0)
        """
        return self._format(part).act_bit / 8

    def code(self, part: str) -> int:
        return FORMAT_CODE[self._format(part).name]

    def converts(self, part: str) -> bool:
        """Whether activations are narrowed before the part's GEMMs."""
        return self.act_byte(part) < self.act_byte("activation")

    @property
    def stored_byte(self) -> float:
        """Bytes of a weight that is not quantised."""
        return self.act_byte("activation")

    def label(self) -> str:
        """The formats in a word: that of all projections, or the parts that differ.

        >>> parse("fp8").label(), parse("bf16:expert=mxfp4_a16").label()
        ('fp8', 'bf16:expert=mxfp4_a16')
        """
        wide = self.activation
        named = {part: getattr(self, part) for part in ("attention", "mixer", "ffn", "expert")}
        first = self.attention
        narrow = "bf16" if wide == "fp32" else wide
        rest = [f"{part}={name}" for part, name in named.items() if name != first]
        rest += [f"{part}={getattr(self, part)}" for part in ("head", "embedding") if getattr(self, part) != wide]
        rest += [f"kv={self.kv}"] if self.kv != narrow else []
        return ":".join([first, *rest])

    @property
    def kv_byte(self) -> float:
        """Bytes of a stored KV value."""
        return self.weight_byte("kv")


def parse(text: str = "bf16", family: str = "", **parts: str | None) -> Formats:
    """Formats from a text such as `fp8`, `w4a16:kv=fp8` or `bf16:expert=mxfp4_a16:kv=4`.

    The first word is the format of all projections; the head and the embedding stay in 16 bits unless
    named, as quantised checkpoints ship them. `mxfp4` and `mxfp4_a16` on gpt-oss hold for the experts alone,
    which is how that model is published. Keyword arguments are the same as `part=format` in the text.

    >>> parse("w4a16:kv=fp8")
    Formats(attention='w4a16', ffn='w4a16', expert='w4a16', head='bf16', embedding='bf16', activation='bf16', kv='fp8')
    >>> parse("mxfp4_a16", family="gpt_oss").attention
    'bf16'
    >>> parse("fp9")
    Traceback (most recent call last):
    ...
    kernels.errors.InputError: format = 'fp9': no such format; allowed: ... (nearest: fp8)
    """
    first, *rest = text.strip().split(":")
    named: dict[str, str] = {}
    for word in rest:
        part, equals, value = word.partition("=")
        if not equals or part not in PARTS:
            raise InputError("not part=format", field="format", value=word, allowed=PARTS)
        named[part] = value
    named |= {part: value for part, value in parts.items() if value is not None}
    for part in named:
        if part not in PARTS:
            raise InputError("no such part of a model", field="format", value=part, allowed=PARTS)
    linear = _name(first, "format", _LINEAR)
    wide = linear if linear in _WIDE else "bf16"
    wide = _name(named.pop("activation", wide), "activation", _WIDE)
    formats = Formats(linear, linear, linear, wide, wide, wide, wide, linear)
    if family == "gpt_oss" and linear.startswith("mxfp4"):
        formats = replace(formats, attention=wide, ffn=wide, mixer=wide)
    for part, value in named.items():
        allowed = KV_NAMES if part == "kv" else _WIDE if part == "embedding" else _LINEAR
        value = KV_BITS.get(value, value) if part == "kv" else value
        change: dict[str, Any] = {part: _name(value, part, allowed)}
        formats = replace(formats, **change)
    return formats


def of(model: ModelSpec, weight_format: str = "", kv_format: str = "") -> Formats:
    """The formats of a model: what the user names, else what its checkpoint says, else 16 bits.

    A part that a checkpoint stores in several ways has the format of most of its weights, and the mean bits of all.
    A `weight_format` overrides the checkpoint's, and `said` tells so; a `kv_format` the KV's alone. Weights that are
    stored in 32 bits are served in 16, as engines do, and `said` tells; "stored" leaves them as they lie on the disk.
    """
    found, own = model.quantization, weight_format.strip().lower() in OWN
    kv = None if kv_format.strip().lower() in OWN else kv_format
    if not own:
        formats = parse(weight_format, model.family, kv=kv)
        if found is not None:
            formats = replace(formats, said=f"{formats.label()} overrides the checkpoint's own {found.method}")
        return formats
    if model.stored == "fp32" and weight_format.strip().lower() == "stored":
        formats = parse("fp32", kv=kv or "bf16")
    else:
        formats = parse("bf16", kv=kv)
        if model.stored == "fp32":
            formats = replace(formats, said="bf16, from a checkpoint in fp32")
    if found is None:
        return formats
    stored_as = part_formats(model, found, 8 * formats.stored_byte)
    # parts that the model has not are named like the first that it has
    first = next(stored_as[part] for part in ("attention", "mixer", "ffn", "expert") if part in stored_as)
    stored_as = dict.fromkeys(("attention", "mixer", "ffn", "expert"), first) | stored_as
    changes: dict[str, Any] = {}
    bit: list[tuple[str, float]] = []
    for part, stored in stored_as.items():
        name = formats.activation if stored.scheme is None else stored.scheme.name or stored.scheme.said
        changes[part] = name
        if name not in FORMAT_CODE or stored.bit != FORMATS[FORMAT_CODE[name]].weight_bit:
            bit.append((part, stored.bit))
    if kv is None and found.kv:
        changes["kv"] = found.kv
    return replace(formats, **changes, bit=tuple(bit), checkpoint=found)


def _name(text: str, field: str, allowed: tuple[str, ...]) -> str:
    name = ALIASES.get(text.strip().lower(), text.strip().lower())
    name = WEIGHT_ONLY.get(name, name)
    if name not in allowed:
        raise InputError("no such format", field=field, value=text, allowed=[*allowed, *ALIASES, *WEIGHT_ONLY])
    return name
