"""Pools in operation: plain where nothing happens, nothing lost when engines are, times by hand."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.engine import records as at
from kernels.errors import InputError
from sim.cli import main
from sim.cluster.operate_pools import PoolsOperator, Weights
from sim.cluster.operation import Event, Operation, PoolsOperation, pools_from_table
from sim.cluster.pool import PoolPart
from sim.cluster.simulate import simulate_pools
from sim.cluster.simulate_pools_operation import simulate_pools_operation
from sim.cluster.world import Cluster, serve_pools
from sim.run.scenario import Scenario
from sim.serving.limits import Limits, Options
from sim.serving.plugin import find
from sim.serving.rules import Rules
from tests.sim.cluster.test_meetings import sessions
from tests.sim.serving.serving_case import US, flat_price, load, same

KV_BYTE, RATE, GB = 1000.0, 1e9, 1e9  # a token's KV takes a microsecond on a link
ENGINES = ["auto", "stepping"]


def part(role, num, router="least_outstanding", rate=RATE, **limits):
    return PoolPart(
        role, role, flat_price(max_token=512, max_seq=16), find("policy", "vllm_v1:max_token=64,max_seq=8"),
        find("router", router),
        Limits(**{"num_block": 120, "block_token": 4, "max_context_token": 256, "num_replica": num, **limits}),
        kv_token_byte=KV_BYTE, link_byte_per_s=rate, num_layer=4,
    )  # fmt: skip


def operate(trace, rules, pools=None, weight=1e6, latency_s=0.0, alike=True, **options):
    """A millisecond to load an engine's weights, where nothing else is said."""
    pools = pools or [part("prefill", 2), part("decode", 2)]
    cluster = Cluster(trace, pools, "whole", latency_s, Options(**options))
    own = Weights(weight, GB)
    return PoolsOperator(cluster, rules, {"prefill": own, "decode": own}, alike).run()


def random_trace(seed=1, num=60, gap_us=60):
    random = np.random.default_rng(seed)
    return load(
        np.cumsum(random.exponential(gap_us, num)).astype(int), random.integers(1, 80, num), random.integers(1, 30, num)
    )


def events(*each):
    return tuple(Event(us * 1e-6, k, kind) for us, k, kind in each)


def check_laws(trace, done):
    """Everybody is served; every token is produced once; what left the links of one pool came into the other's."""
    r, pools = done.result.request, done.result.pool
    assert np.isin(r["status"], (at.FINISHED, at.LEAVING)).all()
    assert (r["produced_token"] == trace.output_token).all()
    assert sum(int(pool.counter["num_output_token"].sum()) for pool in pools.values()) == trace.output_token.sum()
    assert (
        np.diff(np.stack([r["arrival_ps"], r["start_ps"], r["first_token_ps"], r["last_token_ps"]]), axis=0) >= 0
    ).all()
    assert (r["end_ps"] >= r["last_token_ps"]).all()
    least = trace.prompt_token.sum() + (trace.output_token - 1).sum()
    found = [int(pool.counter[name].sum()) for pool in pools.values() for name in ("num_token", "num_hit_token")]
    assert sum(found) >= least  # computed, or found in a cache
    assert (
        done.result.moved_byte >= KV_BYTE * trace.prompt_token[trace.output_token > 1].sum() - 1e-6 or done.num_resent
    )


def alike_runs(one, other):
    for name, values in one.result.request.items():
        np.testing.assert_array_equal(values, other.result.request[name], err_msg=name)
    for name, pool in one.result.pool.items():
        for counter in ("num_token", "num_output_token", "num_finished", "num_step"):
            np.testing.assert_array_equal(pool.counter[counter], other.result.pool[name].counter[counter], counter)
    assert one.result.moved_byte == pytest.approx(other.result.moved_byte, rel=1e-12)
    assert one.event == other.event
    assert (one.num_resent, one.num_rerouted) == (other.num_resent, other.num_rerouted)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("latency_s", [0.0, 3e-6])
def test_where_nothing_happens_they_are_the_plain_pools(engine, latency_s):
    trace = random_trace()
    pools = [part("prefill", 2), part("decode", 2)]
    plain = serve_pools(trace, pools, "whole", latency_s, Options(engine=engine))
    looks = Operation(scaler="fixed:num=2", min_engine=2, interval_s=1e-3)  # who only looks changes nothing
    for rules in (PoolsOperation(), PoolsOperation(looks, looks)):
        done = operate(trace, rules, latency_s=latency_s, engine=engine)
        for name, values in plain.request.items():
            np.testing.assert_array_equal(values, done.result.request[name], err_msg=name)
        for name, pool in plain.pool.items():
            if engine == "auto":
                same(pool, done.result.pool[name])
            np.testing.assert_array_equal(pool.counter["num_step"], done.result.pool[name].counter["num_step"])
        assert plain.moved_byte == done.result.moved_byte


