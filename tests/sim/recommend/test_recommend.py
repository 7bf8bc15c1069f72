"""Recommendations: what the table promises is what a run gives, and no bound rejects what a run would accept."""

import collections
import dataclasses
import json
import pathlib
import tomllib
from typing import Any

import numpy as np
import pytest

import ridgeline
from kernels.errors import InputError
from sim.cli import main
from sim.recommend.bounds import demand_of, engine_of
from sim.recommend.deployment import Deployment, PoolOf, from_table, some, split_load
from sim.recommend.outcome import run_deployment
from sim.recommend.recommend import save
from sim.recommend.search import MEETS, REJECTED, _smallest
from workloads.load import load_requests
from workloads.requests import build

LOAD = "poisson:rate=500,n=500,prompt=lognormal:mean=400:max=900,output=uniform:min=20:max=60"
BASE = ridgeline.Scenario(model="llama-3.2-1b", system="a100_sxm", requests=LOAD)
TARGET = {"ttft_p99_s": 0.1, "tpot_p99_s": 0.008}


@pytest.fixture(scope="module")
def found() -> Any:
    return ridgeline.recommend(BASE, **TARGET, systems=["a100_sxm", "h100_sxm"], tp=[1, 2], max_devices=6, within=9,
                               over={"token_budget": [0, 256]})  # fmt: skip


def test_every_candidate_is_accounted_for(found: Any) -> None:
    frame = found.frame
    mixed = frame[frame["kind"] == "mixed"]
    assert len(mixed) == 2 * 2 * (6 + 3)  # machines x options x engines of one device and of two
    assert not mixed.duplicated(["pools", "options"]).any()
    assert (frame["status"] == MEETS).any()
    assert (frame.loc[frame["status"] != MEETS, "why"] != "").all()
    assert frame.loc[frame["status"] == MEETS, "usd_per_h"].is_monotonic_increasing


def test_no_other_number_of_engines_of_any_kind_is_cheaper(found: Any) -> None:
    """Every candidate with one pool, simulated: what was rejected does not meet the target, and what was left out is
    no cheaper than the best."""
    best = found.best.numbers["usd_per_h"]
    for one in found.candidates:
        if one.kind != "mixed":
            continue
        numbers = one.numbers or run_deployment(one.deployment)
        good = (
            numbers["p99_ttft_ms"] <= 100 and numbers["p99_tpot_ms"] <= 8
            and not numbers["failed"] and numbers["load_state"] != "overloaded"
        )  # fmt: skip
        assert good or one.status != MEETS, one.deployment.words
        assert not (good and one.status == REJECTED), (one.deployment.words, one.why)
        assert not good or numbers["usd_per_h"] >= best


def test_a_recommendation_run_gives_the_numbers_that_the_table_promised(found: Any, tmp_path: pathlib.Path) -> None:
    ran_of: collections.Counter[str] = collections.Counter()
    for path in save(found, tmp_path):
        row = found.rows[int(path.stem) - 1]
        out = tmp_path / f"{path.stem}.json"
        verb = ["pools"] if "pool" in tomllib.loads(path.read_text()) else ["simulate", "--quiet"]
        ran_of[row["kind"]] += 1
        if ran_of[row["kind"]] > 2:
            continue
        assert main([*verb, str(path), "--json", str(out)]) == 0
        ran = json.loads(out.read_text())
        for name in ("p99_ttft_ms", "p99_tpot_ms", "median_ttft_ms", "request_throughput", "output_throughput",
                     "usd_per_million_output_token"):  # fmt: skip
            assert ran[name] == row[name], (path.name, name)
    assert {"mixed", "split"} <= set(ran_of)


@pytest.mark.parametrize("kind", ["split", "mix"])
def test_pools_of_two_kinds_are_looked_at(found: Any, kind: str) -> None:
    assert any(one.kind == kind and one.numbers for one in found.candidates)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("budget", [0, 128])
def test_bounds_are_below_what_a_run_gives(seed: int, budget: int) -> None:
    draw = np.random.default_rng(seed)
    rate, prompt, output = draw.uniform(2, 200), draw.integers(10, 1500), draw.integers(1, 200)
    load = f"poisson:rate={rate:.3f},n=80,prompt=lognormal:mean={prompt}:max=3000,output=uniform:min=1:max={output}"
    one = dataclasses.replace(BASE, requests=load, token_budget=budget, seed=seed)
    requests = load_requests(load, seed)
    engine = engine_of(one, demand_of(requests))
    done = ridgeline.simulate(one)
    assert engine.ttft_s * 1e3 <= done.metrics["p99_ttft_ms"]
    assert done.metrics["p99_tpot_ms"] is None or engine.tpot_s * 1e3 <= done.metrics["p99_tpot_ms"]
    assert engine.busy_s * len(requests) <= done.run.totals["busy_s"]
    assert max(engine.prefill_s, engine.decode_s) <= engine.busy_s <= engine.prefill_s + engine.decode_s + 1e-12


