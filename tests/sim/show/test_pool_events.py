"""Two pools for viewers: the trace's flows are the run's transfers, and the page shows what was handed over."""

import json
import pathlib
from collections import Counter

import numpy as np
import pytest

from kernels.errors import InputError
from sim.cli import main
from sim.cluster.simulate import PooledRun, simulate_pools
from sim.record.pool_runs import pool_runs
from sim.run.scenario import Scenario
from sim.show.page.pools_page import pools_page
from sim.show.pool_events import IN, OUT, pool_events
from tests.sim.show.test_page import Balanced
from tests.sim.show.test_trace_events import check

BASE = Scenario(model="gpt2", system="a100_sxm", requests="poisson:rate=200,n=60,prompt=300,output=12")


def served(rule: str = "whole", **option: object) -> PooledRun:
    return simulate_pools(BASE, {"dp": 2}, {"dp": 3}, transfer=rule, latency_s=1e-3, link_byte_per_s=1e9,
                          record_steps=True, **option)  # type: ignore[arg-type] # fmt: skip


@pytest.mark.parametrize("rule", ["whole", "layered"])
def test_every_transfer_is_a_flow_between_the_engines_that_it_joins(rule: str) -> None:
    done = served(rule)
    found = json.loads(done.trace())["traceEvents"]
    check([event for event in found if event["ph"] not in "sf"])
    name = {event["pid"]: event["args"]["name"] for event in found if event["name"] == "process_name"}
    assert sorted(name.values()) == ["decode 0", "decode 1", "decode 2", "prefill 0", "prefill 1"]
    moved = done.requests.dropna(subset="transfer_s")
    assert len(moved) == 60
    flows = {phase: {event["id"]: event for event in found if event["ph"] == phase} for phase in "sf"}
    assert set(flows["s"]) == set(flows["f"]) == set(moved.index)
    slices = Counter((e["name"], e["pid"], e["ts"]) for e in found if e["ph"] == "X" and e["tid"] >= OUT)
    for i, row in moved.iterrows():
        out, there = flows["s"][i], flows["f"][i]
        assert name[out["pid"]] == f"prefill {int(row['prefill_engine'])}"
        assert name[there["pid"]] == f"decode {int(row['decode_engine'])}"
        for one in (out, there):  # each end lies in a slice of its own thread
            assert slices[f"KV of request {i}", one["pid"], one["ts"]] == 1
        assert OUT <= out["tid"] < IN <= there["tid"]
    lasts = [event["dur"] for event in found if event["ph"] == "X" and OUT <= event["tid"] < IN]
    assert sum(lasts) == pytest.approx(moved["transfer_s"].sum() * 1e6, abs=1e-3 * len(lasts))


def test_a_request_decodes_where_and_when_its_kv_is_there() -> None:
    done = served()
    runs = pool_runs(done.result, done.load)
    request, transfer = runs.whole.requests, runs.transfer.frame()
    assert (transfer["begin_s"] >= request["first_token_s"][transfer["request"]].to_numpy() - 1e-12).all()
    assert (transfer["end_s"] <= request["last_token_s"][transfer["request"]].to_numpy()).all()
    steps = runs.step["decode"].frame()
    for row in transfer.itertuples():  # its engine steps after that, and until its last token
        own = steps[steps["replica"] == row.decode_engine]
        assert ((own["end_s"] - request["last_token_s"][row.request]).abs() < 1e-9).any()
        assert own["start_s"].max() >= row.end_s - 1e-12
    assert np.isclose((transfer["end_s"] - transfer["begin_s"]).sum(), done.requests["transfer_s"].sum())
    assert done.result.moved_byte == pytest.approx(sum(done.load.prompt_token) * 12 * 2 * 768 * 2)  # keys and values


def test_a_trace_too_long_for_a_viewer_is_refused() -> None:
    done = served()
    with pytest.raises(InputError, match="too many trace events"):
        pool_events(pool_runs(done.result, done.load), max_event=100)


def test_the_page_says_what_was_handed_over_and_draws_both_pools() -> None:
    done = served()
    text = done.page()
    Balanced(text)
    for word in ("Transfer of KV", "KV on its way", "Engines that prefill", "Engines that decode", "engine 2",
                 f"{done.result.moved_byte / 1e9:.4g} GB"):  # fmt: skip
        assert word in text
    plain = simulate_pools(BASE, {"dp": 2}, {"dp": 3})
    assert plain.requests["transfer_s"].max() < done.requests["transfer_s"].max()  # wider links
    assert "Steps were not recorded" in pools_page(plain)


def test_the_verb_writes_both_and_a_file_of_mixed_pools_is_sent_to_simulate(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", "gpt2", "--system", "a100_sxm", "--requests", BASE.requests, "--prefill", "dp=2"]
    page, trace = tmp_path / "p.html", tmp_path / "p.json"
    assert main(["pools", *words, "--html", str(page), "--trace", str(trace)]) == 0
    Balanced(page.read_text())
    assert json.loads(trace.read_text())["otherData"]["ridgeline"]["config"]["prefill"]["dp"] == 2
    mixed = tmp_path / "m.toml"
    mixed.write_text(f'model = "gpt2"\nrequests = "{BASE.requests}"\n[[pool]]\nsystem = "a100_sxm"\ndp = 2\n')
    capsys.readouterr()
    assert main(["pools", str(mixed), "--html", str(page)]) == 2
    assert "ridgeline simulate" in capsys.readouterr().err
