"""What is said of a candidate: a row of the ranked table."""

from typing import Any

from sim.recommend.search import MEETS, Candidate, Target

COLUMNS: dict[str, str] = {
    "rank": "place, the best first; then those that do not meet the target",
    "pools": "engines of each pool: number x (devices machine)",
    "kind": "mixed (every engine does both), split (a pool prefills, one decodes), mix (two machines share the load)",
    "options": "the engine's options in which it differs from the scenario",
    "num_device": "devices in all",
    "status": "meets (the target), rejected, dominated (a cheaper one of its kind meets it, or it cannot be cheap)",
    "why": "why it is not recommended",
    "binds": "of one that was simulated, what is nearest to its limit",
    "load_state": "stable, backlogged, overloaded (`sim.record.load_state`)",
    "queue_drift": "share of what arrives by which the queue grows",
    "usd_per_h": "rental of all devices an hour",
    "mean_wall_power_w": "watts at the wall, mean over the run",
    "p99_ttft_ms": "time to first token",
    "p99_tpot_ms": "time per output token",
    "median_ttft_ms": "time to first token",
    "median_tpot_ms": "time per output token",
    "request_throughput": "requests a second",
    "output_throughput": "output tokens a second",
    "token_per_s_per_user": "1 / mean TPOT",
    "token_per_s_per_device": "output tokens a second a device",
    "usd_per_million_output_token": "rental",
    "wall_j_per_million_output_token": "joules at the wall",
    "busy_share": "share of time in steps, of the busiest pool",
    "kv_share": "share of KV blocks held, time average, of the fullest pool",
}


SHOWN = ("rank", "pools", "options", "num_device", "usd_per_h", "mean_wall_power_w", "p99_ttft_ms", "p99_tpot_ms",
         "token_per_s_per_device", "usd_per_million_output_token", "load_state", "binds")  # fmt: skip
"""Of these, what a screen shows."""


def candidate_row(one: Candidate, target: Target, rank: int) -> dict[str, Any]:
    """The row of a candidate; numbers of one that was not simulated are None."""
    base = one.deployment.base
    options = []
    for pool in one.deployment.pools:
        own = [f"{name}={value}" for name, value in pool.change if name not in ("system", "tp", "pp", "dp")]
        options.append(" ".join(own))
    said: dict[str, Any] = {
        "rank": rank, "pools": one.deployment.words, "kind": one.kind,
        "options": " | ".join(options) if any(options) else "", "num_device": one.num_device,
        "status": one.status or "not looked at", "why": one.why, "binds": binds(one, target),
    }  # fmt: skip
    return said | {name: one.numbers.get(name) for name in COLUMNS if name not in said and base}


def binds(one: Candidate, target: Target) -> str:
    """What of a simulated candidate is nearest to its limit."""
    n = one.numbers
    if not n or n["p99_ttft_ms"] is None:
        return ""
    use = {
        "TTFT": n["p99_ttft_ms"] / 1e3 / target.ttft_s,
        "TPOT": (n["p99_tpot_ms"] or 0.0) / 1e3 / target.tpot_s,
        "KV memory": n["kv_share"],
    }
    name = max(use, key=lambda key: use[key])
    return f"{name} at {use[name]:.0%} of its limit"


def summary(rows: list[dict[str, Any]]) -> list[tuple[int, str]]:
    """How many candidates do not meet the target, by the first words of why."""
    count: dict[str, int] = {}
    for row in rows:
        if row["status"] != MEETS:
            head = str(row["why"]).split(":")[0].split(" (")[0]
            head = "as with more engines" if head.startswith("as with") else head
            head = "fewer of these engines meet the target" if head.endswith("meet the target") else head
            count[f"{row['status']}: {head}"] = count.get(f"{row['status']}: {head}", 0) + 1
    return sorted(((num, text) for text, num in count.items()), reverse=True)