def test_independent_halves_are_each_the_half() -> None:
    half = load_requests("poisson:rate=20,n=60,prompt=300,output=uniform:min=5:max=40", 3)
    twice = build(*(np.repeat(getattr(half, name), 2) for name in ("arrival_ps", "prompt_token", "output_token")))
    pool = PoolOf((("system", "a100_sxm"),))
    alone = run_deployment(Deployment(BASE, (pool,)), half)
    both = run_deployment(Deployment(BASE, (pool, pool)), twice)
    for name in ("mean_ttft_ms", "std_ttft_ms", "mean_tpot_ms", "std_tpot_ms", "mean_e2el_ms", "duration"):
        assert both[name] == pytest.approx(alone[name], rel=1e-12)
    for name in ("completed", "num_device", "usd_per_h", "output_throughput", "mean_wall_power_w"):
        assert both[name] == pytest.approx(2 * alone[name], rel=1e-12)


def test_a_load_is_shared_whole_chains_at_a_time() -> None:
    load = build([0, 1, 2, 3, 4, 5], [4] * 6, [2] * 6, parent=[-1, -1, 0, 1, 2, -1])
    parts = split_load(load, [1.0, 1.0])
    assert [part.tolist() for part in parts] == [[0, 2, 4, 5], [1, 3]]
    assert some(load, parts[0]).parent.tolist() == [-1, 0, 1, -1]
    assert sum(map(len, split_load(load, [0.2, 0.3, 0.5]))) == 6


@pytest.mark.parametrize("right", range(1, 12))
def test_the_smallest_good_number(right: int) -> None:
    asked: list[int] = []
    assert _smallest(1, 11, lambda n: asked.append(n) or n >= right) == right
    assert len(asked) <= 8
    assert _smallest(1, 11, lambda n: False) is None


def test_five_hundred_candidates_take_few_simulations() -> None:
    scenario = ridgeline.Scenario(model="llama-3-70b", requests="conversation:rate=12,n=2000")
    found = ridgeline.recommend(scenario, 1.0, 0.06, systems=["h100_sxm", "a100_sxm"], max_devices=64)
    assert len(found.candidates) >= 500
    assert found.num_run <= 60  # each takes half a second or two of a processor
    assert found.best is not None
    front = found.frontier
    assert front["token_per_s_per_user"].is_monotonic_decreasing
    assert front["token_per_s_per_device"].is_monotonic_increasing


def test_least_power_is_not_least_cost() -> None:
    power = ridgeline.recommend(BASE, **TARGET, systems=["a100_sxm", "h100_sxm"], tp=[1], max_devices=4, within=9,
                                objective="power", pools=["mixed"], over={"token_budget": [0]})  # fmt: skip
    meets = power.frame[power.frame["status"] == MEETS]
    assert meets["mean_wall_power_w"].is_monotonic_increasing
    assert len(meets)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ttft_p99_s": 0.0}, "not a time"),
        ({"objective": "beauty"}, "no such objective"),
        ({"max_devices": 0}, "out of range"),
        ({"pools": ["mixt"]}, "nearest: mix"),
        ({"pools": []}, "names none"),
        ({"systems": ["h100"]}, "no such machine"),
        ({"systems": ["a100_sxm", "a100_sxm"]}, "given twice"),
        ({"over": {"tp": [1]}}, "not an option of an engine"),
        ({"max_devices": 1, "tp": [2]}, "no room"),
        ({"within": 0.5}, "out of range"),
    ],
)
def test_what_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ridgeline.recommend(BASE, **{**TARGET, **change})


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"pool": "x"}, "not a list of tables"),
        ({"pool": []}, "not a list of tables"),
        ({"pool": [3]}, "not a table"),
        ({"pool": [{"sytem": "a"}]}, "nearest: system"),
        ({"pool": [{"requests": "batch:n=1"}]}, "no field in which pools differ"),
        ({"pool": [{"role": "prefil"}]}, "nearest: prefill"),
        ({"pool": [{"role": "prefill"}]}, "not a way through pools"),
        ({"pool": [{"role": "prefill", "share": 1.0}, {"role": "decode"}]}, "has no effect"),
        ({"pool": [{"role": "prefill"}, {"role": "decode", "max_queue": 3}]}, "turns nobody away"),
        ({"pool": [{"share": 0}]}, "not a share"),
        ({"pool": [{"share": True}]}, "not a share"),
        ({"pool": [{"tp": 2.5}]}, "not a whole number"),
    ],
)
def test_a_file_of_pools_that_is_wrong(table: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        from_table(table, "f.toml")


def test_where_nothing_meets_the_target_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["recommend", "--model", "gpt2", "--system", "a100_sxm", "--load", "batch:n=3,prompt=8,output=4",
             "--ttft-p99-s", "1e-6", "--tpot-p99-s", "1e-6", "--max-devices", "2"]  # fmt: skip
    assert main(words) == 3
    said = capsys.readouterr()
    assert "no deployment meets the target" in said.err
    assert "rejected: TTFT" in said.out


def test_prompts_that_find_a_full_queue_want_more_engines() -> None:
    """Unlike what can never run: the search goes on until nobody is turned away."""
    short = dataclasses.replace(BASE, max_queue=4)
    found = ridgeline.recommend(short, ttft_p99_s=0.5, tpot_p99_s=0.05, systems=["a100_sxm"], tp=[1], max_devices=8,
                                pools=("split",))  # fmt: skip
    assert found.best.numbers["failed"] == 0
    assert found.frame["why"].str.contains("the queue was full").any()
