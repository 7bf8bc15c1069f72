"""What is sought of an attention kernel: its structure by name, start values and bounds.

Structure is what a kernel's source fixes (query rows of a tile, keys of a block, whether the query heads of a KV
head share a tile, when spans are split) and is never sought. The start values are round numbers near what H100
and A100 turned out to have; bounds are physical.
"""

from collections.abc import Mapping

from hw_models.calibration.fit import Parameter
from kernels.attention import ATTENTION_FIT
from kernels.kv_write import KV_WRITE_FIT

Structure = Mapping[str, float]

PACKED: Structure = {  # FlashAttention 3 and those like it: a KV head's query heads packed in a tile of 128 rows
    "tile_q": 128, "tile_kv_value": 16384, "tile_kv_max": 128, "pack": 1, "cta_per_core": 1,
    "split_group": 1, "split_max": 32, "gather_s": 0,
}  # fmt: skip
STATIC: Structure = {**PACKED, "split_group": 0.5}  # FlashAttention 4 has no schedule made ahead: 32 parts in a graph
FA2_DECODE: Structure = {  # FlashAttention 2 packs and splits only where a KV head serves two query heads or more
    **PACKED, "tile_q": 64, "split_group": 2, "split_max": 128,
}  # fmt: skip
FA2_PREFILL: Structure = {**PACKED, "pack": 0, "tile_kv_value": 8192, "split_group": 0}
TILE64: Structure = {**PACKED, "tile_q": 64, "tile_kv_max": 64}
NARROW: Structure = {**PACKED, "tile_q": 16, "tile_kv_max": 16}
STRUCTURES: tuple[tuple[str, Structure, Structure], ...] = (  # part of a kernel's name, prefill, decode
    ("fa3", PACKED, PACKED),
    ("fa4", PACKED, STATIC),
    ("flash_attn", FA2_PREFILL, FA2_DECODE),
    ("paged_attention", FA2_PREFILL, FA2_DECODE),  # vLLM of 2023: decodes alone, on their own keys not cut either
    ("fiprefill", TILE64, TILE64),
    ("fidecode", NARROW, NARROW),
    ("trtllm", PACKED, PACKED),
    ("triton", TILE64, NARROW),
)

BOUNDS: Mapping[str, tuple[float, float, float]] = {  # start, low, high
    "launch_s": (5e-6, 1e-6, 2e-5),
    "seq_s": (1e-8, 1e-11, 1e-7),
    "cta_s": (1.5e-6, 1e-8, 1e-5),
    "dim_s": (3e-9, 1e-11, 1e-7),
    "row_s": (4e-11, 1e-12, 1e-9),
    "compute_eff": (0.8, 0.05, 1.5),  # above 1 where the softmax carries the rest
    "soft_flop": (100.0, 0.1, 1000.0),
    "wide_power": (0.7, 0.01, 2.0),
    "tail": (0.5, 0.01, 1.5),
    "mem_eff": (0.95, 0.5, 1.0),
    "p": (3.0, 1.0, 20.0),
    "split_s": (1e-7, 1e-9, 5e-6),
    "merge_s": (2e-6, 1e-7, 1e-5),
    "mask_s": (2e-6, 1e-9, 1e-5),
    "mask_power": (1.0, 0.01, 4.0),
    "gather_s": (5e-6, 1e-6, 1e-5),
    "warm_share": (0.65, 0.2, 1.2),
    "l2_ratio": (1.5, 1.0, 8.0),
    "cold_s": (5e-6, 1e-8, 1.5e-5),
}
WRITE_BOUNDS: Mapping[str, tuple[float, float, float]] = {
    "launch_s": (2e-6, 2e-6, 2e-6),  # not told apart from attention's: a short kernel inside a CUDA graph
    "cta_s": (2.5e-6, 2e-7, 1e-5),
    "max_thread": (512.0, 512.0, 512.0),  # vLLM's cache kernels
    "mem_eff": (0.8, 0.3, 1.0),
}
PRIOR = 0.4  # constants of two generations differ by half
FEW_SOUGHT = frozenset(
    {
        "launch_s",
        "cta_s",
        "compute_eff",
        "mem_eff",
        "cold_s",
        "warm_share",
        "l2_ratio",
        "seq_s",
        "mask_s",
        "split_s",
        "merge_s",
        "soft_flop",
        "gather_s",
        "row_s",
        "tail",
        "p",
    }
)  # what few probes can move


def structure(kind: str, name: str) -> Structure:
    """Fixed constants of a kernel, by its name; an unknown one is taken to be like FlashAttention 3."""
    for part, prefill, decode in STRUCTURES:
        if part in name:
            return prefill if kind == "attn_prefill" else decode
    return PACKED


def sought(
    kind: str, name: str, *, windows: bool, widths: bool, narrow: bool, relative: Mapping[str, float] | None = None
) -> list[Parameter]:
    """Parameters in the order of the fit vector.

    `windows`, `widths`: whether the rows have sliding windows, several head sizes; `narrow`: KV of 8 bits or fewer.
    `relative`: constants of the nearest calibrated kernel, from which few probes start and to which they are drawn.
    """
    fixed = dict(structure(kind, name))
    decode = kind == "attn_decode"
    if decode and fixed["split_group"] == 2:
        fixed.pop("gather_s")  # copies that bring a group's heads together
    if fixed["split_group"] == 0:
        fixed |= {"split_s": 0.0, "split_max": 1.0}
    if not windows or not decode:
        fixed |= {"mask_s": 0.0, "mask_power": 0.0}
    if not widths or not decode:
        fixed["dim_s"] = 0.0
    if not narrow:
        fixed["wide_power"] = 0.0
    if decode:
        fixed |= {"row_s": 5e-12, "soft_flop": 0.0}  # few rows a tile
    found = []
    for parameter in ATTENTION_FIT:
        if parameter in fixed:
            value = float(fixed[parameter])
            found.append(Parameter(parameter, value, value, value))
            continue
        start, low, high = BOUNDS[parameter]
        if relative is None:
            found.append(Parameter(parameter, start, low, high))
            continue
        near = relative.get(parameter, start) or start
        if parameter in FEW_SOUGHT:
            near = min(max(near, low * 1.001), high / 1.001)
            found.append(Parameter(parameter, near, low, high, prior=PRIOR))
        else:
            found.append(Parameter(parameter, near, near, near))
    return found


def write_sought(
    relative: Mapping[str, float] | None = None, held: Mapping[str, float] | None = None
) -> list[Parameter]:
    """Parameters of the cache write that the benchmark times with attention; `held`: known already."""
    if held is not None:
        return [Parameter(f"write_{name}", held[name], held[name], held[name]) for name in KV_WRITE_FIT]
    found = []
    for name in KV_WRITE_FIT:
        start, low, high = WRITE_BOUNDS[name]
        if relative is not None and low < high:
            near = min(max(relative[name], low * 1.001), high / 1.001)
            found.append(Parameter(f"write_{name}", near, low, high, prior=PRIOR))
        else:
            found.append(Parameter(f"write_{name}", start, low, high))
    return found
