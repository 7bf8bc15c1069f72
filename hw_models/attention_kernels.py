"""Attention kernels that training software names, as fit vectors of a device: from their published speeds.

A published speed at two head widths gives two constants: a share of a core's peak, and the softmax of a pair as FLOPs
that could have run (`attention_kernels.toml` has every figure with its source). A device takes a kernel's shares from
the nearest device of its line that has it, scaled by its own peak. Forward, the kernel that a device's own calibration
measured (`MEASURED`) is that calibration.
"""

import functools
import pathlib
import tomllib
from typing import Any

import numpy as np
import numpy.typing as npt

from hw_models import catalog, relatives
from hw_models.spec import Device
from kernels.attention import ATTENTION_FIT, IDEAL_ATTENTION
from kernels.attention_backward import BACKWARD_FIT
from kernels.errors import InputError
from kernels.machine import NUM_FIT

Floats = npt.NDArray[np.float64]
Widths = npt.NDArray[np.integer[Any]]
DATA = pathlib.Path(__file__).with_suffix(".toml")
MEASURED = {"flash2": ("a100_sxm_80gb",), "flash3": ("h100_sxm",)}  # whose profile has this kernel as its default
FALLBACK = "a100_sxm_80gb"  # whose shares a device takes that has no relative
OLDER = {"flash3": "flash2"}  # the version that runs where a newer one does not (before Hopper)
LAUNCH_S = 4e-6  # of a kernel in a stream, as the calibrated ones (3 to 6 us)
TILE = 128.0
TAIL = 0.0  # published speeds have it


@functools.cache
def _data() -> tuple[dict[str, Any], ...]:
    return tuple(tomllib.loads(DATA.read_text(encoding="utf-8"))["kernel"])


def names() -> tuple[str, ...]:
    """Every named kernel."""
    return tuple(dict.fromkeys(kernel["name"] for kernel in _data()))


def measured(device: Device) -> str:
    """The kernel that the calibration of a device (or of its nearest relative that has one) measured forward; "" where
    that is none of those named here."""
    line = [held.name for held in relatives.line(device)]
    return next((name for name, devices in MEASURED.items() if set(line) & set(devices)), "")


def usual(device: Device) -> str:
    """The kernel whose backward pass a device runs where nobody names one: that which was measured forward, else the
    newest that is published for it."""
    line = [held.name for held in relatives.line(device)]
    known = [kernel["name"] for kernel in _data() if kernel["device"] in line]
    return measured(device) or max(known, default="flash2")


def find(name: str, device: Device) -> dict[str, Any]:
    """The entry that a device uses. `InputError` for an unknown kernel."""
    entries = {kernel["device"]: kernel for kernel in _data() if kernel["name"] == name}
    if not entries:
        raise InputError("no such attention kernel", field="attention", value=name, allowed=names())
    for held in relatives.line(device):
        if held.name in entries:
            return entries[held.name]
    return entries[FALLBACK] if FALLBACK in entries else find(OLDER[name], device)


def widths(name: str, device: Device) -> tuple[int, ...]:
    """The head widths that a kernel is built for; none: it takes every head as it is, or is no named kernel.

    >>> widths("flash1", catalog.device("a100_sxm_40gb"))
    (32, 64, 128)
    """
    return tuple(find(name, device).get("width", ())) if name in names() else ()


def run_width(width: Widths, built: tuple[int, ...]) -> Widths:
    """The width that a head of `width` runs in: the next one that is built, or its own where it is wider than all.

    >>> run_width(np.array([64, 96, 192]), (32, 64, 128)).tolist()
    [64, 128, 192]
    """
    wider = np.append(np.array(built, np.int64), np.iinfo(np.int64).max)
    found = wider[np.searchsorted(wider, width)]
    return np.where(found == wider[-1], width, found)


def shares(tflops: dict[str, float], peak_flop_per_s: float, flop_per_dim: float) -> tuple[float, float]:
    """(share of peak, softmax FLOPs of a pair) that give the published speed at two head widths.

    A pair takes `flop_per_dim d` FLOPs of products and `soft` more: speed is eff peak / (1 + soft / (flop_per_dim d)).

    >>> eff, soft = shares({"64": 100.0, "128": 150.0}, 300e12, 4.0)
    >>> round(300 * eff / (1 + soft / 256), 6), round(300 * eff / (1 + soft / 512), 6)
    (100.0, 150.0)
    """
    (narrow, slow), (wide, fast) = sorted((float(dim), value * 1e12) for dim, value in tflops.items())
    # 1 / speed = (1 + soft / (c d)) / (eff peak): linear in 1 / d
    slope = (1 / slow - 1 / fast) / (1 / narrow - 1 / wide)
    flat = 1 / fast - slope / wide
    if slope <= 0:  # no faster with wider heads
        return (slow + fast) / 2 / peak_flop_per_s, 0.0
    return 1 / (flat * peak_flop_per_s), slope / flat * flop_per_dim


def forward_fit(name: str, device: Device) -> Floats | None:
    """Fit vector of `attn_prefill`; None where the device's calibration measured this very kernel."""
    entry = find(name, device)
    if any(held.name in MEASURED.get(entry["name"], ()) for held in relatives.line(device)):
        return None
    eff, soft = shares(entry["forward"], catalog.device(entry["device"]).peak("bf16"), 4.0)
    values = dict(zip(ATTENTION_FIT, IDEAL_ATTENTION, strict=True))
    values |= {"launch_s": LAUNCH_S, "compute_eff": eff, "soft_flop": soft, "tail": TAIL, "tile_q": TILE,
               "tile_kv_value": TILE * TILE, "tile_kv_max": TILE}  # fmt: skip
    return _slots([values[field] for field in ATTENTION_FIT])


def backward_fit(name: str, device: Device) -> Floats:
    """Fit vector of `attn_backward`."""
    entry = find(name, device)
    eff, soft = shares(entry["backward"], catalog.device(entry["device"]).peak("bf16"), 10.0)
    values = {"launch_s": 2 * LAUNCH_S, "compute_eff": eff, "soft_flop": soft, "tile": TILE, "tail": TAIL,
              "mem_eff": 1.0}  # fmt: skip
    return _slots([values[field] for field in BACKWARD_FIT])


def _slots(values: list[float]) -> Floats:
    out = np.zeros(NUM_FIT)
    out[: len(values)] = values
    return out