@pytest.mark.parametrize("engine", ENGINES)
def test_kv_on_its_way_to_a_lost_engine_is_sent_to_another(engine):
    """A prompt of 50 takes 60 us; its KV takes 50 us on the link. 20 us later engine 0 fails: all of it is sent to
    engine 1, where nine tokens of 11 us follow."""
    done = operate(
        load([0], [50], [10]), PoolsOperation(decode=Operation(event=events((80, 0, "fail")))), engine=engine
    )
    r = done.result.request
    assert r["first_token_ps"].tolist() == [60 * US]
    assert r["transfer_ps"].tolist() == [50 * US]
    assert r["end_ps"].tolist() == [(80 + 50 + 9 * 11) * US]
    assert r["last_replica"].tolist() == [1]
    assert (done.num_rerouted, done.num_resent) == (1, 0)
    assert done.result.moved_byte == pytest.approx(KV_BYTE * (20 + 50))
    assert done.result.pool["prefill"].counter["num_token"].sum() == 50  # nothing was computed twice


@pytest.mark.parametrize("engine", ENGINES)
def test_kv_on_its_way_from_a_lost_engine_is_computed_again(engine):
    """The same, but the engine that prefilled fails: another computes the prompt and the token that is known, 61 us,
    which gives the second token; its KV takes 51 us, and eight tokens follow."""
    done = operate(
        load([0], [50], [10]), PoolsOperation(prefill=Operation(event=events((80, 0, "fail")))), engine=engine
    )
    r = done.result.request
    assert r["first_token_ps"].tolist() == [60 * US]  # its client has it
    assert r["end_ps"].tolist() == [(80 + 61 + 51 + 8 * 11) * US]
    assert r["first_replica"].tolist() == [1]
    assert (done.num_rerouted, done.num_resent) == (0, 1)
    assert done.result.moved_byte == pytest.approx(KV_BYTE * (20 + 51))
    check_laws(load([0], [50], [10]), done)


