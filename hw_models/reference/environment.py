"""What a measurement was made on: device, driver, versions, clocks, cache and memory."""

import dataclasses
import os
import pathlib
import platform
import subprocess
import time

import torch

from kernels.errors import InputError


@dataclasses.dataclass(frozen=True)
class Environment:
    """Recorded with every measured file."""

    device: str  # "cuda" or "cpu"
    name: str
    driver: str
    torch: str
    num_core: int  # SMs or threads used
    clock_hz: float
    cache_byte: float  # last level
    memory_byte: float


def read(kind: str) -> Environment:
    """The environment of `kind` ("cuda" or "cpu"); an `InputError` where it is not there."""
    if kind == "cuda":
        return _cuda()
    if kind == "cpu":
        return _cpu()
    raise InputError("no such kind of device", field="device", value=kind, allowed=["cuda", "cpu"])


def settle_threads(most: int = 0) -> int:
    """Use as many CPU threads as make a small multiply fastest, and return how many: where other work holds the
    cores, threads that wait for each other lose a scheduler's slice a kernel. `most`: use exactly so many instead
    (as many as there are cores at most)."""
    limit = os.cpu_count() or 1
    if most > 0:
        torch.set_num_threads(min(most, limit))
        return torch.get_num_threads()
    x, weight = torch.ones(32, 1024), torch.ones(1024, 1024)
    best, best_s = 1, float("inf")
    count = torch.get_num_threads()
    while count >= 1:
        torch.set_num_threads(count)
        samples: list[float] = []
        end = time.perf_counter() + 0.3
        while len(samples) < 5 or time.perf_counter() < end:
            start = time.perf_counter()
            torch.nn.functional.linear(x, weight)
            samples.append(time.perf_counter() - start)
        middle = sum(samples) / len(samples)
        if middle < best_s:
            best, best_s = count, middle
        count //= 2
    torch.set_num_threads(best)
    return best


def _cuda() -> Environment:
    if not torch.cuda.is_available():
        raise InputError("torch sees no CUDA device", field="device", value="cuda", allowed=["cpu"])
    properties = torch.cuda.get_device_properties(0)
    query = subprocess.run(
        ["nvidia-smi", "-i", "0", "--query-gpu=driver_version,clocks.max.sm", "--format=csv,noheader,nounits"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    driver, _, clock = query.stdout.strip().partition(", ")
    return Environment(
        "cuda",
        properties.name,
        f"driver {driver or 'unknown'}, CUDA {torch.version.cuda}",
        torch.__version__,
        properties.multi_processor_count,
        float(clock or 0) * 1e6,
        float(properties.L2_cache_size),
        float(properties.total_memory),
    )


def _cpu() -> Environment:
    info = pathlib.Path("/proc/cpuinfo")
    fields = {
        key.strip(): value.strip()
        for key, _, value in (line.partition(":") for line in (info.read_text() if info.exists() else "").splitlines())
    }
    return Environment(
        "cpu",
        fields.get("model name", platform.processor() or platform.machine()),
        platform.platform(),
        torch.__version__,
        torch.get_num_threads(),
        float(fields.get("cpu MHz", 0)) * 1e6,
        _last_level_cache_byte(),
        float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
    )


def _last_level_cache_byte() -> float:
    sizes = [0.0]
    for path in pathlib.Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        sizes.append(float(text.rstrip("KMG")) * {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1], 1))
    return max(sizes) or 32 * 2**20
