"""Little's law on the queues of an engine: what it counts over time is what each request spent there."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.engine.price import HOST_REQUEST
from kernels.engine.records import LOG_COLUMNS as COLUMNS
from sim.serving.limits import Limits
from tests.sim.serving.serving_case import attention_price, load, run

PRICE = attention_price(512, 8, 1, window=40)
POLICIES = ["vllm_v1:max_token=64,max_seq=6", "sarathi:max_token=48,max_seq=6", "vllm_v0:max_token=128,max_seq=6",
            "splitwise:max_token=128,max_seq=6,prompt_token=40"]  # fmt: skip
REQUEST_PS = int(PRICE.host_ps[HOST_REQUEST])  # from the client to the queue
FINAL = 1  # column of `kv_token_ps`: what running sequences will hold in the end, over time


def trace(seed, gap_us, num=40):
    random = np.random.default_rng(seed)
    return load(
        np.cumsum(random.exponential(gap_us, num)).astype(int), random.integers(1, 60, num), random.integers(1, 40, num)
    )  # fmt: skip


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16), gap_us=st.sampled_from([20, 200, 2000]), num_replica=st.sampled_from([1, 3]))
def test_who_waits_and_who_runs(policy, seed, gap_us, num_replica):
    """Nobody is preempted. Whenever a step begins, those that the engine counts in its queue and in its running list
    are those that have come and not begun, and those that have begun and not ended; and the integral that it keeps of
    its running list, weighted by tokens, is the sum of each one's tokens times its time there."""
    requests = trace(seed, gap_us)
    limits = Limits(num_block=400, block_token=4, max_context_token=160, num_replica=num_replica, prefix_cache=False)
    done = run(requests, PRICE, policy, limits, router="least_outstanding", record_steps=True)
    r = done.request
    assert not r["num_preempted"].any()
    step = {name: done.step[:, k] for k, name in enumerate(COLUMNS)}
    for k in range(num_replica):
        here = r["replica"] == k
        arrival, start, end = (r[name][here] for name in ("arrival_ps", "start_ps", "end_ps"))
        rows = step["replica"] == k
        seen = (step[name][rows] for name in ("start_ps", "num_waiting", "num_running"))
        for now, waiting, running in zip(*seen, strict=True):
            assert waiting == ((arrival + REQUEST_PS <= now) & (start > now)).sum()
            assert running == ((start <= now) & (end > now)).sum()
        token = (r["prompt_token"] + r["output_token"] - 1)[here]
        assert done.kv_token_ps[k, FINAL] == pytest.approx((token * (end - start)).sum(), rel=1e-12)