@pytest.mark.parametrize("engine", ENGINES)
def test_who_decoded_on_a_lost_engine_begins_again_where_prompts_are_computed(engine):
    """First token at 60 us, KV there at 110, then a token every 11 us: at 140 there are three. Prompt and three tokens
    take 63 us and give the fourth, their KV 53 us, six more tokens 66."""
    done = operate(
        load([0], [50], [10]), PoolsOperation(decode=Operation(event=events((140, 0, "fail")))), engine=engine
    )
    r = done.result.request
    assert r["end_ps"].tolist() == [(140 + 63 + 53 + 6 * 11) * US]
    assert done.num_resent == 1
    assert done.result.pool["prefill"].counter["num_token"].sum() == 50 + 53
    assert done.result.pool["decode"].counter["num_token"].sum() == 3 + 6  # the step that was lost too
    check_laws(load([0], [50], [10]), done)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_last_token_may_be_produced_where_prompts_are_computed(engine):
    done = operate(
        load([0], [50], [4]), PoolsOperation(decode=Operation(event=events((140, 0, "fail")))), engine=engine
    )
    assert done.result.request["end_ps"].tolist() == [(140 + 63) * US]
    check_laws(load([0], [50], [4]), done)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_drained_engine_takes_no_new_hand_over_and_ends_what_it_has(engine):
    trace = load(np.arange(30) * 100, np.full(30, 20), np.full(30, 8))
    rules = PoolsOperation(decode=Operation(event=events((1000, 0, "drain")), interval_s=1e-3))
    done = operate(trace, rules, engine=engine)
    r = done.result.request
    check_laws(trace, done)
    assert done.num_resent == done.num_rerouted == 0
    there = r["last_replica"] == 0
    assert there.sum() == 10
    assert (r["first_token_ps"][there] <= 1000 * US).all()  # the hand-over begins with the first token
    off_s = next(time_s for time_s, role, k, what in done.event if (role, k, what) == ("decode", 0, "off"))
    assert r["end_ps"][there].max() <= off_s * 1e12 <= r["end_ps"][there].max() + 1000 * US
    assert done.paid_s["decode"][0] == pytest.approx(r["end_ps"][there].max() * 1e-12)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_drained_engine_that_prefills_is_there_until_its_kv_has_left(engine):
    """Computed at 60 us, and a link of a tenth of the rate: its KV has left at 560."""
    slow = [part("prefill", 2, rate=RATE / 10), part("decode", 2)]
    rules = PoolsOperation(prefill=Operation(event=events((70, 0, "drain")), interval_s=1e-3))
    trace = load([0, 3000], [50, 50], [3, 3])
    done = operate(trace, rules, slow, engine=engine)
    assert done.result.request["first_replica"].tolist() == [0, 1]
    assert done.paid_s["prefill"][0] == pytest.approx(560e-6)
    check_laws(trace, done)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_hand_over_waits_for_an_engine_that_comes_up(engine):
    """The one engine that decodes fails at 10 us and is up again a millisecond later: KV that is computed at 60 us
    stays where it is until then."""
    pools = [part("prefill", 1), part("decode", 1)]
    done = operate(load([0], [50], [3]), PoolsOperation(decode=Operation(event=events((10, 0, "fail")))), pools,
                   engine=engine)  # fmt: skip
    r = done.result.request
    assert r["end_ps"].tolist() == [(1010 + 50 + 2 * 11) * US]
    assert r["transfer_ps"].tolist() == [(1010 - 60 + 50) * US]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_machine_changes_pools_once_it_is_drained(engine):
    """Three machines, two prefill. One of these is drained, and starts where the other pool is short of one: with its
    weights where they are the same, and a millisecond of warming up."""
    trace = load(np.arange(60) * 100, np.full(60, 20), np.full(60, 16))
    pools = [part("prefill", 2, "round_robin"), part("decode", 2)]  # at 1.11 ms the second prefills request 11
    rules = PoolsOperation(
        Operation(event=events((1110, 1, "drain")), interval_s=1e-3),
        Operation(event=events((1110, 1, "start")), start_engine=1, warm_s=1e-3), machines=3,
    )  # fmt: skip
    for is_alike, load_s in ((True, 0.0), (False, 1e-3)):
        done = operate(trace, rules, pools, alike=is_alike, engine=engine)
        check_laws(trace, done)
        when = {(role, k, what): time_s for time_s, role, k, what in done.event}
        assert when["prefill", 1, "off"] == when["decode", 1, "load"] == pytest.approx(2.11e-3)
        assert when["decode", 1, "up"] == pytest.approx(2.11e-3 + load_s + 1e-3)
        assert (done.result.request["last_replica"] == 1).any()
    apart = operate(trace, PoolsOperation(rules.prefill, rules.decode), pools, engine=engine)
    when = {(role, k, what): time_s for time_s, role, k, what in apart.event}
    assert when["decode", 1, "up"] == pytest.approx(1.11e-3 + 2e-3)  # weights of its own machine


def storm(machines=0):
    """Everything at once: scaling of both pools, failures, machines that are called back or change pools."""
    own = {"interval_s": 1e-3, "mtbf_h": 3e-3 / 3600, "repair_s": 2e-4, "spot_mtbf_h": 5e-3 / 3600,
           "spot_notice_s": 3e-4, "min_engine": 1}  # fmt: skip
    return PoolsOperation(
        Operation(scaler="outstanding:target=2,down_s=0.001", **own),
        Operation(scaler="outstanding:target=3,down_s=0.001", **own),
        machines,
    )


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 999), gap_us=st.sampled_from([100, 400]), latency_us=st.sampled_from([0, 3]),
    rules=st.sampled_from([Rules(), Rules(own_cache=True, share_early=True), Rules(own_cache=True, radix=True)]),
    num_block=st.sampled_from([45, 120]), machines=st.sampled_from([0, 4]),
)  # fmt: skip
def test_laws_hold_in_a_storm_and_the_heap_is_the_clock(seed, gap_us, latency_us, rules, num_block, machines):
    trace = random_trace(seed, 30, gap_us)
    limits = {"rules": rules, "num_block": num_block}
    pools = [part("prefill", 2, **limits), part("decode", 3, rate=0.7e9, **limits)]
    runs = [
        operate(trace, storm(machines), pools, weight=2e5, latency_s=latency_us * 1e-6, seed=seed, engine=engine)
        for engine in ENGINES
    ]
    for done in runs:
        check_laws(trace, done)
    alike_runs(*runs)


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 999))
def test_sessions_go_on_when_engines_are_lost(seed):
    trace = sessions(seed, 6, 3, 1000, 5)
    runs = [operate(trace, storm(), weight=2e5, seed=seed, engine=engine) for engine in ENGINES]
    for done in runs:
        check_laws(trace, done)
        r, child = done.result.request, trace.parent >= 0
        assert (r["arrival_ps"][child] == r["end_ps"][trace.parent[child]] + 5 * US).all()
    alike_runs(*runs)


