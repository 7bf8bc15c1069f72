"""Exact integers of named serving scenarios. `python -m tests.goldens.serving_golden` writes them anew."""

import json
import pathlib

import numpy as np

from hw_models import catalog
from hw_models.device import machine
from sim.serving.accounts import accounts
from sim.serving.limits import Limits
from sim.serving.rules import Group, Rules
from sim.serving.step_price import HostTime, build
from tests.sim.serving.serving_case import load, run
from workloads import formats, models, placement

FILE = pathlib.Path(__file__).with_name("serving.json")
VLLM = Rules(own_cache=True, share_early=True, end_late=True, pooled=True, by_admission=True, keep_duplicate=True)
RULES = {  # what an engine decides beside its policy, groups of layers, steps planned ahead
    "vllm_v1_cache": (VLLM, (Group(),), 1),
    "vllm_v1_shared_stages": (VLLM, (Group(),), 0),
    "vllm_v1_window": (VLLM, (Group("window", 128), Group()), 1),
    "vllm_v1_recurrent": (Rules(), (Group(), Group("state", 0, 8)), 0),
}
SCENARIOS = {  # policy, pipeline stages, replicas, preemption
    "sarathi": ("sarathi:max_token=256,max_seq=16", 1, 1, "recompute"),
    "vllm_v1_pipeline": ("vllm_v1:max_token=256,max_seq=8", 2, 1, "recompute"),
    "vllm_v0_swap": ("vllm_v0:max_token=1024,max_seq=16", 1, 2, "swap"),
    "orca_pow2": ("orca:max_token=1024,max_seq=16,reserve=pow2", 1, 1, "recompute"),
    "vllm_v1_cache": ("vllm_v1:max_token=256,max_seq=16", 1, 1, "recompute"),
    "vllm_v1_shared_stages": ("vllm_v1:max_token=256,max_seq=16", 2, 1, "recompute"),
    "vllm_v1_window": ("vllm_v1:max_token=256,max_seq=16", 1, 2, "recompute"),
    "vllm_v1_recurrent": ("vllm_v1:max_token=256,max_seq=16", 2, 1, "recompute"),
    "static": ("static:max_token=1024,max_seq=8,reserve=oracle", 1, 1, "recompute"),
}


def measure(name: str) -> dict[str, int]:
    """A scenario's integers: counters, times and the time of every operator by what bound it."""
    policy, pp, num_replica, preemption = SCENARIOS[name]
    random = np.random.default_rng(2024)
    num = 40
    requests = load(
        np.sort(random.integers(0, 400_000, num)), random.integers(1, 500, num), random.integers(1, 200, num)
    )
    model = models.load("falcon-h1-7b" if name == "vllm_v1_recurrent" else "llama-2-7b")
    price, lowered = build(
        model, formats.Formats(), placement.make(model, 1, pp), machine(catalog.system("a100_sxm_80gb")),
        max_token=1024, max_seq=16, host=HostTime(step_s=1e-3, seq_s=1e-5, token_s=1e-7, request_s=1e-4),
    )  # fmt: skip
    rules, groups, plan_ahead = RULES.get(name, (Rules(), (Group(),), 0))
    limits = Limits(
        num_block=160, max_context_token=1024, num_replica=num_replica, preemption=preemption,
        host_block=400 if preemption == "swap" else 0, rules=rules, groups=groups, plan_ahead=plan_ahead,
    )  # fmt: skip
    result = run(requests, price, policy, limits, "least_token")
    found = accounts(result, lowered)
    counted = {key: int(values.sum()) for key, values in result.counter.items()}
    rows = zip(found.name, found.kind, found.bound, found.time_ps, strict=True)
    return {
        "span_ps": result.span_ps,
        "ttft_sum_ps": int((result.request["first_token_ps"] - result.request["arrival_ps"]).sum()),
        "e2e_sum_ps": int((result.request["end_ps"] - result.request["arrival_ps"]).sum()),
        "energy_nj": int(found.energy_nj.sum()) + found.idle_nj,
        **{f"counter {key}": total for key, total in counted.items() if total},  # a new one that counts nothing is none
        **{f"operator {name}, kind {kind}, bound {bound}, ps": int(time_ps) for name, kind, bound, time_ps in rows},
    }


def main() -> None:
    """Writes the goldens."""
    FILE.write_text(json.dumps({name: measure(name) for name in SCENARIOS}, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
