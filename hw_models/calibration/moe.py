"""What is sought of a fused-experts kernel: start values, bounds, and the row tiles to try."""

from collections.abc import Mapping

from hw_models.calibration.fit import Parameter
from hw_models.calibration.gemm import with_prior
from kernels.moe import MOE_FIT

TRITON = ("triton", "fused_moe")  # in the name of such a kernel
TILE_M = (1.0, 64.0, 128.0)  # by m as Triton's default configurations, or fixed

SOUGHT: dict[str, Parameter] = {
    p.name: p
    for p in (
        Parameter("launch_s", 25e-6, 5e-6, 1e-4),
        Parameter("ep_s", 1e-6, 1e-8, 1e-4),
        Parameter("compute_eff", 0.5, 0.05, 1.1),
        Parameter("mem_eff", 0.7, 0.1, 1.0),
        Parameter("p", 3.0, 1.0, 16.0),
        Parameter("cta_s", 1e-6, 1e-8, 2e-5),
        Parameter("core_byte_per_s", 1e11, 1e10, 1e12),
        Parameter("l2_share", 0.5, 0.05, 3.0),
        Parameter("row_byte_per_s", 3e12, 2e11, 1e14),
        Parameter("all_byte_per_s", 3e12, 2e11, 1e14),
        Parameter("tile_m", 1.0, 1.0, 1.0),
    )
}
assert tuple(SOUGHT) == MOE_FIT


SLOW = {  # a second start: kernels that are bound by their tiles, not by memory
    "compute_eff": 0.3,
    "mem_eff": 0.3,
    "cta_s": 9e-6,
    "core_byte_per_s": 2e10,
    "p": 2.0,
}


def variants(relative: Mapping[str, float] | None = None, name: str = "", act_bit: float = 16) -> list[list[Parameter]]:
    """Parameter lists to try: a row tile and a start each. Triton's kernels of 16-bit activations have their row tile
    by m (their default configurations), whatever else would fit as well: other devices run them too."""
    if act_bit >= 16 and any(part in name for part in TRITON):
        lists = [[_at(p, {"tile_m": TILE_M[0]}) for p in SOUGHT.values()]]
    else:
        lists = [[_at(p, {"tile_m": t}) for p in SOUGHT.values()] for t in TILE_M]
        lists.append([_at(p, {**SLOW, "tile_m": TILE_M[-1]}) for p in SOUGHT.values()])
    if relative is not None:
        lists = [[with_prior(p, relative) for p in parameters] for parameters in lists]
    return lists


def _at(p: Parameter, start: Mapping[str, float]) -> Parameter:
    """A parameter that starts elsewhere (and, where it is not sought, is held there)."""
    value = start.get(p.name, p.start)
    return Parameter(p.name, value, value, value) if p.low == p.high else Parameter(p.name, value, p.low, p.high)
