"""Several pools that each do both, in operation: each is what it is by itself, and nobody is lost between them."""

import json

import numpy as np
import pandas as pd
import pytest

from kernels.errors import InputError
from sim.cli import main
from sim.cluster.operation import Event, Operation
from sim.cluster.simulate_mixed_operation import simulate_mixed_operation
from sim.cluster.simulate_operation import simulate_operation
from sim.recommend.deployment import Deployment, PoolOf, some, split_load
from sim.recommend.outcome import run_deployment
from sim.run.scenario import Scenario
from workloads.load import load_requests

BASE = Scenario(model="llama-3.2-1b", system="dgx_h100", requests="poisson:rate=20,n=120,prompt=300,output=100")
SESSIONS = Scenario(model="llama-3.2-1b", system="dgx_h100",
                    requests="poisson:rate=5,n=120,turns=3,think_s=0.5,prompt=200,output=60")  # fmt: skip
FAILS = Operation(event=(Event(2.0, 0, "fail"),), load_GBps=8.0)


def test_one_pool_is_the_pool_by_itself_to_the_tick():
    done, alone = simulate_mixed_operation(BASE, [{"dp": 2}], [FAILS]), simulate_operation(
        Scenario(**{**vars(BASE), "dp": 2}), FAILS)  # fmt: skip
    pd.testing.assert_frame_equal(done.requests.drop(columns="pool"), alone.requests)
    pd.testing.assert_frame_equal(done.summary, alone.summary)
    assert (done.load_state, done.queue_drift) == (alone.load_state, alone.queue_drift)


@pytest.mark.parametrize("scenario", [BASE, SESSIONS])
def test_halves_are_independent(scenario):
    """Each of two pools is that pool under its half of the requests, whatever befalls the other; every request, and
    every session whole, is served in one of them."""
    load = load_requests(scenario.requests, scenario.seed)
    places = split_load(load, [1.0, 1.0])
    done = simulate_mixed_operation(scenario, [{"dp": 2}, {}], [FAILS, Operation()])
    rules = (FAILS, Operation())
    for number, (place, dp) in enumerate(zip(places, (2, 1), strict=True)):
        alone = simulate_operation(
            Scenario(**{**vars(scenario), "dp": dp}), rules[number], requests=some(load, place), number=number
        )
        mine = done.requests[done.requests["pool"] == number].drop(columns="pool").reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, alone.requests)
    assert done.requests["served"].all()
    assert len(done.requests) == len(load)
    assert (done.requests["produced_token"] == load.output_token).all()
    child = load.parent >= 0
    pool = done.requests["pool"].to_numpy()
    assert (pool[child] == pool[load.parent[child]]).all()
    assert set(done.events["pool"]) == {0}


def test_pools_lose_their_machines_at_times_of_their_own():
    rules = Operation(mtbf_h=0.002, load_GBps=50.0)
    events = simulate_mixed_operation(BASE, [{"dp": 2}, {"dp": 2}], [rules, rules]).events
    times = [set(events[(events["pool"] == number) & (events["what"] == "fail")]["time_s"]) for number in range(2)]
    assert all(times)
    assert not times[0] & times[1]


@pytest.mark.parametrize("share", [0, -1.0, float("nan"), float("inf"), "half"])
def test_a_share_is_a_number_above_zero(share):
    with pytest.raises(InputError, match=r"share = .*not a share"):
        simulate_mixed_operation(BASE, [{}, {}], share=[share, 1.0])


def test_without_rules_it_is_the_deployment():
    pools = [{"dp": 2}, {"system": "dgx_a100"}]
    done = simulate_mixed_operation(BASE, pools, share=[3.0, 1.0])
    numbers = run_deployment(Deployment(BASE, tuple(
        PoolOf(tuple(one.items()), share=share) for one, share in zip(pools, (3.0, 1.0), strict=True))))  # fmt: skip
    assert done.requests["served"].sum() == numbers["completed"]
    mean = done.summary.set_index("metric")["mean"]
    assert 1e3 * mean["tpot_s"] == pytest.approx(numbers["mean_tpot_ms"], rel=1e-9)
    figure = done.figures.set_index(["figure", "pool"])["value"]
    assert figure["requests", ""] == figure["requests", "0"] + figure["requests", "1"] == 120
    assert figure["requests", "0"] == 90
    assert figure["usd", ""] == pytest.approx(figure["usd", "0"] + figure["usd", "1"])


def test_what_is_refused():
    with pytest.raises(InputError, match="operation = 1: one for each pool; allowed: 2"):
        simulate_mixed_operation(BASE, [{}, {}], [FAILS])
    with pytest.raises(InputError, match="pool 1 gets none of 120 requests"):
        simulate_mixed_operation(BASE, [{}, {}], share=[1e6, 1.0])
    capped = Scenario(**{**vars(BASE), "requests": "batch:n=9,prompt=40,output=9,max_concurrency=4"})
    with pytest.raises(InputError, match="no cap in common"):
        simulate_mixed_operation(capped, [{}, {}])


def test_the_command_reads_rules_beside_each_pool(tmp_path, capsys):
    file = tmp_path / "mix.toml"
    file.write_text(
        'model = "llama-3.2-1b"\nsystem = "dgx_h100"\nrequests = "poisson:rate=20,n=40,prompt=300,output=50"\n'
        "[[pool]]\ndp = 2\nshare = 3.0\n[pool.operation]\nload_GBps = 8.0\n"
        'event = [{ at_s = 0.5, engine = 0, kind = "fail" }]\n[[pool]]\nsystem = "dgx_a100"\n'
    )
    assert main(["operate", str(file), "--json", str(tmp_path / "out.json")]) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    events = found["events"]
    assert {(one["pool"], one["engine"]) for one in events} == {(0, 0)}
    assert {one["what"] for one in events} >= {"fail", "load"}
    figures = {(one["figure"], one["pool"]): one["value"] for one in found["figures"]}
    assert figures["requests", "0"] == 30
    capsys.readouterr()
    assert main(["operate", str(file), "--scaler", "fixed"]) != 0
    assert "has no effect beside pools" in capsys.readouterr().err


def test_tokens_are_neither_lost_nor_made():
    done = simulate_mixed_operation(BASE, [{"dp": 2}, {"dp": 2}], [FAILS, FAILS])
    load = load_requests(BASE.requests, BASE.seed)
    assert done.requests["produced_token"].sum() == int(np.sum(load.output_token))
