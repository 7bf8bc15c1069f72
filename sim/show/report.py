"""The console block of a run: vLLM's benchmark table, then KV use, energy and cost, operators, and what bounds it."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from sim.record.columns import Columns
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
    parts = [_head(run), _benchmark(metrics), _memory(run), _money(metrics), *_operators(run, num_operator)]
    parts += [_words(run, metrics)]
    if not metrics["completed"]:
        parts = [[_title(f" {nothing_served(run)} ", "=")], *parts]
    return "\n".join(line for part in parts for line in part) + "\n" + "=" * WIDTH


def nothing_served(run: Run) -> str:
    """That no request was served, and how many there were."""
    return f"No request was served (of {len(run.request):,})"


def short(run: Run, metrics: Mapping[str, Any]) -> str:
    """A run in one line: what was served, how fast, how long it took, at which fidelity."""
    if not metrics["completed"]:
        return nothing_served(run).lower()
    said = [f"{metrics['completed']:,} of {len(run.request):,} requests served in {metrics['duration']:,.4g} s"]
    said += [f"{metrics['output_throughput']:,.4g} output tokens/s"]
    for name in ("ttft", "tpot"):
        if metrics[f"median_{name}_ms"] is not None:
            said += [f"{SHORT[name]} {metrics[f'median_{name}_ms']:,.4g} ms (P99 {metrics[f'p99_{name}_ms']:,.4g})"]
    return ", ".join([*said, str(run.about.get("fidelity", ""))]).rstrip(", ")


HTML_ROWS: dict[str, str] = {
    "completed": "requests served", "failed": "requests not served", "duration": "duration (s)",
    "request_throughput": "requests / s", "request_goodput": "requests within the objective / s",
    "output_throughput": "output tokens / s", "median_ttft_ms": "TTFT, median (ms)", "p99_ttft_ms": "TTFT, P99 (ms)",
    "median_tpot_ms": "TPOT, median (ms)", "p99_tpot_ms": "TPOT, P99 (ms)", "p99_e2el_ms": "end to end, P99 (ms)",
    "mean_power_w": "mean power (W)", "usd_per_million_output_token": "$ a million output tokens",
}  # fmt: skip


def html_table(title: str, run: Run, metrics: Mapping[str, Any]) -> str:
    """A run as a small HTML table, for notebooks."""
    from html import escape

    def cell(value: Any) -> str:
        return "n/a" if value is None else f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"

    rows = "".join(
        f"<tr><td>{label}</td><td style='text-align:right'>{cell(metrics[key])}</td></tr>"
        for key, label in HTML_ROWS.items()
        if metrics.get(key) is not None
    )
    about = ", ".join(f"{key} {run.about[key]}" for key in ("fidelity", "seed", "config_hash") if key in run.about)
    head = escape(title if metrics["completed"] else f"{title}: {nothing_served(run)}")
    return f"<table><caption>{head}<br><small>{escape(about)}</small></caption><tbody>{rows}</tbody></table>"


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
    if "spec_decode_num_drafts" in metrics:
        lines += [
            _title("Speculative Decoding"),
            _line("Acceptance rate (%):", metrics["spec_decode_acceptance_rate"]),
            _line("Acceptance length (tokens a verification):", metrics["spec_decode_acceptance_length"]),
            _line("Drafts:", metrics["spec_decode_num_drafts"]),
            _line("Draft tokens:", metrics["spec_decode_draft_tokens"]),
            _line("Accepted tokens:", metrics["spec_decode_accepted_tokens"]),
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
    if "kv_capacity_token" in totals:
        lines += [
            _line("KV blocks (a replica):", int(totals["kv_block"])),
            *kv_words(totals),
        ]
    for label, key in (
        ("Mean use of KV blocks (%):", "kv_mean_share"),
        ("Peak use of KV blocks (%):", "kv_peak_share"),
        ("Tokens of sequences over held slots (%):", "kv_token_share"),
        ("KV kept of what was computed (%):", "kv_kept_share"),
    ):
        if key in totals:
            lines += [_line(label, _percent(totals[key]))]
    if totals.get("num_fetch"):
        lines += [_line("Adapters fetched from the host:", int(totals["num_fetch"]))]
        lines += [_line("Steps waited for adapters (s):", totals["fetch_wait_s"])]
    if run.about.get("kv_tiers"):
        for name, moved in run.about["kv_tiers"].items():
            lines += [_line(f"Prefix tokens read from {name}:", moved["read_token"])]
            lines += [_line(f"Prefix tokens written to {name}:", moved["written_token"])]
        lines += [_line("Steps waited for tiers (s):", totals["kv_wait_s"])]
    if totals.get("num_spared_key"):
        lines += [_line("Keys of shared spans not read again:", int(totals["num_spared_key"]))]
    frame = run.request
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
        _line("Mean power at the wall (W):", metrics.get("mean_wall_power_w")),
        _line("Peak power (W):", metrics.get("peak_power_w")),
        _line("Energy (J) per million tokens:", metrics["energy_j_per_million_token"], 0),
        _line("Energy (J) per million output tokens:", metrics["energy_j_per_million_output_token"], 0),
        _line("Cost ($) per million tokens:", metrics["usd_per_million_token"], 3),
        _line("Cost ($) per million output tokens:", metrics["usd_per_million_output_token"], 3),
    ]


def _operators(run: Run, num_operator: int) -> list[list[str]]:
    if run.operator is None or not len(run.operator):
        return []
    share = time_share(run.operator, "operator")
    lines = [_title("Device Time by Operator (%)")]
    for name, part in list(share.items())[:num_operator]:
        lines += [_line(f"{name}:", _percent(part))]
    if len(share) > num_operator:
        rest = sum(list(share.values())[num_operator:])
        lines += [_line(f"{_count(len(share) - num_operator, 'other', 'others')}:", _percent(rest))]
    lines += [_title("Device Time by Bound (%)")]
    lines += [_line(f"{bound}:", _percent(part)) for bound, part in bound_share(run.operator).items()]
    return [lines]


def time_share(operator: Columns, by: str) -> dict[str, float]:
    """Share of device time by the words of a column, the largest first."""
    total: dict[str, float] = {}
    for word, time_s in zip(operator.words(by), operator["time_s"].tolist(), strict=True):
        total[word] = total.get(word, 0.0) + time_s
    whole = sum(total.values())
    return {word: total[word] / whole for word in sorted(total, key=lambda word: -total[word])}


def bound_share(operator: Columns) -> dict[str, float]:
    """Share of device time by what bound it, the largest first."""
    return time_share(operator, "bound")


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
    if run.operator is not None and len(run.operator):
        bound, share = next(iter(bound_share(run.operator).items()))
        names = list(time_share(run.operator.rows(run.operator.equal("bound", bound)), "operator"))[:2]
        said += [f"{share:.0%} of device time is bound by {BOUND_WORDS[bound]} (most in {' and '.join(names)})."]
    request = run.request
    num_replica = float(run.totals.get("num_replica", 1))
    if metrics["duration"] > 0 and "busy_s" in run.totals:
        busy = run.totals["busy_s"] / (num_replica * metrics["duration"])
        idle = ": more load would fit" if busy < 0.5 else ""
        said += [f"Replicas are busy {min(busy, 1.0):.0%} of the time{idle}."]
        there = ~np.isnan(request["e2e_s"])
        held = float((request["e2e_s"][there] - request["queue_s"][there]).sum())
        said += [f"A replica runs {held / metrics['duration'] / num_replica:.1f} requests at once on average."]
    said += [load_words(metrics)]
    num_preemption = int(request["num_preemption"].sum())
    if num_preemption or run.totals.get("kv_peak_share", 0.0) > 0.95:
        said += [f"KV memory runs full ({_count(num_preemption, 'preemption', 'preemptions')})."]
    done = request.rows(request.equal("status", "finished"))
    if len(done):
        waiting = float(done["queue_s"].sum()) / float(done["e2e_s"].sum())
        if waiting > 0.5:
            said += [f"Requests spend {waiting:.0%} of their time in the queue: the load is above what this serves."]
        elif waiting > 0.1:
            said += [f"Requests spend {waiting:.0%} of their time in the queue."]
    refused = Counter(request.rows(request.equal("status", "refused")).words("reason"))
    for reason, count in refused.most_common():
        said += [f"{_count(count, 'request was', 'requests were')} refused: {reason}."]
    left = Counter(request.rows(request.equal("status", "unfinished")).words("reason"))
    for reason, count in left.most_common():
        said += [
            f"{_count(count, 'request', 'requests')} had not finished when the run ended{reason and f': {reason}'}."
        ]
    return said


LOAD_WORDS = {
    "stable": "The load is kept up with (stable)",
    "backlogged": "The load is kept up with, but whoever comes waits (backlogged)",
    "overloaded": "The load is more than what is served (overloaded): latencies grow with the length of the run",
}


def load_words(metrics: Mapping[str, Any], states: Mapping[str, int] | None = None) -> str:
    """Whether the system keeps up, a sentence; `states`: of how many resamples of the calibration's error each is."""
    drift = f"{abs(metrics['queue_drift']):.1%}"
    change = (
        "does not grow" if drift == "0.0%" else f"{'grows' if metrics['queue_drift'] > 0 else 'shrinks'} by {drift} of"
    )
    said = f"{LOAD_WORDS[metrics['load_state']]}; the queue {change}{' what arrives' if change.endswith('of') else ''}"
    if states:
        said += (
            f"; within the calibration's error {', '.join(f'{s} in {n}' for s, n in states.items())} of "
            f"{sum(states.values())} resamples"
        )
    return f"{said}."


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _words(run: Run, metrics: Mapping[str, Any]) -> list[str]:
    import textwrap

    lines = [_title("What Bounds It")]
    for sentence in bound_words(run, metrics):
        lines += textwrap.wrap(sentence, WIDTH)
    return lines


