"""How long a kernel takes on a real device: warmed up, buffers rotated past the cache, medians with spread.

On CUDA a graph of several calls is replayed between two events, so that the time is the device's and not the
host's; on a CPU each call is timed by `host_clock`.
"""

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import torch

MAX_BUFFER = 256  # of small operands, so that all of a layer's kind are past a last level that others share
Run = Callable[[int], object]  # run(i) executes once on the i-th set of buffers


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds a call: median over repeats, half the interquartile range relative to it, number of repeats, and
    the fastest of them."""

    median_s: float
    spread: float
    num_repeat: int
    fastest_s: float


def host_clock(device: torch.device) -> Callable[[], float]:
    """The clock of times taken on the host: the wall's; on a CPU with one thread, the time that this thread had a
    core, so that other work on a shared machine does not count as the operator's.

    >>> host_clock(torch.device("cuda")) is time.perf_counter
    True
    """
    if device.type == "cpu" and torch.get_num_threads() == 1:
        return time.thread_time
    return time.perf_counter


def measure(
    run: Run, device: torch.device, budget_s: float = 0.25, num_buffer: int = 1, min_repeat: int = 5,
    before: Callable[[], object] = lambda: None,
) -> Timing:  # fmt: skip
    """Time `run` for about `budget_s` seconds; `min_repeat` times at least, or once where one call takes longer.

    `num_buffer`: sets of buffers that `run(i % num_buffer)` cycles through; `before`: called before each call on a CPU,
    outside of what is timed. Raises `RuntimeError` as the
    kernel itself does (an unsupported shape, out of memory).
    """
    sample_s = _cuda_samples(run, budget_s, num_buffer, min_repeat) if device.type == "cuda" else None
    if sample_s is None:
        sample_s = _host_samples(run, device, budget_s, num_buffer, min_repeat, before)
    low, middle, high = np.percentile(sample_s, [25, 50, 75])
    return Timing(float(middle), float((high - low) / 2 / middle), len(sample_s), float(min(sample_s)))


def _host_samples(
    run: Run, device: torch.device, budget_s: float, num_buffer: int, min_repeat: int, before: Callable[[], object]
) -> list[float]:
    samples: list[float] = []
    clock = host_clock(device)
    begun = time.perf_counter()
    for index in range(min(num_buffer, 3)):
        run(index)
        if time.perf_counter() - begun > budget_s > 0:
            break
    end = time.perf_counter() + budget_s
    least = min_repeat if time.perf_counter() - begun <= budget_s or budget_s <= 0 else 1
    while len(samples) < least or (time.perf_counter() < end and len(samples) < 10_000):
        before()
        start = clock()
        run(len(samples) % num_buffer)
        samples.append(clock() - start)
    return samples


def _cuda_samples(run: Run, budget_s: float, num_buffer: int, min_repeat: int) -> list[float]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for index in range(3):  # warm-up: autotuning and lazy allocation must not be captured
            run(index % num_buffer)
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        run(0)
        last.record()
    stream.synchronize()
    once_s = max(first.elapsed_time(last) * 1e-3, 1e-6)
    num_call = int(min(max(num_buffer, 2e-3 / once_s, 4), 64))  # a graph long enough to hide its own launch
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for index in range(num_call):
            run(index % num_buffer)
    samples: list[float] = []
    end = time.perf_counter() + budget_s
    graph.replay()
    torch.cuda.synchronize()
    while len(samples) < min_repeat or (time.perf_counter() < end and len(samples) < 1000):
        first.record()
        graph.replay()
        last.record()
        torch.cuda.synchronize()
        samples.append(first.elapsed_time(last) * 1e-3 / num_call)
    return samples


def num_buffer_past_cache(working_byte: float, cache_byte: float, free_byte: float) -> int:
    """Sets of buffers so that a set is evicted before it is used again: twice the cache, within memory.

    >>> num_buffer_past_cache(25e6, 50e6, 80e9)
    5
    """
    wanted = int(2 * cache_byte / max(working_byte, 1.0)) + 1
    return max(1, min(wanted, MAX_BUFFER, int(0.4 * free_byte / max(working_byte, 1.0))))
