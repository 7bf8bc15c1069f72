"""The console block of a run: vLLM's benchmark table, then KV use, energy and cost, operators, and what bounds it."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from sim.record.metrics import percentile_word
from sim.record.records import Run

WIDTH = 58
LATENCIES = {
    "ttft": "Time to First Token",
    "tpot": "Time per Output Token (excl. 1st token)",
    "itl": "Inter-token Latency",
    "e2el": "End-to-end Latency",
}
SHORT = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2el": "E2EL"}


def console(run: Run, metrics: Mapping[str, Any], *, num_operator: int = 8) -> str:
    """The whole block as text; `metrics` is what `sim.record.metrics.measure` returned."""
    parts = [_benchmark(metrics), _memory(run), _money(metrics), *_operators(run, num_operator), _words(run, metrics)]
    return "\n".join(line for part in parts for line in part) + "\n" + "=" * WIDTH


def _title(text: str, fill: str = "-") -> str:
    return f"{text:{fill}^{WIDTH}}"


def _line(label: str, value: Any, digits: int = 2) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        shown = "n/a"
    else:
        shown = f"{value:,.{digits}f}" if isinstance(value, float) else f"{value:,}"
    return f"{label:<42}{shown:>{WIDTH - 42}}"


def _benchmark(metrics: Mapping[str, Any]) -> list[str]:
    lines = [
        _title(" Serving Benchmark Result (simulated) ", "="),
        _line("Successful requests:", metrics["completed"]),
        _line("Failed requests:", metrics["failed"]),
        _line("Benchmark duration (s):", metrics["duration"]),
        _line("Total input tokens:", metrics["total_input_tokens"]),
        _line("Total generated tokens:", metrics["total_output_tokens"]),
        _line("Request throughput (req/s):", metrics["request_throughput"]),
    ]
    if metrics["request_goodput"] is not None:
        lines += [_line("Request goodput (req/s):", metrics["request_goodput"])]
    lines += [
        _line("Output token throughput (tok/s):", metrics["output_throughput"]),
        _line("Peak output token throughput (tok/s):", metrics["max_output_tokens_per_s"]),
        _line("Peak concurrent requests:", metrics["max_concurrent_requests"]),
        _line("Total token throughput (tok/s):", metrics["total_token_throughput"]),
    ]
    for name, title in LATENCIES.items():
        if f"mean_{name}_ms" not in metrics:
            continue
        lines += [_title(title)]
        lines += [_line(f"Mean {SHORT[name]} (ms):", metrics[f"mean_{name}_ms"])]
        lines += [_line(f"Median {SHORT[name]} (ms):", metrics[f"median_{name}_ms"])]
        for key, value in metrics.items():
            if key.startswith("p") and key.endswith(f"_{name}_ms"):
                word = percentile_word(float(key[1:].split("_")[0]))
                lines += [_line(f"P{word} {SHORT[name]} (ms):", value)]
    return lines


def _percent(value: float) -> float:
    return 100.0 * value


def _memory(run: Run) -> list[str]:
    totals = run.totals
    lines = [_title("KV Cache")]
    for label, key in (
        ("Mean use of KV blocks (%):", "kv_mean_share"),
        ("Peak use of KV blocks (%):", "kv_peak_share"),
        ("Tokens of sequences over held slots (%):", "kv_token_share"),
    ):
        if key in totals:
            lines += [_line(label, _percent(totals[key]))]
    frame = run.requests
    prompt = int(frame["prompt_token"].sum())
    lines += [_line("Prompt tokens found in the cache (%):", _percent(float(frame["cached_token"].sum()) / prompt))]
    return [*lines, _line("Preemptions:", int(frame["num_preemption"].sum()))]


PART_WORDS = {
    "idle": "idle power",
    "xpu": "engines and caches",
    "memory": "memory through its pins",
    "pim": "arithmetic in the memory",
    "pim_memory": "memory read in place",
    "link": "links",
}


def _money(metrics: Mapping[str, Any]) -> list[str]:
    parts = {word: metrics.get(f"energy_{part}_j") or 0.0 for part, word in PART_WORDS.items()}
    total = metrics["energy_j"]
    return [
        _title("Energy and Cost"),
        _line("Energy (kJ):", None if total is None else total / 1e3),
        *(_line(f"  {word} (%):", _percent(joule / total)) for word, joule in parts.items() if joule and total),
        _line("Mean power (W):", metrics.get("mean_power_w")),
        _line("Peak power (W):", metrics.get("peak_power_w")),
        _line("Energy (J) per million tokens:", metrics["energy_j_per_million_token"], 0),
        _line("Energy (J) per million output tokens:", metrics["energy_j_per_million_output_token"], 0),
        _line("Cost ($) per million tokens:", metrics["usd_per_million_token"], 3),
        _line("Cost ($) per million output tokens:", metrics["usd_per_million_output_token"], 3),
    ]


def _operators(run: Run, num_operator: int) -> list[list[str]]:
    if run.operators is None or not len(run.operators):
        return []
    total = float(run.operators["time_s"].sum())
    by_operator = run.operators.groupby("operator", sort=False)["time_s"].sum().sort_values(ascending=False)
    lines = [_title("Device Time by Operator (%)")]
    for name, time_s in by_operator.head(num_operator).items():
        lines += [_line(f"{name}:", _percent(time_s / total))]
    if len(by_operator) > num_operator:
        rest = float(by_operator.iloc[num_operator:].sum())
        lines += [_line(f"{_count(len(by_operator) - num_operator, 'other', 'others')}:", _percent(rest / total))]
    lines += [_title("Device Time by Bound (%)")]
    lines += [_line(f"{bound}:", _percent(share)) for bound, share in bound_share(run.operators).items()]
    return [lines]


def bound_share(operators: pd.DataFrame) -> dict[str, float]:
    """Share of device time by what bound it, the largest first."""
    by_bound = operators.groupby("bound", sort=False)["time_s"].sum().sort_values(ascending=False)
    return {str(bound): float(time_s) / float(by_bound.sum()) for bound, time_s in by_bound.items()}


BOUND_WORDS = {
    "compute": "the arithmetic peak",
    "memory": "memory bandwidth",
    "link": "the links between devices",
    "launch": "kernel launches",
    "latency": "latency of collectives",
    "host": "the host's overhead",
    "pim compute": "arithmetic of the units in the memory",
    "pim memory": "bandwidth inside the memory",
}


def bound_words(run: Run, metrics: Mapping[str, Any]) -> list[str]:
    """What bounds the run, as sentences: the device, how busy it is, the KV cache, the queue, refusals."""
    said: list[str] = []
    if run.operators is not None and len(run.operators):
        bound, share = next(iter(bound_share(run.operators).items()))
        inside = run.operators[run.operators["bound"] == bound]
        names = inside.groupby("operator")["time_s"].sum().sort_values(ascending=False).index[:2]
        said += [f"{share:.0%} of device time is bound by {BOUND_WORDS[bound]} (most in {' and '.join(names)})."]
    num_replica = float(run.totals.get("num_replica", 1))
    if metrics["duration"] > 0 and "busy_s" in run.totals:
        busy = run.totals["busy_s"] / (num_replica * metrics["duration"])
        idle = ": more load would fit" if busy < 0.5 else ""
        said += [f"Replicas are busy {min(busy, 1.0):.0%} of the time{idle}."]
        held = run.requests["e2e_s"].sum() - run.requests.loc[run.requests["e2e_s"].notna(), "queue_s"].sum()
        said += [f"A replica runs {held / metrics['duration'] / num_replica:.1f} requests at once on average."]
    num_preemption = int(run.requests["num_preemption"].sum())
    if num_preemption or run.totals.get("kv_peak_share", 0.0) > 0.95:
        said += [f"KV memory runs full ({_count(num_preemption, 'preemption', 'preemptions')})."]
    done = run.requests[run.requests["status"] == "finished"]
    if len(done):
        waiting = float(done["queue_s"].sum()) / float(done["e2e_s"].sum())
        if waiting > 0.5:
            said += [f"Requests spend {waiting:.0%} of their time in the queue: the load is above what this serves."]
        elif waiting > 0.1:
            said += [f"Requests spend {waiting:.0%} of their time in the queue."]
    refused = run.requests[run.requests["status"] == "refused"]
    for reason, count in refused["reason"].value_counts().items():
        if count:
            said += [f"{_count(int(count), 'request was', 'requests were')} refused: {reason}."]
    num_left = int((run.requests["status"] == "unfinished").sum())
    return said + (
        [f"{_count(num_left, 'request', 'requests')} had not finished when the run ended."] if num_left else []
    )


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _words(run: Run, metrics: Mapping[str, Any]) -> list[str]:
    import textwrap

    lines = [_title("What Bounds It")]
    for sentence in bound_words(run, metrics):
        lines += textwrap.wrap(sentence, WIDTH)
    about = run.about
    if about:
        lines += [_title("Run")]
        keys = ("fidelity", "seed", "config_hash", "mode")
        lines += [", ".join(f"{key} {about[key]}" for key in keys if key in about)]
    return lines