HEAD = {"machines": "Machines", "calibration": "Calibration", "kernels": "Kernels", "speculation": "Speculation"}


def _head(run: Run) -> list[str]:
    """What the run is: its configuration, whose calibration it has, what was left out, ignored or refused."""
    import textwrap

    about = run.about
    if not about:
        return []
    lines = [_title(" Run ", "=")]
    keys = ("fidelity", "seed", "config_hash", "mode", "formats")
    lines += [", ".join(f"{key} {about[key]}" for key in keys if key in about)]
    return [*lines, *(line for sentence in what_it_is(about) for line in textwrap.wrap(sentence, WIDTH))]


def what_it_is(about: Mapping[str, Any]) -> list[str]:
    """What a run is, a sentence each: whose calibration it has, what had no effect or was cut, who was refused.

    >>> what_it_is({"calibration": "measured on a100_sxm", "refused": {"longer than the context": 2}})
    ['Calibration: measured on a100_sxm.', '2 requests refused: longer than the context.']
    """
    said = [f"{word}: {about[key]}." for key, word in HEAD.items() if about.get(key)]
    said += [f"Note: {note}." for note in about.get("note", ())]
    return said + [
        f"{_count(count, 'request', 'requests')} refused: {why}." for why, count in about.get("refused", {}).items()
    ]


def kv_words(totals: Mapping[str, float]) -> list[str]:
    """The size of the KV cache of a replica, and how many of the longest sequences it holds, as vLLM logs them."""
    length = int(totals["max_model_len"])
    return [
        f"GPU KV cache size: {int(totals['kv_capacity_token']):,} tokens",
        f"Maximum concurrency for {length:,} tokens per request: {totals['kv_concurrency']:.2f}x",
    ]
