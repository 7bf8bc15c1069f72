"""Which models are attention and a feed-forward part in every layer, and nothing else: what simpler cost models ask."""

from kernels.errors import InputError
from workloads.models.spec import ModelSpec


def unusual(model: ModelSpec) -> str:
    """What a layer of the model has, or lacks, beside plain attention and a feed-forward part; empty for none.

    >>> from workloads.models.catalogue import load
    >>> unusual(load("llama-2-7b")), unusual(load("deepseek-v3"))
    ('', '')
    """
    for block in model.block:
        a, f = block.attention, block.ffn
        found = {
            "recurrent layers": block.mixer is not None,
            "layers without attention": not a.num_head,
            "layers without a feed-forward part": f.empty,
            "sparse attention": a.indexer is not None,
            "gated attention": bool(a.gate),
            "shared keys and values": a.shared_kv or a.key_is_value,
            "experts in latent space": bool(f.latent),
            "embeddings a layer": bool(block.side),
        }
        for name, is_there in found.items():
            if is_there:
                return name
    return model.unpriced[0] if model.unpriced else ""


def refuse_unusual(model: ModelSpec, who: str) -> None:
    """Raise `InputError` where `who` (a training step, a search) does not know all of the model's layers."""
    found = unusual(model)
    if found:
        raise InputError(
            f"{who} does not know {found}", field="model", value=model.name,
            allowed="attention and a feed-forward part in every layer",
        )  # fmt: skip
