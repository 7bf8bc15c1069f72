"""Pools on SimPy's clock: one pool is the single replica, hand-overs conserve what they move, links are shared."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.engine import records as at
from kernels.errors import InputError
from sim.cluster.pool import PoolPart
from sim.cluster.world import serve_pools
from sim.serving.limits import Limits
from sim.serving.plugin import find
from tests.sim.serving.serving_case import US, flat_price, load, run, same

KV_BYTE = 1000.0  # a token
RATE = 1e9  # bytes a second: a token a microsecond


def part(name, role, num=1, policy="vllm_v1:max_token=64,max_seq=8", rate=RATE, **limits):
    return PoolPart(
        name, role, flat_price(max_token=512, max_seq=16), find("policy", policy), find("router", "least_outstanding"),
        Limits(**{"num_block": 400, "block_token": 4, "max_context_token": 256, "num_replica": num, **limits}),
        kv_token_byte=KV_BYTE, link_byte_per_s=rate, num_layer=4,
    )  # fmt: skip


def requests(seed, num, gap_us):
    random = np.random.default_rng(seed)
    return load(
        np.sort(random.integers(0, gap_us * num + 1, num)), random.integers(1, 90, num), random.integers(1, 40, num)
    )


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), num_replica=st.sampled_from([1, 3]), gap_us=st.sampled_from([0, 30, 400]))
def test_one_pool_is_the_single_engine(seed, num_replica, gap_us):
    trace = requests(seed, 20, gap_us)
    one = part("all", "mixed", num_replica, num_block=60)
    alone = run(trace, one.price, "vllm_v1:max_token=64,max_seq=8", one.limits, "least_outstanding")
    found = serve_pools(trace, [one])
    same(found.pool["all"], alone)
    np.testing.assert_array_equal(found.request["end_ps"], alone.request["end_ps"])


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 999), gap_us=st.sampled_from([0, 30, 400]), transfer=st.sampled_from(["whole", "layered"]),
    num_block=st.sampled_from([40, 90, 400]),
)  # fmt: skip
def test_handed_over_requests_keep_their_laws(seed, gap_us, transfer, num_block):
    trace = requests(seed, 24, gap_us)
    pools = [part("p", "prefill", 2, num_block=num_block), part("d", "decode", 3, num_block=num_block)]
    found = serve_pools(trace, pools, transfer)
    r = found.request
    done = r["status"] == at.FINISHED
    assert done.all()
    assert (r["produced_token"] == trace.output_token).all()
    moved = trace.output_token > 1
    assert found.moved_byte == KV_BYTE * trace.prompt_token[moved].sum()  # what was moved is the prompts' KV
    assert (r["transfer_ps"][~moved] == -1).all()
    share = 0.25 if transfer == "layered" else 1.0  # the last of four layers at least
    least_ps = share * KV_BYTE * trace.prompt_token[moved] / RATE * 1e12
    assert (r["transfer_ps"][moved] >= least_ps - 2).all()
    assert (r["arrival_ps"] <= r["first_token_ps"]).all()
    assert (r["last_token_ps"][moved] >= r["first_token_ps"][moved] + r["transfer_ps"][moved]).all()
    computed = sum(int(pool.counter["num_token"].sum()) for pool in found.pool.values())
    if sum(int(pool.counter["num_recompute"].sum()) for pool in found.pool.values()) == 0:
        assert computed == trace.prompt_token.sum() + (trace.output_token - 1).sum()


def test_a_lone_request_takes_prefill_transfer_and_decode_one_after_the_other():
    # 10 us a step and 1 us a token: the prompt of 50 takes 60 us, its KV 50 us on the link, nine tokens 11 us each
    found = serve_pools(load([0], [50], [10]), [part("p", "prefill"), part("d", "decode")])
    assert found.request["first_token_ps"].tolist() == [60 * US]
    assert found.request["transfer_ps"].tolist() == [50 * US]
    assert found.request["end_ps"].tolist() == [(60 + 50 + 9 * 11) * US]


def test_transfers_share_the_link_into_an_engine():
    # two engines prefill 40 tokens each at once; both flows enter the one decode engine and share its link
    trace = load([0, 0], [40, 40], [2, 2])
    alone = serve_pools(trace, [part("p", "prefill", 2), part("d", "decode", 2)])
    shared = serve_pools(trace, [part("p", "prefill", 2), part("d", "decode", 1)])
    assert alone.request["transfer_ps"].tolist() == [40 * US, 40 * US]
    assert shared.request["transfer_ps"].tolist() == [80 * US, 80 * US]


def test_kv_waits_on_the_prefill_engine_until_it_has_been_moved():
    # room for one prompt at a time: the second prefill begins when the first one's KV has left, not when it is computed
    trace = load([0, 0], [50, 50], [2, 2])
    found = serve_pools(trace, [part("p", "prefill", num_block=13), part("d", "decode")])
    assert found.request["first_token_ps"].tolist() == [60 * US, (60 + 50 + 60) * US]


def test_pools_that_make_no_way_are_refused():
    trace = load([0], [5], [2])
    with pytest.raises(InputError, match="not a way"):
        serve_pools(trace, [part("p", "prefill")])
    with pytest.raises(InputError, match="nearest: layered"):
        serve_pools(trace, [part("p", "prefill"), part("d", "decode")], "layerd")
    with pytest.raises(InputError, match="above 0"):
        part("p", "prefill", rate=0.0)
    with pytest.raises(InputError, match="in pages"):
        part("d", "decode", policy="orca:max_token=64,max_seq=8")


def test_a_rule_of_transfer_is_one_file(tmp_path):
    rule = tmp_path / "half.py"
    rule.write_text("def left_byte(kv_byte, num_layer, step_s, link_byte_per_s):\n    return kv_byte / 2\n")
    found = serve_pools(load([0], [50], [10]), [part("p", "prefill"), part("d", "decode")], str(rule))
    assert found.request["transfer_ps"].tolist() == [25 * US]
    rule.write_text("x = 1\n")
    with pytest.raises(InputError, match="no function left_byte"):
        serve_pools(load([0], [50], [10]), [part("p", "prefill"), part("d", "decode")], str(rule))
    rule.write_text("def left_byte(kv_byte, num_layer, step_s, link_byte_per_s):\n    return 2 * kv_byte\n")
    with pytest.raises(InputError, match="no share of what there is to send"):
        serve_pools(load([0], [50], [10]), [part("p", "prefill"), part("d", "decode")], str(rule))
