"""Start values and bounds of a device of which nothing is known but its rates; a relative's constants win.

The bounds are those of physics: a launch takes from a fraction of a microsecond (a call on a CPU) to a
millisecond (a loop of Python calls), an efficiency lies below the peak that was measured, give or take the
noise of that measurement. What a family does not name stays at its ideal value.
"""

import math

from hw_models.calibration import gemm, moe
from hw_models.calibration.fit import Parameter
from hw_models.forms import EAGER, FORMS, STREAM_KINDS
from hw_models.profile import Kernel
from kernels.machine import L2_BYTE_PER_S, MEM_BYTE_PER_S, Machine

Bounds = tuple[float, float, float]  # start, low, high
NEVER = 1e18  # a rate that costs no time, where a form's ideal is infinite: files hold finite numbers

_JOIN: dict[str, Bounds] = {
    "compute_eff": (0.6, 0.01, 1.3),
    "mem_eff": (0.6, 0.01, 1.3),
    "p": (1.5, 1.0, 8.0),
}
_CPU_LAUNCH: dict[str, Bounds] = {"launch_s": (8e-6, 3e-7, 3e-3)}
_GPU_LAUNCH: dict[str, Bounds] = {"launch_s": (3e-6, 5e-7, 1e-3)}
_CPU_ATTENTION = {**_CPU_LAUNCH, **_JOIN, "cta_s": (1e-7, 1e-10, 1e-4)}
_GPU_ATTENTION = {
    **_GPU_LAUNCH, **_JOIN,
    "cta_s": (1e-6, 1e-8, 1e-4), "tile_q": (64.0, 64.0, 64.0), "tile_kv_value": (8192.0, 8192.0, 8192.0),
    "cta_per_core": (2.0, 2.0, 2.0), "tail": (0.3, 0.01, 1.0),
}  # fmt: skip
_EXPERT: dict[str, Bounds] = {  # a loop over experts: each multiplies tiles of rows, padded, one after another
    "compute_eff": (0.6, 0.01, 8.0),
    "cta_s": (1e-6, 1e-9, 1e-3),
    "all_byte_per_s": (1e10, 1e8, 1e13),
    "l2_share": (1.0, 1.0, 1.0),
    "tile_m": (64.0, 64.0, 64.0),
}

FAMILIES: dict[str, dict[str, dict[str, Bounds]]] = {
    "cpu": {
        "gemm": {
            **_CPU_LAUNCH, **_JOIN, "tile_rule": (3.0, 3.0, 3.0), "core_byte_per_s": (1e10, 1e9, 1e12),
            "step_s": (1e-8, 1e-11, 1e-6), "write_byte_per_s": (1e11, 1e9, 1e13),
        },
        "attn_prefill": _CPU_ATTENTION,
        "attn_decode": _CPU_ATTENTION,
        "moe": {**_CPU_LAUNCH, **_JOIN, **_EXPERT},
        "kv_write": {**_CPU_LAUNCH, "mem_eff": (0.2, 0.005, 1.3)},
        "stream": {
            **_CPU_LAUNCH, "mem_eff": (0.4, 0.005, 1.3),
            "warm_l2": (0.02, 0.002, 1.0),  # what of the shared last level a core has to itself
            "l2_ratio": (4.0, 1.0, 40.0),
        },
    },
    "gpu": {
        "attn_prefill": _GPU_ATTENTION,
        "attn_decode": {**_GPU_ATTENTION, "pack": (1.0, 1.0, 1.0)},
        "kv_write": {**_GPU_LAUNCH, "mem_eff": (0.6, 0.01, 1.3)},
        "stream": {**_GPU_LAUNCH, "mem_eff": (0.6, 0.01, 1.3), "warm_l2": (0.3, 0.3, 0.3)},
    },
}  # fmt: skip


def parameters(kind: str, family: str, machine: Machine, relative: Kernel | None = None) -> list[Parameter]:
    """Every slot of a kind's form in order, free ones with their bounds.

    Where `relative` has the kind, all its positive constants are the start and free within their bounds.
    """
    if family == "gpu" and kind in ("gemm", "moe"):
        sought = gemm.SOUGHT if kind == "gemm" else moe.SOUGHT
        cold = [_held(p, 0.0) if p.name in EAGER else p for p in sought.values()]
        return cold if relative is None else [gemm.with_prior(p, relative.parameter) for p in cold]
    table = FAMILIES[family]["stream" if kind in STREAM_KINDS else kind]
    form = FORMS[kind]
    found = []
    for name, ideal in zip(form.names, form.ideal, strict=True):
        value = NEVER if math.isinf(ideal) else ideal
        start, low, high = table.get(name, (value, value, value))
        if name == "l2_ratio" and name not in table:
            start = low = high = max(1.0, machine.rate[L2_BYTE_PER_S] / machine.rate[MEM_BYTE_PER_S])
        if relative is not None and name in relative.parameter:
            own = relative.parameter[name]
            start = min(max(own, low), high) if low < high else own
            low, high = (low, high) if low < high else (own, own)
        found.append(Parameter(name, start, low, high))
    return found


def _held(p: Parameter, value: float) -> Parameter:
    return Parameter(p.name, value, value, value)
