"""Which number format each tensor of a model has: weights by part, activations, KV.

Storage is not compute: a projection's format names the pair of weight and activation formats
(`kernels.formats`); where it wants activations narrower than the residual stream, lowering puts a CONVERT
operator before it, and where it only stores weights narrower (`w4a16`), the kernel widens them itself.
Accumulators are at least as wide as the residual stream: every operator writes that format.
"""

from dataclasses import dataclass, replace

from kernels.errors import InputError
from kernels.formats import ALIASES, FORMAT_CODE, FORMATS

KV_BITS = {"16": "bf16", "8": "fp8", "4": "int4", "2": "int2", "1": "int1"}
KV_NAMES = ("fp32", "bf16", "fp16", "fp8", "int8", "int4", "nvfp4", "mxfp4", "int2", "int1")
PARTS = ("attention", "ffn", "expert", "head", "embedding", "activation", "kv")
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

    def weight_byte(self, part: str) -> float:
        """Stored bytes a weight of a part, scales included (norms, routers and biases follow activations).

        >>> Formats(ffn="w4a16").weight_byte("ffn")
        0.515625
        """
        return FORMATS[FORMAT_CODE[getattr(self, part)]].weight_bit / 8

    def act_byte(self, part: str) -> float:
        """Bytes of an activation value as the kernels of a part read it.

        >>> Formats(ffn="fp8").act_byte("ffn"), Formats(ffn="w4a16").act_byte("ffn")
        (1.0, 2.0)
        """
        return FORMATS[FORMAT_CODE[getattr(self, part)]].act_bit / 8

    def code(self, part: str) -> int:
        return FORMAT_CODE[getattr(self, part)]

    def converts(self, part: str) -> bool:
        """Whether activations are narrowed before the part's GEMMs."""
        return self.act_byte(part) < self.act_byte("activation")

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
    formats = Formats(linear, linear, linear, wide, wide, wide, wide)
    if family == "gpt_oss" and linear.startswith("mxfp4"):
        formats = replace(formats, attention=wide, ffn=wide)
    for part, value in named.items():
        allowed = KV_NAMES if part == "kv" else _WIDE if part == "embedding" else _LINEAR
        value = KV_BITS.get(value, value) if part == "kv" else value
        formats = replace(formats, **{part: _name(value, part, allowed)})
    return formats


def _name(text: str, field: str, allowed: tuple[str, ...]) -> str:
    name = ALIASES.get(text.strip().lower(), text.strip().lower())
    if name not in allowed:
        raise InputError("no such format", field=field, value=text, allowed=[*allowed, *ALIASES])
    return name
