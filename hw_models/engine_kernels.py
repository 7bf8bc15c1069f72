"""Kernels that a serving engine runs and nobody measured under their own name, out of ones that were.

A profile has what was measured. An engine may choose another kernel than the one measured most: experts in fp8 with
one scale a tensor run Triton's kernel, of which the block-scaled rows tell the constants (FlashInfer's Cutlass kernel,
which was measured in that format, takes three times as long and longer than bf16). Weight-only multiplies were not
measured at all: they are derived from the machine's 16-bit multiply. Each says of what, and how unsure it is
(`spread`).
"""

from collections.abc import Iterable
from typing import NamedTuple

from hw_models.profile import Kernel, Profile
from hw_models.spec import Device

HOPPER = ("h100", "h200", "h800", "h20", "gh200")  # names begin so: wgmma, which Machete is written for
DERIVED = "derived"  # `data` of a kernel that was not measured begins so
SIZES = ("under_10us", "10us_100us", "100us_1ms", "over_1ms")


class WeightOnly(NamedTuple):
    """A multiply of narrow weights by 16-bit activations, against the machine's 16-bit multiply."""

    compute: float  # of its share of the peak
    sigma: float  # of the log of time
    formats: tuple[str, ...]
    source: str


MARLIN = WeightOnly(
    0.8, 0.2, ("w4a16", "w8a16", "mxfp4_a16"),
    "Marlin (arXiv 2408.11743): at small batches the bytes of its weights at the bandwidth of the 16-bit multiply (3.87"
    " of 3.88 times as fast), at large ones near the 16-bit multiply; its stripes have no waves",
)  # fmt: skip
MARLIN_HOPPER = MARLIN._replace(compute=0.8 * 0.63, sigma=0.25)  # mma reaches 62.9 % of wgmma (arXiv 2402.13499)
MACHETE = WeightOnly(
    0.8, 0.25, ("w4a16", "w8a16"),
    "Machete: Marlin's layout on wgmma; its authors have it 1.3 to 1.4 times as fast as Marlin at large batches (H100)",
)  # fmt: skip
AWQ = WeightOnly(
    0.35, 0.5, ("w4a16",),
    "AWQ's own GEMM: widens every tile again; vLLM's manual calls it slower than 16 bits at large batches; a guess",
)  # fmt: skip


def with_derived(profile: Profile, device: Device) -> Profile:
    """The profile with what an engine would run on this device beside it; measured kernels keep their names."""
    found = list(profile.kernel)
    wide = profile.find("gemm", "bf16")
    if wide is not None:
        measured = {k.format for k in found if k.kind == "gemm"}
        found += [k for k in _weight_only(wide, device) if k.format not in measured]
    block = next((k for k in found if (k.kind, k.format) == ("moe", "fp8_block") and "triton" in k.name), None)
    if block is not None:
        found = [k.model_copy(update={"default": False}) if (k.kind, k.format) == ("moe", "fp8") else k for k in found]
        found.append(_of(block, "fp8", block.name, 0.2, default=True))
    marlin = next((k for k in found if k.kind == "moe" and "marlin" in k.name), None)
    if marlin is not None and profile.find("moe", "w4a16") is None:
        found.append(_of(marlin, "w4a16", "marlin", 0.25, default=True))
    return profile.model_copy(update={"kernel": tuple(found)})


def _weight_only(wide: Kernel, device: Device) -> Iterable[Kernel]:
    hopper = device.name.startswith(HOPPER)
    named = {"marlin": MARLIN_HOPPER if hopper else MARLIN, "awq": AWQ} | ({"machete": MACHETE} if hopper else {})
    for name, kernel in named.items():
        for fmt in kernel.formats:
            changed = {"compute_eff": wide.parameter["compute_eff"] * kernel.compute}
            if wide.parameter["tile_rule"] in (1.0, 2.0):  # of a GPU: stripes over all cores, not tiles in waves
                changed["tile_rule"] = 0.0
            best = name == "machete" or (name == "marlin" and (not hopper or fmt == "mxfp4_a16"))
            yield _of(wide, fmt, name, kernel.sigma, default=best, changed=changed)


def _of(
    kernel: Kernel, fmt: str, name: str, sigma: float, default: bool, changed: dict[str, float] | None = None
) -> Kernel:
    spread = {size: round((kernel.spread.get(size, 0.0) ** 2 + sigma**2) ** 0.5, 4) for size in SIZES}
    told = f"{DERIVED} from {kernel.name} in {kernel.format}"
    return kernel.model_copy(
        update={
            "format": fmt, "name": name, "default": default, "data": told, "train": None, "held_out": None, "part": {},
            "spread": spread, "parameter": kernel.parameter | (changed or {}),
        }
    )  # fmt: skip


def chosen(profile: Profile, kind: str, fmt: str, named: dict[tuple[str, str], str]) -> str:
    """In words, the kernel that prices a kind and format: its name, and whether it was measured in it.

    >>> from hw_models import catalog
    >>> from hw_models.device import calibration
    >>> chosen(calibration(catalog.device("a100_sxm_80gb"))[0], "gemm", "w4a16", {})
    'gemm w4a16: marlin (derived from vllm_default in bf16, +-22 %)'
    """
    from hw_models.forms import FORMAT_RELATIVES, UNMEASURED_SIGMA

    for relative in (fmt, *FORMAT_RELATIVES.get(fmt, ())):
        kernel = profile.find(kind, relative, named.get((kind, relative)))
        if kernel is None:
            continue
        if relative != fmt:
            unsure = f"not measured (+-{100 * UNMEASURED_SIGMA:.0f} %)"
            return f"{kind} {fmt}: constants of {kernel.name} in {relative}, {unsure}"
        if kernel.data.startswith(DERIVED):
            sigma = max(kernel.spread.values())
            return f"{kind} {fmt}: {kernel.name} ({kernel.data}, +-{100 * sigma:.0f} %)"
        return f"{kind} {fmt}: {kernel.name}"
    return f"{kind} {fmt}: speed of light"
