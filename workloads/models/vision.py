"""The encoder of images in front of a language model: shapes, weights and how many tokens an image becomes.

Read from `vision_config` under the names that Qwen-VL, SigLIP (Gemma 3, LLaVA), Llama 4, Pixtral and Kimi use. The
encoder is prompt work: `workloads.encoder` lowers it. Its weights lie on the device, and count apart from the
language model's parameters.
"""

from dataclasses import dataclass

from workloads.models.fields import Fields


@dataclass(frozen=True)
class Vision:
    """`num_layer` layers of full (not causal) attention over patches of `patch` pixels, `merge` x `merge` of which
    become one token of the language model."""

    num_layer: int
    hidden: int
    inter: int
    num_head: int
    patch: int
    frame: int  # frames of a patch
    merge: int
    out: int  # width that the merged patches are projected to
    gated: bool = False
    num_merger: int = 1  # projections to the language model's width, one more for each deepstack level

    def num_token(self, width: int, height: int) -> int:
        """Tokens of the language model for an image of so many pixels, which is scaled to whole merged patches."""
        side = self.patch * self.merge
        return max(1, round(width / side)) * max(1, round(height / side))


def num_param(v: Vision) -> int:
    """Weights of the encoder: patch embedding, layers with biases and two norms, projections of merged patches
    (hidden by hidden, then to the language model's width)."""
    up = 2 if v.gated else 1
    layer = 4 * v.hidden**2 + (up + 1) * v.hidden * v.inter + 4 * v.hidden + up * v.inter + v.hidden + 4 * v.hidden
    merged = v.hidden * v.merge**2
    embed = 3 * v.frame * v.patch**2 * v.hidden
    return embed + v.num_layer * layer + v.num_merger * (merged * merged + merged * v.out)


def _side(own: Fields, *names: str) -> int:
    """Pixels of a patch's side; some files give height and width, which are the same in all of them."""
    name = next((name for name in names if own.has(name)), names[0])
    value = own.raw.get(name)
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        return Fields({name: value[0]}, own.file).size(name)
    return own.size(name, default=14)


def read(fields: Fields, hidden: int) -> Vision | None:
    """The encoder of `vision_config`; None where there is none, or where it does not say its own size."""
    raw = fields.raw.get("vision_config")
    if not isinstance(raw, dict):
        return None
    own = Fields(raw, fields.file)
    depth, width = (
        ("depth", "num_hidden_layers", "vt_num_hidden_layers"),
        ("hidden_size", "vt_hidden_size", "embed_dim"),
    )
    if not own.has(*depth) or not own.has(*width):
        return None
    kind = str(fields.raw.get("model_type"))
    second = kind == "qwen2_vl"  # there `hidden_size` is the language model's width
    size = own.size("embed_dim", default=1280) if second else own.size(*width[:2], "embed_dim")
    gated = kind.startswith(("qwen2_5", "pixtral", "mistral3")) or own.word("hidden_act") == "silu"
    return Vision(
        num_layer=own.size(*depth, high=1000),
        hidden=size,
        inter=own.size(
            "intermediate_size", "vt_intermediate_size", default=3420 if kind.startswith("qwen2_5") else 4 * size
        ),
        num_head=own.size("num_heads", "num_attention_heads", "vt_num_attention_heads", default=16, high=10_000),
        patch=_side(own, "patch_size", "spatial_patch_size"),
        frame=own.size("temporal_patch_size", default=1),
        merge=own.size("spatial_merge_size", "pooling_kernel_size", default=2 if kind.startswith("qwen") else 1),
        out=own.size("out_hidden_size", default=hidden),
        gated=gated,
        num_merger=1 + len(own.integers("deepstack_visual_indexes") or []),
    )
