"""What is sought of a fused-experts kernel: start values, bounds, and the row tiles to try."""

from collections.abc import Mapping

from hw_models.calibration.fit import Parameter
from hw_models.calibration.gemm import with_prior
from kernels.moe import MOE_FIT
from kernels.moe_tile import BY_EXPERT, BY_ROW, BY_TOKEN, BY_TOKEN_BLOCK, TUNED_A100, TUNED_H100

TRITON = ("triton", "fused_moe")  # in the name of such a kernel
TILE_M = (BY_TOKEN, BY_ROW, 64.0, 128.0)  # by a rule, or fixed
OLDER: Mapping[str, float] = {
    "a100_sxm_80gb": TUNED_A100
}  # rule of Triton's kernels before vLLM 0.17; else `BY_EXPERT`

NEWER: Mapping[str, float] = {"h100_sxm": TUNED_H100}  # of later ones; else `BY_TOKEN`

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
        Parameter("sum_byte_per_s", 3e12, 2e11, 1e14),
        Parameter("tile_m", 1.0, 1.0, 1.0),
        Parameter("empty_s", 0.0, 0.0, 0.0),
        Parameter("odd_share", 1.0, 1.0, 1.0),
        Parameter("warm_share", 0.5, 0.02, 1.0),
        Parameter("clumped", 0.0, 0.0, 0.0),
        Parameter("wide_gain", 1.0, 1.0, 1.0),
    )
}
assert tuple(SOUGHT) == MOE_FIT


ONLY_TRITON = (
    Parameter("empty_s", 1e-7, 1e-9, 2e-6),
    Parameter("odd_share", 0.066, 0.01, 1.0, prior=0.3),  # where nothing unaligned was measured: H100's
    Parameter("cta_s", 3e-7, 1e-8, 2e-5),
    Parameter("core_byte_per_s", 5e10, 1e10, 1e12),  # Triton's small tiles live on the cache's rate
)

SLOW = {  # a second start: kernels that are bound by their tiles, not by memory
    "compute_eff": 0.3,
    "mem_eff": 0.3,
    "cta_s": 9e-6,
    "core_byte_per_s": 2e10,
    "p": 2.0,
}


def variants(
    relative: Mapping[str, float] | None = None, name: str = "", fmt: str = "bf16", device: str = ""
) -> list[list[Parameter]]:
    """Parameter lists to try: a row tile and a start each. Triton's kernels have their tiles by the rules of their
    releases, whatever else would fit as well: other devices run them too. Those before vLLM 0.17 were measured with the
    older draw of loads."""
    if is_triton(name) and fmt in ("bf16", "fp16"):
        older = {"tile_m": OLDER.get(device, BY_EXPERT), "clumped": 1.0}
        lists = [_triton({"tile_m": NEWER.get(device, BY_TOKEN)}), _triton(older)]
    elif is_triton(name) and fmt == "fp8_block":
        lists = [_triton({"tile_m": BY_TOKEN_BLOCK})]
    else:
        lists = [_all({"tile_m": t}) for t in TILE_M]
        lists.append(_all({**SLOW, "tile_m": TILE_M[-1]}))
    if relative is not None and is_triton(name) == (relative["tile_m"] < BY_ROW):  # a kernel of the same kind
        lists = [[with_prior(p, relative) for p in parameters] for parameters in lists]
    return lists


def is_triton(name: str) -> bool:
    """Whether a kernel of this name is one of vLLM's in Triton.

    >>> is_triton("vllm_fused_moe"), is_triton("vllm_fp8moe_flashinfer_cutlass_flashinferexperts")
    (True, False)
    """
    return any(part in name for part in TRITON)


def _all(start: Mapping[str, float]) -> list[Parameter]:
    return [_at(p, start) for p in SOUGHT.values()]


def _triton(start: Mapping[str, float]) -> list[Parameter]:
    """With what only a grid that knows no counts, and loads by vectors, cost, and tiles that a table alone has."""
    more = {p.name: p for p in ONLY_TRITON}
    if start.get("tile_m") == TUNED_H100:
        more["wide_gain"] = Parameter("wide_gain", 1.1, 0.8, 1.6)
    return [more.get(p.name, _at(p, start)) for p in SOUGHT.values()]


def _at(p: Parameter, start: Mapping[str, float]) -> Parameter:
    """A parameter that starts elsewhere (and, where it is not sought, is held there)."""
    value = start.get(p.name, p.start)
    return Parameter(p.name, value, value, value) if p.low == p.high else Parameter(p.name, value, p.low, p.high)
