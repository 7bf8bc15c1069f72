"""Groups of requests that share a prefix, served under the policy of everybody."""

import dataclasses

import numpy as np
import pytest

from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from studies import batch_llm as b
from workloads.requests import build


def test_orders_hold_the_same_requests() -> None:
    loads = [b.batch(how, 12, 100) for how in ("shuffled", "grouped", "ranked")]
    for one in loads:
        assert np.sort(one.output_token).tolist() == np.sort(loads[0].output_token).tolist()
        assert sorted(one.unit_start.tolist()) == sorted(loads[0].unit_start.tolist())
    heavy = loads[2].output_token.reshape(12, b.MEMBER).mean(axis=1)
    assert (np.diff(heavy) <= 0).all()


def test_groups_that_share_nothing_are_the_plain_system() -> None:
    """Without names of prefixes, a cache and shared reads have nothing to do: the plain run to the tick."""
    load = b.batch("grouped", 4, 40)
    bare = build(load.arrival_ps, load.prompt_token, load.output_token)
    plain = Scenario(model="llama-3-8b", system="a100_sxm_80gb", policy=f"vllm_v1:{b.CHUNK}", prefix_cache=False)
    ends = [
        simulate(one, requests=bare).run.requests["finish_s"].tolist()
        for one in (plain, dataclasses.replace(plain, prefix_cache=True))
    ]
    assert ends[0] == ends[1]


def test_an_ample_cache_saves_what_groups_save() -> None:
    """Four prefixes fit: shuffled requests lose only those that come while a prefix is computed."""
    assert b.saved(b.serve("groups", 4, 40)) <= b.achievable(4) + 1e-9
    assert b.achievable(256) == pytest.approx(58.1, abs=0.1)
