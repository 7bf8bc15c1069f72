"""Constants of a device that nobody has measured: its nearest relative's, scaled by the two datasheets.

Shares (of peak, of bandwidth, of cache) carry over as they are. Rates follow the datasheet rate that feeds them, and
latencies the clock, those of a launch among them: most of it is instructions (cuBLAS starts in 3.2 us at 1.41 GHz, in
2.6 at 1.83, in 2.2 at 2.52)::

    operand stream of a core      L2 bandwidth / cores
    epilogue of a core            L2 bandwidth / cores (fp8 on H100 writes at 1.8 x its memory)
    reading L2                    L2 bandwidth
    rows moved between kernels    memory bandwidth
    L2 over memory                L2 bandwidth / memory bandwidth
    bytes in flight (latency)     memory bandwidth
    copies, as link bytes         1 / memory bandwidth
    k steps, tiles, CTAs          1 / clock
    launches, merges, gathers     1 / clock

Attention reads what its benchmark left in the second-level cache at 0.39 to 0.58 of that cache's rate on A100, H100,
L40S and B200 alike. Where a relative's kernels told nothing of it, that share is passed on (`L2_READ`).

Kernels that stream and yet reach a third of the memory's rate (a norm) are bound by their cores: an heir with slower
memory and as many cores reaches more of it (`stream_eff`).

What goes between devices through their host is held by the host, not by the link (22 GB/s of 31.5 on the L40S box, 25
of 63 on the RTX PRO 6000 one): of two such machines the rate carries over as it is.

What a power limit takes from the products is not a share that carries over: it follows from the watts that the board
has for each FLOP of its peak (`power_ratio`). A board of 350 W that is held at 0.64 of its clock tells nothing of one
with half the products and 450 W.

A device whose kernels were seen at work, in whole batches of a serving engine if not each by itself, states by how much
they are slower than that (`kernel_factor`): another maker's kernels are not as well tuned.

How far that is from the truth was measured where both sides are known. Between GPU generations the residual sigma
of bf16 GEMM is 0.14 to 0.28, of fused experts 0.12 to 0.32 and of attention 0.16 to 0.46, with a bias of up to 0.5
(H100, A100, L40S and B200 predicted from each other; the table is in `anatomy.md`): a generation brings other kernels,
not only other rates. `SIGMA` is their middle. A variant of one chip (same cores and peaks, other memory) runs
the same kernels and takes `SIGMA_VARIANT`: the 5 % by which memory clocks and stacks differ from their datasheets.
Either is added to each residual spread.
"""

from collections.abc import Mapping
from pathlib import Path

from hw_models import catalog
from hw_models.forms import ATTENTION_KINDS, COLLECTIVE_KINDS, EXCHANGE_KINDS, STREAM_KINDS
from hw_models.profile import Kernel, Profile
from hw_models.spec import Device
from kernels.moe_tile import BY_TOKEN, TUNED_A100, TUNED_H100

SIGMA = 0.25  # of the log of time
SIGMA_VARIANT = 0.05

Exponents = Mapping[str, float]  # datasheet field of `Device` -> power of (heir / relative)
BY_CLOCK: Exponents = {"clock_hz": -1.0}
RULES: Mapping[str, Exponents] = {
    "core_byte_per_s": {"l2_byte_per_s": 1.0, "num_core": -1.0},
    "write_byte_per_s": {"l2_byte_per_s": 1.0, "num_core": -1.0},
    "l2_byte_per_s": {"l2_byte_per_s": 1.0},
    "row_byte_per_s": {"mem_byte_per_s": 1.0},
    "all_byte_per_s": {"mem_byte_per_s": 1.0},
    "sum_byte_per_s": {"mem_byte_per_s": 1.0},
    "empty_s": BY_CLOCK,
    "l2_ratio": {"l2_byte_per_s": 1.0, "mem_byte_per_s": -1.0},
    "ramp_byte": {"mem_byte_per_s": 1.0},
    "switched_copy": {"mem_byte_per_s": -1.0},
    "host_copy": {"mem_byte_per_s": -1.0},
    "ep_s": BY_CLOCK,
    "merge_s": BY_CLOCK,
    "gather_s": BY_CLOCK,
    "seq_s": BY_CLOCK,
    "step_s": BY_CLOCK,
    "cta_s": BY_CLOCK,
    "dim_s": BY_CLOCK,
    "mask_s": BY_CLOCK,
    "row_s": BY_CLOCK,
}
BY_KIND: Mapping[tuple[str, str], Exponents] = {
    ("gemm", "row_s"): {"clock_hz": -1.0, "num_core": -1.0},  # rows are quantised by all cores together
}