def test_scaling_follows_the_load_of_each_pool():
    burst = load(np.r_[np.arange(150) * 25, 50_000 + np.arange(5) * 1000], np.full(155, 40), np.full(155, 20))
    own = Operation(scaler="outstanding:target=4,down_s=0.005", interval_s=1e-3)
    done = operate(burst, PoolsOperation(own, own), [part("prefill", 3), part("decode", 4)], weight=1e5)
    check_laws(burst, done)
    for role, num in (("prefill", 3), ("decode", 4)):
        what = [what for _, which, _, what in done.event if which == role]
        assert what.count("load") == what.count("drain") == what.count("off") == num - 1
    assert done.num_resent == done.num_rerouted == 0


def test_what_operated_pools_cannot_be():
    trace = random_trace(num=5)
    scaled = Operation(scaler="fixed:num=2", start_engine=1)
    for rules, said in (
        (PoolsOperation(scaled, scaled, machines=4), "has no effect: each engine"),
        (PoolsOperation(scaled, Operation(), machines=2), "fewer than the 3 engines"),
        (PoolsOperation(Operation(event=events((0, 0, "drain"), (0, 1, "drain")))), "leaves no engine"),
        (PoolsOperation(decode=Operation(event=events((0, 7, "fail")))), "no such engine"),
    ):
        with pytest.raises(InputError, match=said):
            operate(trace, rules)
    with pytest.raises(InputError, match="has no effect"):
        PoolsOperation(machines=2)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"scaler": "fixed"}, "unknown field of pools"), ({"prefill": 3}, "another type"),
        ({"decode": {"mtbf": 1}}, "unknown field"), ({"machines": True}, "another type"),
        ({"decode": {"warm_s": 3.0}}, "no engine is ever started"),
    ],
)  # fmt: skip
def test_what_a_table_of_pools_cannot_say(table, said):
    with pytest.raises(InputError, match=said):
        pools_from_table(table)


BASE = {"model": "llama-3.2-1b", "system": "dgx_h100", "requests": "poisson:rate=40,n=120,prompt=300,output=40"}
FILE = """model = "llama-3.2-1b"
system = "dgx_h100"
requests = "poisson:rate=40,n=120,prompt=300,output=40"

[[pool]]
role = "prefill"
dp = 2

[[pool]]
role = "decode"
dp = 3

[operation.decode]
scaler = "outstanding:target=4,down_s=0.5"
interval_s = 0.1
load_GBps = 20.0
"""


def test_a_scenario_of_pools_in_operation(tmp_path):
    scenario = Scenario(**BASE)
    plain = simulate_pools(scenario, {"dp": 2}, {"dp": 3})
    done = simulate_pools_operation(scenario, {"dp": 2}, {"dp": 3})
    assert done.requests.drop(columns="num_again").equals(plain.requests)
    assert done.load_state == plain.load_state
    (tmp_path / "pools.toml").write_text(FILE)
    assert main(["operate", str(tmp_path / "pools.toml"), "--json", str(tmp_path / "pools.json")]) == 0
    said = json.loads((tmp_path / "pools.json").read_text())
    figure = {(row["figure"], row["pool"]): row["value"] for row in said["figures"]}
    assert figure["served", ""] == 120
    assert figure["loads", "decode"] >= 1
    assert figure["loads", "prefill"] == 0
    assert figure["load_s", "decode"] == pytest.approx(2 * 1.236e9 / 20e9, rel=0.01)  # 16 bits a weight
    assert figure["engine_hours", "decode"] < 3 * figure["engine_hours", "prefill"] / 2
    assert {row["pool"] for row in said["events"]} == {"decode"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--transfer", "layered"], "transfer = 'layered': has no effect without pools"),
        (["--prefill", "dp=2", "--scaler", "rate"], "each pool has its own"),
        (["--prefill", "dp=2", "--operation", "{rules}"], "unknown field of pools"),
        (["--prefill", "tp=2", "--operation", "{machines}"], "pools share machines of one kind"),
    ],
)
def test_what_the_command_line_of_pools_cannot_say(tmp_path, capsys, words, said):
    (tmp_path / "rules.toml").write_text('[operation]\nscaler = "rate"\n')
    (tmp_path / "machines.toml").write_text(
        '[operation]\nmachines = 1\n[operation.decode]\nscaler = "rate"\nload_GBps = 2.0\n'
    )
    paths = {"rules": tmp_path / "rules.toml", "machines": tmp_path / "machines.toml"}
    given = [word.format(**paths) for word in words]
    scenario = [f"--{name}={value}" for name, value in BASE.items()]
    assert main(["operate", *scenario, *given]) == 2
    assert said in capsys.readouterr().err
