"""Tiers below a KV store: one cache as large as all of them, exact reuse, links that make what passes them wait."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.engine.records import FINISHED, ORDERS
from kernels.errors import InputError
from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from sim.serving.limits import Limits
from sim.serving.rules import Rules, Tier
from sim.serving.tiers import parse
from tests.shared_data import folder
from tests.sim.serving.serving_case import US, attention_price, flat_price, load, run, same
from workloads.load import load_requests

SIZE = 16  # tokens of a unit, one block
ALONE = "vllm_v1:max_token=4096,max_seq=1"


def documents(seed, num, num_document=12, longest=8, gap_us=100_000):
    """Requests that begin with one of several documents, popular ones more often, one after another."""
    random = np.random.default_rng(seed)
    pages = [list(range(100 * k, 100 * k + random.integers(2, longest + 1))) for k in range(num_document)]
    asked = [pages[k] for k in np.minimum(random.zipf(1.4, num) - 1, num_document - 1)]
    stop = np.cumsum([len(one) for one in asked])
    return load(
        np.arange(num) * gap_us, [len(one) * SIZE + 5 for one in asked], np.full(num, 3), unit_stop=stop,
        unit_start=stop - [len(one) for one in asked], unit_id=np.concatenate(asked), unit_token=SIZE,
    )  # fmt: skip


def limits(num_block, tiers=(), **more):
    return Limits(num_block=num_block, block_token=SIZE, max_context_token=160, tiers=tiers, **more)


def host(num_block, read_us=10, **more):
    return Tier("host", num_block, read_us * US, read_us * US, US, **more)


def found(result):
    return int(result.counter["num_hit_token"].sum())


@pytest.mark.parametrize(("own", "below"), [(10, (10,)), (12, (5, 20)), (15, (3, 3, 30))])
def test_least_recent_all_the_way_down_is_one_cache_as_large_as_all(own, below):
    # exclusive tiers under LRU: what leaves one is the youngest of the next (Wong and Wilkes 2002, DEMOTE)
    requests = documents(0, 120)
    tiers = tuple(host(num) for num in below)
    apart = run(requests, flat_price(), ALONE, limits(own, tiers))
    whole = run(requests, flat_price(), ALONE, limits(own + sum(below)))
    assert found(apart) == found(whole) > found(run(requests, flat_price(), ALONE, limits(own)))
    read, written, lost = apart.tier_unit.sum(axis=0)
    assert int(apart.counter["num_below_token"].sum()) == SIZE * read
    assert written >= read  # nothing comes up that did not go down
    held = apart.tier_unit[:, 1] - apart.tier_unit[:, 0] - np.append(apart.tier_unit[1:, 1], 0) - lost
    assert (held[-1:] >= 0).all()
    assert (held[-1:] <= below[-1]).all()


@pytest.mark.parametrize("seed", range(8))
def test_nobody_finds_more_than_who_knows_the_load(seed):
    requests = documents(seed, 150)
    for num_block in (10, 14, 20, 30):
        by = {name: found(run(requests, flat_price(), ALONE, limits(num_block, evict=name))) for name in ORDERS}
        assert by["belady"] == max(by.values())
        order = ORDERS.index("belady")
        below = run(requests, flat_price(), ALONE, limits(10, (host(num_block, order=order),), evict="belady"))
        assert found(below) >= found(run(requests, flat_price(), ALONE, limits(10, (host(num_block),))))


def test_what_is_read_is_waited_for():
    # 8 units of a document leave for another's, and are read again at 100 us each, one after another, 7 us of latency
    names = [*range(8), *range(100, 108), *range(8)]
    requests = load(
        [0, 10_000, 20_000], [8 * SIZE + 1] * 3, [1] * 3, unit_start=[0, 8, 16], unit_stop=[8, 16, 24], unit_id=names,
        unit_token=SIZE,
    )  # fmt: skip
    tier = Tier("host", 20, 100 * US, 50 * US, 7 * US)
    done = run(requests, flat_price(10, 1), ALONE, limits(9, (tier,)))
    computed_us = 10 + 1
    # the ninth block of the third evicts what lies there: 8 units of the second go down meanwhile, at half the time
    assert int(done.request["first_token_ps"][2]) == (20_000 + 8 * 100 + 7 + computed_us) * US
    assert int(done.request["first_token_ps"][1]) == (10_000 + 8 * 50 + 7 + 10 + 8 * SIZE + 1) * US
    assert done.tier_unit.tolist() == [[8, 15 + 1, 0]]


@pytest.mark.parametrize("policy", ["vllm_v1:max_token=64,max_seq=5", "sarathi:max_token=48,max_seq=6"])
@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 99), num_block=st.sampled_from([12, 20, 40]), num_stage=st.sampled_from([1, 3]),
    rules=st.sampled_from([Rules(), Rules(own_cache=True, share_early=True, keep_duplicate=True)]),
    evict=st.sampled_from(ORDERS),
)  # fmt: skip
def test_run_ahead_equals_stepping(policy, seed, num_block, num_stage, rules, evict):
    requests = documents(seed, 30, gap_us=400)
    tiers = (host(6, 40), host(9, 90, via=0, order=ORDERS.index(evict)))
    ahead, step = (
        run(requests, attention_price(512, 8, num_stage), policy, limits(num_block, tiers, rules=rules, evict=evict),
            engine=engine, record_steps=True)
        for engine in ("run-ahead", "stepping")
    )  # fmt: skip
    same(ahead, step)
    assert ahead.tier_unit.tolist() == step.tier_unit.tolist()


def test_replicas_share_a_store_and_its_link():
    requests = documents(3, 80, gap_us=600)
    runs = {
        (shared, engine): run(
            requests, flat_price(), "vllm_v1:max_token=256,max_seq=4",
            limits(12, (host(60, 200, shared=shared),), num_replica=2), engine=engine,
        )
        for shared in (1, 2)
        for engine in ("run-ahead", "stepping")
    }  # fmt: skip
    for shared_by in (1, 2):
        same(runs[shared_by, "run-ahead"], runs[shared_by, "stepping"])
    assert found(runs[2, "stepping"]) > found(runs[1, "stepping"])  # what one computed the other finds
    # a store of each with all of the documents: only the first look at each replica is in vain
    assert runs[2, "stepping"].tier_unit[0, 1] <= 12 * 8  # written once, whoever evicts it again


def by_hand(path):
    """Tokens of the trace's prompts that an unbounded cache holds: leading blocks of 512 that came before, of which one
    token at least is left to compute."""
    seen, reused = set(), 0
    for line in path.read_text().splitlines():
        row = json.loads(line)
        block = row["hash_ids"]
        most = min(len(block), (row["input_length"] - 1) // 512)
        first = next((k for k in range(most) if block[k] not in seen), most)
        reused += 512 * first
        seen.update(block[: row["input_length"] // 512])
    return reused


def test_reuse_of_a_production_trace_is_exact():
    path = folder("traces", "mooncake_conversation_trace.jsonl")
    requests = load_requests(f"mooncake:{path},time_unit=s", 0)  # a thousand times slower: one after another
    price = flat_price(1, 0.001, 1 << 17, 1)

    def reuse(num_unit, tiers=(), evict="lru"):
        bounds = Limits(num_block=num_unit, block_token=512, max_context_token=1 << 20, tiers=tiers, evict=evict)
        return found(run(requests, price, "vllm_v1:max_token=131072,max_seq=1", bounds))

    whole = reuse(1 << 20)
    assert whole == by_hand(path)
    few, best, more = reuse(1_000), reuse(1_000, evict="belady"), reuse(8_000)
    assert few < best < more <= whole
    # requests of one millisecond queue: the next one's is read ahead, and so is younger than in one store of 8,000
    assert reuse(1_000, (Tier("host", 7_000, US, US),)) == pytest.approx(more, rel=1e-3)


def test_a_scenario_names_its_tiers():
    base = {"model": "llama-3-8b", "system": "dgx_h100", "memory_share": 0.3,
            "requests": "poisson:rate=4,n=120,turns=6,think_s=20,prompt=600,output=100"}  # fmt: skip
    alone = simulate(Scenario(**base))
    done = simulate(Scenario(**base, kv_tiers="host:GiB=64"))
    assert done.run.about["kv_tiers"]["host"]["read_token"] > 0
    assert done.result.counter["num_hit_token"].sum() > alone.result.counter["num_hit_token"].sum()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("host:GiB=x", "GiB"), ("cxl:GiB=64", "read_GBps"), ("host:speed=3", "speed"), ("host+host", "twice"),
        ("host:via=disk", "via"), ("host:evict=fifo", "fifo"), ("host:GiB=0.0001", "holds 0"),
    ],
)  # fmt: skip
def test_what_a_tier_lacks_is_said(text, said):
    with pytest.raises(InputError, match=said):
        simulate(Scenario(system="dgx_h100", requests="poisson:rate=4,n=2,turns=2,prompt=64,output=4", kv_tiers=text))


def test_tiers_are_read_as_they_are_written():
    assert [one.name for one in parse("host:GiB=64+pool:GiB=900,read_GBps=20,write_GBps=10,shared=0")] == [
        "host",
        "pool",
    ]


@pytest.mark.parametrize("num_block", [26, 28, 31])
def test_a_tree_whose_end_lies_below_parts_where_it_is_resident(num_block):
    """A branch goes down while another sequence holds what stands before it; the next ones go on with others."""
    names = [[0, 1, 2], [0, 1, 3], [], [0, 1, 2], [], [0, 1, 4]]
    count = np.array([len(one) for one in names])
    requests = load(
        [0, 0, 100, 5000, 5000, 20000], [197, 197, 60, 197, 180, 197], [1] * 6, unit_stop=np.cumsum(count),
        unit_start=np.cumsum(count) - count, unit_id=np.concatenate(names).astype(int), unit_token=64,
    )  # fmt: skip
    tree = Rules(own_cache=True, radix=True, end_late=True, by_admission=True)
    one = Limits(num_block=num_block, block_token=16, max_context_token=400, rules=tree, tiers=(host(40),))
    done = run(requests, flat_price(), "sglang:max_token=240,max_seq=8", one)
    assert done.request["cached_token"].tolist()[3:] == [192, 0, 128]  # all three units of P again; two of R4's


@pytest.mark.parametrize(("num_replica", "shared"), [(1, 1), (2, 2), (2, 0)])
@pytest.mark.parametrize("num_unit", [3, 31])
def test_a_store_that_keeps_what_it_gives_has_room_for_its_names(num_replica, shared, num_unit):
    for seed in range(6):
        below = (Tier("host", num_unit, 10 * US, 10 * US, US, shared=shared),)
        few = limits(15, below, num_replica=num_replica)
        done = run(documents(seed, 60, 6, 6, 200), flat_price(), "vllm_v1:max_token=256,max_seq=2", few)
        assert (done.request["status"] == FINISHED).all()