STREAMED = (
    0.85  # of its memory's rate, what a kernel that its cores do not hold reaches (adds: 0.9 on A100, 0.87 on H100)
)
ATTENDED = 0.9  # likewise, of attention (0.88 on L40S, 0.97 on A40: GDDR6, where A100's cores reach 0.79 of their HBM)
L2_READ = 0.45  # of the second-level cache's rate, what attention reads of what it holds
UNHELD = 0.95  # of the peak, what a library's products reach where no power limit holds them (A100 0.99, H100 1.1)
RINGS = ("ll_eff", "ll128_eff", "simple_eff")  # shares of a link
CUBE = 3.0  # power goes with the cube of the clock (`hw_models.clock`)


def power_ratio(profile: Profile, relative: Device, heir: Device) -> float:
    """The clock of the heir's products over the relative's, each as a share of its boost clock.

    The relative's is read off its bf16 GEMM: what it reaches of its peak, over `UNHELD`. The heir's differs by the cube
    root of the ratio of their watts a FLOP, and is at most its boost clock. 1 where the relative has no such kernel.
    """
    found = profile.find("gemm", "bf16")
    pipes = (device.peak("bf16") for device in (relative, heir))
    if found is None or not all(pipes):
        return 1.0
    held = min(1.0, found.parameter["compute_eff"] / UNHELD) / (1.0 + found.parameter["throttle"])
    watts = (heir.tdp_w / heir.peak("bf16")) / (relative.tdp_w / relative.peak("bf16"))
    return float(min(1.0, held * watts ** (1.0 / CUBE)) / held)


def stream_eff(share: float, relative: Device, heir: Device, most: float = STREAMED) -> float:
    """Share of the heir's memory rate of a kernel that reaches `share` of the relative's: never less than that, and up
    to `most` what the heir's cores and clock make of the bytes a second that the relative's reached.

    >>> from hw_models import catalog
    >>> a100, a40 = (catalog.device(name) for name in ("a100_sxm_80gb", "a40"))
    >>> stream_eff(0.35, a100, a40), stream_eff(0.9, a100, a40), stream_eff(0.35, a100, a100)
    (0.85, 0.9, 0.35)
    """
    cores = heir.num_core * heir.clock_hz / (relative.num_core * relative.clock_hz)
    return max(share, min(most, share * relative.mem_byte_per_s / heir.mem_byte_per_s * cores))


def host_rate(device: Device) -> float:
    """Bytes a second of the link to the host, where a device in its usual node has no other to its peers; else 0.

    >>> from hw_models import catalog
    >>> [round(host_rate(catalog.device(name)) / 1e9, 1) for name in ("l40s", "rtx_pro_6000", "h100_sxm")]
    [31.5, 63.0, 0.0]
    """
    node = catalog.node(device.node, device, catalog.beside_of(Path(device.file))) if device.node else None
    if node is None or node.scale_up is not None or node.host_link is None:
        return 0.0
    return node.host_link.byte_per_s


