"""Pools whose stores are tight and name what they hold: the compiled heap is SimPy's clock, whatever is evicted."""

import numpy as np
import pytest

from sim.serving.rules import Rules
from tests.sim.cluster.test_meetings import both, part
from tests.sim.serving.serving_case import load

RULES = {
    "plain": Rules(), "early": Rules(own_cache=True, share_early=True), "tree": Rules(own_cache=True, radix=True),
    "copies": Rules(own_cache=True, keep_duplicate=True),
}  # fmt: skip


def named(seed, num=40, gap_us=60, unit_token=8):
    """Requests of four groups, each with some units of its group's beginning and then its own."""
    random = np.random.default_rng(seed)
    prompt, group = random.integers(9, 90, num), random.integers(0, 4, num)
    units, start, stop = [], [], []
    for i in range(num):
        whole = int(prompt[i]) // unit_token
        shared = min(whole, int(random.integers(0, 8)))
        start.append(len(units))
        units += [1000 * int(group[i]) + k for k in range(shared)]
        units += [100_000 + 100 * i + k for k in range(whole - shared)]
        stop.append(len(units))
    names = np.unique(units, return_inverse=True)[1].astype(np.int32)
    return load(
        np.cumsum(random.exponential(gap_us, num)).astype(int), prompt, random.integers(1, 30, num),
        unit_start=np.array(start), unit_stop=np.array(stop), unit_id=names, unit_token=unit_token,
    )  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("num_decode", [1, 2])
def test_what_a_plan_evicts_at_its_end_is_seen_by_who_waits(rule, num_decode):
    """A tree evicts once a plan is made. Who waits then finds less of its own, and a first chunk takes fewer blocks."""
    tight = {"rules": RULES[rule], "num_block": 45}
    for seed in range(12):
        for gap_us in (60, 150):
            trace = named(seed, gap_us=gap_us)
            both(trace, lambda: [part("prefill", 3, "prefix_aware", **tight), part("decode", num_decode, **tight)])
