"""A cap on concurrency is a semaphore of the client: the i-th request is sent when it has arrived and `i + 1 - cap`
others have ended, whichever they are."""

import numpy as np
import pytest

from kernels.errors import InputError
from ridgeline import Scenario, simulate
from sim.serving.engine import serve
from sim.serving.limits import Limits, Options
from sim.serving.plugin import find
from tests.sim.serving.serving_case import flat_price, load, run, same
from workloads.load import load_requests
from workloads.requests import capped, digest, head

LIMITS = Limits(num_block=4000, num_replica=2)


def _some(num=60, seed=3):
    rng = np.random.default_rng(seed)
    arrival = np.sort(rng.integers(0, 4000, num))
    return load(arrival, rng.integers(1, 200, num), rng.integers(1, 40, num))


@pytest.mark.parametrize("cap", [1, 2, 7, 60, 61])
@pytest.mark.parametrize("policy", ["vllm_v1", "sarathi", "static"])
def test_the_next_is_sent_when_any_ends(cap, policy) -> None:
    requests = _some()
    result = run(capped(requests, cap), flat_price(), policy, LIMITS, router="least_outstanding")
    sent, end = result.request["arrival_ps"], np.sort(result.request["end_ps"])
    expected = requests.arrival_ps.copy()
    expected[cap:] = np.maximum(expected[cap:], end[: len(expected) - min(cap, len(expected))])
    np.testing.assert_array_equal(sent, expected)
    assert (result.request["end_ps"] > 0).all()
    under_way = [(sent <= t).sum() - (end <= t).sum() for t in sent]
    assert max(under_way) <= cap
    free = run(requests, flat_price(), policy, LIMITS, router="least_outstanding")
    if cap >= len(requests):
        np.testing.assert_array_equal(free.request["end_ps"], result.request["end_ps"])
    elif cap <= 2:
        assert (sent > requests.arrival_ps).any()


def test_run_ahead_is_stepping() -> None:
    requests = capped(_some(), 5)
    same(
        run(requests, flat_price(), "vllm_v1", LIMITS, engine="run-ahead"),
        run(requests, flat_price(), "vllm_v1", LIMITS, engine="stepping"),
    )


def test_one_at_a_time_is_a_chain() -> None:
    requests = load([0, 0, 0], [10, 20, 30], [4, 3, 2])
    chain = load([0, 0, 0], [10, 20, 30], [4, 3, 2], parent=[-1, 0, 1])
    one = run(capped(requests, 1), flat_price(), "vllm_v1", Limits(num_block=100))
    other = run(chain, flat_price(), "vllm_v1", Limits(num_block=100))
    np.testing.assert_array_equal(one.request["end_ps"], other.request["end_ps"])


def test_a_refused_request_frees_its_place() -> None:
    requests = capped(load([0, 1, 2], [10, 9000, 10], [3, 3, 3]), 1)
    result = serve(requests, flat_price(), find("policy", "vllm_v1"), find("router", "round_robin"),
                   Limits(num_block=1000, max_context_token=4096), Options())  # fmt: skip
    end = result.request["end_ps"]
    assert end[1] == end[0]  # refused as it is sent
    assert result.request["arrival_ps"][2] == end[1]


def test_of_sessions_a_place_is_free_after_the_last_turn() -> None:
    # two sessions of two turns, and a single request: one session at a time
    requests = capped(load([0, 0, 0, 1, 1], [10] * 5, [4] * 5, parent=[-1, -1, -1, 0, 1]), 1)
    r = run(requests, flat_price(), "vllm_v1", Limits(num_block=1000)).request
    order = np.argsort(r["end_ps"]).tolist()
    assert order == [0, 3, 1, 4, 2]


def test_a_cap_beside_a_rate_or_a_trace(tmp_path) -> None:
    text = "poisson:rate=5,n=20,prompt=10,output=4"
    requests = load_requests(text + ",max_concurrency=3")
    assert requests.max_concurrency == 3
    assert digest(requests) != digest(load_requests(text))
    assert head(requests, 10).max_concurrency == 3
    (tmp_path / "t.csv").write_text("arrival_s,prompt_token,output_token\n0,4,4\n1,4,4\n")
    assert load_requests(f"{tmp_path / 't.csv'},max_concurrency=1").max_concurrency == 1
    with pytest.raises(InputError, match="max_concurrency"):
        load_requests(text + ",max_concurrency=0")
    with pytest.raises(InputError, match="branch"):
        capped(load([0, 0, 0], [1, 1, 1], [1, 1, 1], parent=[-1, 0, 0]), 2)


def test_the_replay_on_simpy_sends_at_the_same_ticks() -> None:
    base = {"model": "gpt2", "system": "a100_sxm_80gb", "dp": 2,
            "requests": "poisson:rate=400,n=12,prompt=40,output=uniform:min=2:max=9,max_concurrency=3"}  # fmt: skip
    fast, replayed = (simulate(Scenario(fidelity=name, **base)) for name in ("calibrated", "replay"))
    for name in ("arrival_ps", "first_token_ps", "end_ps"):
        np.testing.assert_array_equal(fast.result.request[name], replayed.result.request[name])
    assert fast.metrics["max_concurrent_requests"] <= 4  # an end and the start that it frees share a tick