def held_at(parameter: Mapping[str, float], ratio: float) -> dict[str, float]:
    """Constants of a kernel whose products run at `ratio` of their clock: the slowdown at full power takes it up, and
    the share of the peak what is left.

    >>> held_at({"compute_eff": 0.7, "throttle": 0.0}, 1.2), held_at({"compute_eff": 1.0, "throttle": 0.5}, 1.2)
    ({'compute_eff': 0.84, 'throttle': 0.0}, {'compute_eff': 1.0, 'throttle': 0.25})
    """
    found = dict(parameter)
    if "throttle" in found:
        before = 1.0 + found["throttle"]
        after = max(1.0, before / ratio)
        found["throttle"] = after - 1.0
        ratio *= after / before
    if "compute_eff" in found:
        found["compute_eff"] *= ratio
    return found


def scaled(kernel: Kernel, relative: Device, heir: Device, clock: float = 1.0) -> Kernel:
    """One kernel's constants for `heir`, with its spread widened by what inheriting costs. `clock`: `power_ratio`."""
    linked = kernel.kind in COLLECTIVE_KINDS + EXCHANGE_KINDS
    rules = RULES if linked else {**RULES, "launch_s": BY_CLOCK}  # what links do waits for them, not for a clock
    parameter = {
        name: value * _ratio(BY_KIND.get((kernel.kind, name), rules.get(name, {})), relative, heir)
        for name, value in kernel.parameter.items()
    }
    if kernel.kind in STREAM_KINDS:
        parameter["mem_eff"] = stream_eff(parameter["mem_eff"], relative, heir)
    variant = (relative.num_core, relative.peak_flop_per_s) == (heir.num_core, heir.peak_flop_per_s)
    if kernel.kind in COLLECTIVE_KINDS:
        slower = host_rate(relative) / host_rate(heir) if host_rate(relative) and host_rate(heir) else 1.0
        parameter = {name: value * (slower if name in RINGS else 1.0) for name, value in parameter.items()}
    if kernel.kind in ATTENTION_KINDS:
        parameter["mem_eff"] = stream_eff(parameter["mem_eff"], relative, heir, ATTENDED)
        if kernel.parameter["l2_ratio"] <= 1.0 and not variant:  # short kernels, whose cache told nothing
            parameter["l2_ratio"] = heir.l2_byte_per_s * L2_READ / (heir.mem_byte_per_s * parameter["mem_eff"])
        parameter["l2_ratio"] = max(1.0, parameter["l2_ratio"])
    parameter = held_at(parameter, clock)
    if heir.kernel_factor and not linked:
        parameter = {name: value * _of_time(name, heir.kernel_factor) for name, value in parameter.items()}
    if (
        kernel.kind == "moe" and not variant
    ):  # a table of tiles and a benchmark's draw are of the chip they were made for
        parameter["tile_m"] = BY_TOKEN if parameter["tile_m"] in (TUNED_A100, TUNED_H100) else parameter["tile_m"]
        parameter["clumped"] = 0.0
    if "crowd" in parameter:  # of the box that was measured, not of its devices
        parameter["crowd"] = 0.0
    extra = SIGMA_VARIANT if variant else SIGMA
    spread = {size: round((sigma**2 + extra**2) ** 0.5, 4) for size, sigma in kernel.spread.items()}
    return kernel.model_copy(update={"parameter": parameter, "spread": spread, "train": None, "held_out": None})


def inherited(profile: Profile, relative: Device, heir: Device) -> Profile:
    """The whole profile of `relative` for `heir`; the profile itself where the two are one device."""
    if relative.name == heir.name:
        return profile
    clock = power_ratio(profile, relative, heir)
    return Profile(device=heir.name, kernel=tuple(scaled(kernel, relative, heir, clock) for kernel in profile.kernel))


def _of_time(name: str, factor: float) -> float:
    """What a constant is multiplied by where all that its kernel does takes `factor` times as long."""
    if name.endswith(("_eff", "_byte_per_s")):
        return 1.0 / factor
    return factor if name.endswith("_s") else 1.0


def _ratio(exponents: Exponents, relative: Device, heir: Device) -> float:
    ratio = 1.0
    for field, power in exponents.items():
        have, need = getattr(relative, field), getattr(heir, field)
        if have > 0 and need > 0:
            ratio *= (need / have) ** power
    return ratio
