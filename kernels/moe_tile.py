"""Tiles of a grouped multiply over experts: rows, columns, steps of k, row tiles that share a pass over the weights.

Triton's fused experts take them from a table where one was tuned for the device and the shape, else from a rule
(`vllm/model_executor/layers/fused_moe/fused_moe.py`, `get_default_config`; the table is its folder `configs`): by
tokens since vLLM 0.17; before, by whether there are more tokens than local experts, whatever the shape.
"""

from kernels.jit import njit

BY_TOKEN, BY_EXPERT, BY_TOKEN_BLOCK, TUNED_A100, TUNED_H100, BY_ROW = 1.0, 2.0, 3.0, 4.0, 4.5, 5.0
"""Rules that stand for rows of a tile: of vLLM 0.17 and later; of earlier ones; of block-scaled weights, 0.17 and
later; earlier ones with the table tuned on A100; later ones with those tuned on H100. Whatever else is the rows of a
CUTLASS kernel's one tile."""

TUNED = (
    (1, 1792), (1, 3584), (1, 7168), (1, 14336), (8, 1792), (8, 2048), (8, 3584), (8, 4096), (8, 7168), (16, 1344),
    (16, 1792), (16, 2688), (16, 3584), (16, 7168), (16, 14336), (64, 640), (64, 1280), (128, 192), (512, 64),
    (512, 128),
)  # fmt: skip
"""Local experts and their width on a rank, of vLLM 0.15.1's tables for A100-SXM4-80GB and 16-bit weights. What they
choose is near what the later rule says, which was drawn from such tables."""

WIDE = (1792, 2048, 3584, 4096, 7168)
"""Widths of a rank's 8 experts (Mixtral's) of which vLLM 0.15.1 has tables for H100-80GB-HBM3 and 16-bit weights: from
1,024 tokens on their tiles are 256 columns wide. Its other tables for H100 choose near what the rule says."""
WIDE_LOCAL, WIDE_TOKEN = 8, 768  # a table's entry holds to the middle between two of its token counts

MANY_ROW = 128  # tokens a local expert from which row tiles share a pass over the weights
GROUP = 16.0
FEW_ROW = 4


@njit
def moe_tile(m: int, local: int, width: int, rule: float, row: float = 0.0) -> tuple[float, float, float, float]:
    """The tile of `m` tokens on `local` experts of `width` values.

    >>> moe_tile(32, 8, 2048, BY_TOKEN), moe_tile(32, 8, 2048, BY_EXPERT), moe_tile(32, 8, 2048, 128.0)
    ((16.0, 64.0, 128.0, 1.0), (64.0, 64.0, 32.0, 8.0), (128.0, 128.0, 1.0, 16.0))
    """
    if rule == BY_ROW:
        tile_m = 16.0
        while tile_m < row and tile_m < 64.0:
            tile_m *= 2.0
        return tile_m, 128.0, 1.0, 1.0
    if rule > BY_ROW:
        return rule, 128.0, 1.0, GROUP
    if rule == BY_TOKEN_BLOCK:
        return 16.0 if m <= 64 else 64.0, 128.0, 128.0, 1.0 if m <= 16 else 32.0
    if rule == BY_EXPERT or (rule == TUNED_A100 and not _tuned(local, width)):
        return (16.0, 32.0, 64.0, 1.0) if m <= local else (64.0, 64.0, 32.0, 8.0)
    tile_m = 16.0 if m <= 32 else (32.0 if m <= 96 else (64.0 if m <= 512 else 128.0))
    small = m <= 64
    if rule == TUNED_H100 and m > WIDE_TOKEN and local == WIDE_LOCAL and _is_wide(width):
        return 128.0, 256.0, 64.0, GROUP
    return tile_m, 64.0 if small else 128.0, 128.0 if small else 64.0, GROUP if m // local > MANY_ROW else 1.0


@njit
def _is_wide(width: int) -> bool:
    found = False
    for i in range(len(WIDE)):
        found |= WIDE[i] == width
    return found


@njit
def _tuned(local: int, width: int) -> bool:
    found = False
    for i in range(len(TUNED)):
        found |= TUNED[i][0] == local and TUNED[i][1] == width
    return found


@njit
def grid_tile(m: int, num_expert: int, topk: int, row_tile: float, rule: float, tile_m: float) -> float:
    """Row tiles that a kernel starts: Triton's knows no counts, so as many as there could be; others those with work.

    >>> grid_tile(1, 256, 8, 8.0, BY_TOKEN, 16.0), grid_tile(64, 256, 8, 100.0, BY_TOKEN, 16.0)
    (8.0, 272.0)
    """
    if rule >= BY_ROW:
        return row_tile
    row = float(m) * topk
    return max(row_tile, min(row, (row + num_expert * (tile_m - 1.0)) / tile_m))


@njit
def sorts(m: int, num_expert: int, topk: int, rule: float) -> bool:
    """Whether Triton's experts sort rows by expert first; since vLLM 0.15 each row is a tile of its own where there are
    four times as many experts as rows and all of them are local."""
    return rule in (BY_TOKEN, BY_TOKEN_BLOCK, TUNED_H100) and m * topk * FEW_ROW > num_expert
