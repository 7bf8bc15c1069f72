"""Prometheus text under vLLM's metric names, as its `/metrics` stands when the run has ended.

Names and buckets: docs/design/metrics.md and vllm/v1/metrics/loggers.py of github.com/vllm-project/vllm. Inter-token
latencies come from the engine's own histogram: a count may fall into a neighbouring bucket by its width.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.show.exports._numbers import config, served

if TYPE_CHECKING:
    from sim.run.simulate import Simulation

HELP = "Prometheus text under vLLM's metric names"
TTFT_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640,
          2560)  # fmt: skip
GAP_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
REQUEST_S = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)


def export(done: "Simulation") -> bytes:
    """Counters and histograms of finished requests, gauges of the end (nothing runs any more)."""
    return ("\n".join(_lines(done)) + "\n").encode()


def _lines(done: "Simulation") -> Iterator[str]:
    rows, metrics = served(done), done.metrics
    name = str(config(done)["model"]).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    label = f'model_name="{name}",engine="0"'
    prompt, output = np.asarray(rows["prompt_token"]), np.asarray(rows["committed_token"])
    for gauge in ("num_requests_running", "num_requests_waiting"):
        yield from _single(f"vllm:{gauge}", "gauge", "Requests at the end of the run.", label, 0)
    yield from _single("vllm:kv_cache_usage_perc", "gauge", "KV-cache usage, 1 is all: time average of the run.", label,
                       done.run.totals["kv_mean_share"])  # fmt: skip
    counters = {
        "prompt_tokens": ("Prompt tokens of finished requests.", int(prompt.sum())),
        "generation_tokens": ("Output tokens of finished requests.", int(output.sum())),
        "num_preemptions": ("Preemptions.", int(done.run.totals["num_preemption"])),
        "prefix_cache_queries": ("Prompt tokens looked up.", int(prompt.sum())),
        "prefix_cache_hits": ("Prompt tokens found.", int(np.asarray(rows["cached_token"]).sum())),
    }
    for counter, (text, value) in counters.items():
        yield from _single(f"vllm:{counter}", "counter", text, label, value)
    reason = "stop" if config(done)["ends"] == "token" else "length"
    ended = f'finished_reason="{reason}",{label}'
    yield from _single("vllm:request_success", "counter", "Requests that finished.", ended, metrics["completed"])
    lengths = _one_two_five(max(int(prompt.max()), int(output.max())))
    start, first, end = (np.asarray(rows[one], float) for one in ("scheduled_s", "first_token_s", "finish_s"))
    for histogram, text, edges, values in (
        ("time_to_first_token_seconds", "TTFT.", TTFT_S, rows["ttft_s"]),
        ("e2e_request_latency_seconds", "From the arrival to the last token.", REQUEST_S, rows["e2e_s"]),
        ("request_queue_time_seconds", "Until it was scheduled.", REQUEST_S, rows["queue_s"]),
        ("request_prefill_time_seconds", "From there to the first token.", REQUEST_S, first - start),
        ("request_decode_time_seconds", "From there to the last one.", REQUEST_S, end - first),
        ("request_prompt_tokens", "Prompt lengths.", lengths, prompt),
        ("request_generation_tokens", "Output lengths.", lengths, output),
    ):
        yield from _histogram(f"vllm:{histogram}", text, label, edges, np.asarray(values, float))
    edge, count = done.run.gap_edge_s, done.run.gap_count
    if edge is not None and count is not None and metrics["mean_itl_ms"] is not None:
        middle, num = 0.5 * (edge[:-1] + edge[1:]), int(count.sum())
        yield from _histogram("vllm:inter_token_latency_seconds", "Between two tokens.", label, GAP_S, middle,
                              np.asarray(count), metrics["mean_itl_ms"] * 1e-3 * num)  # fmt: skip


def _single(name: str, kind: str, text: str, label: str, value: float) -> Iterator[str]:
    full = name + "_total" if kind == "counter" else name
    yield from (f"# HELP {full} {text}", f"# TYPE {full} {kind}", f"{full}{{{label}}} {float(value)!r}")


def _histogram(
    name: str, text: str, label: str, edges: Sequence[float], values: Any, count: Any = None, total: float | None = None
) -> Iterator[str]:
    weights = np.ones(len(values), np.int64) if count is None else count
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} histogram"
    for edge in edges:
        yield f'{name}_bucket{{le="{float(edge)!r}",{label}}} {float(weights[values <= edge].sum())!r}'
    yield f'{name}_bucket{{le="+Inf",{label}}} {float(weights.sum())!r}'
    yield f"{name}_count{{{label}}} {float(weights.sum())!r}"
    yield f"{name}_sum{{{label}}} {float(values.sum() if total is None else total)!r}"


def _one_two_five(most: int) -> list[float]:
    """1, 2, 5, 10, ... up to `most`, as vLLM's edges of lengths.

    >>> _one_two_five(30)
    [1, 2, 5, 10, 20]
    """
    found: list[float] = []
    power = 1
    while power <= most:
        found += [step * power for step in (1, 2, 5) if step * power <= most]
        power *= 10
    return found
