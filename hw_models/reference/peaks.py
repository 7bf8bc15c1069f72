"""What a device can do at most: multiply rates, memory and cache bandwidth, the floor of a launch.

These are the peaks that efficiencies are fractions of and the speed of light that no price beats, so each is the
best of several sizes and repeats, not a typical value.
"""

import dataclasses
from collections.abc import Callable

import torch

from hw_models.reference import gemm
from hw_models.reference.candidate import seeded
from hw_models.reference.device import ReferenceDevice
from hw_models.reference.timing import Run, measure
from kernels.errors import InputError
from kernels.formats import FORMAT_CODE
from kernels.optable import GEMM, empty

EDGES = (512, 1024, 2048, 4096, 8192)  # of the square multiplies
ENOUGH_S = 0.05  # a multiply this long is at its peak
FAR_BYTE = 2.0**30  # past any last level known; more takes seconds to be touched for the first time
NUM_CALL = 4  # of a multiply, at least: one to warm up, three that are timed
Report = Callable[[str, int], None]


@dataclasses.dataclass(frozen=True)
class Peaks:
    """SI rates; `flop_per_s` by number format, those that torch multiplies in on this device."""

    flop_per_s: dict[str, float]
    mem_byte_per_s: float
    cache_byte_per_s: float
    launch_s: float


def measure_peaks(
    device: ReferenceDevice, formats: tuple[str, ...], budget_s: float, progress: Report = lambda what, count: None
) -> Peaks:
    """Peaks of `device`; formats that torch cannot multiply in are left out.

    `budget_s`: about how long it may take in all. Raises `InputError` where no format can be multiplied in.
    """
    share_s = budget_s / (len(formats) + 3)
    rates: dict[str, float] = {}
    for name in formats:
        best = _multiply_rate(device, name, share_s)
        if best > 0:
            rates[name] = best
            progress(f"{name} multiply", len(rates))
    if not rates:
        raise InputError("torch multiplies in none of these formats here", field="format", value=", ".join(formats))
    cache = device.environment.cache_byte
    past = _buffer(device, min(4 * cache, FAR_BYTE))
    far = max(_copy_rate(device, past, share_s), _read_rate(device, past, share_s))
    near = max(far, _copy_rate(device, _buffer(device, cache / 8), share_s / 2))
    progress("bandwidth", 2)
    return Peaks(rates, far, near, _launch_s(device, share_s / 4))


def _multiply_rate(device: ReferenceDevice, name: str, share_s: float) -> float:
    """Best FLOP/s of square multiplies that grow until one takes `ENOUGH_S`, or the next would take the share."""
    best = 0.0
    for edge in EDGES:
        ops, _ = empty(1)
        ops["kind"], ops["fmt"], ops["m"], ops["n"], ops["k"] = GEMM, FORMAT_CODE[name], edge, edge, edge
        try:
            run = gemm.candidates(ops[0], device.torch_device)[0].make(0)
            timing = measure(_always(run), device.torch_device, share_s / len(EDGES), min_repeat=3)
        except (InputError, RuntimeError):  # no such kernel, or not of this size
            break
        best = max(best, 2.0 * edge**3 / timing.fastest_s)
        if timing.median_s > min(ENOUGH_S, share_s / (8 * NUM_CALL)):  # twice the edge, eight times the work
            break
    return best


def _always(run: Callable[[], object]) -> Run:
    return lambda index: run()


def _buffer(device: ReferenceDevice, byte: float) -> torch.Tensor:
    count = int(max(2**16, min(byte, 0.1 * device.environment.memory_byte)) / 4)
    return torch.ones(count, dtype=torch.float32, device=device.torch_device)


def _copy_rate(device: ReferenceDevice, source: torch.Tensor, share_s: float) -> float:
    """Bytes read plus bytes written a second of a copy."""
    target = torch.empty_like(source)
    timing = measure(lambda index: target.copy_(source), device.torch_device, share_s, min_repeat=3)
    return 2.0 * source.numel() * 4 / timing.fastest_s


def _read_rate(device: ReferenceDevice, source: torch.Tensor, share_s: float) -> float:
    """Bytes a second of a sum."""
    timing = measure(lambda index: source.sum(), device.torch_device, share_s, min_repeat=3)
    return source.numel() * 4 / timing.fastest_s


def _launch_s(device: ReferenceDevice, share_s: float) -> float:
    """Seconds of a kernel with nothing to do."""
    x = seeded(16, seed=0, device=device.torch_device, dtype=torch.float32)
    return measure(lambda index: x.add_(1.0), device.torch_device, share_s).median_s
