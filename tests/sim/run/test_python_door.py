"""What somebody at a prompt or in a notebook sees: short reprs, tables, frames with units, figures, progress."""

import re
import sys
import types
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import ridgeline
from kernels.errors import InputError
from ridgeline import Scenario, simulate
from sim.cluster.simulate import PooledRun
from sim.cluster.simulate_programs import ProgramRun
from sim.recommend.bounds import demand_of
from sim.recommend.recommend import Recommendation
from sim.recommend.search import Target
from sim.show.progress import Progress
from sim.show.time_left import time_left
from workloads.load import load_requests

SMALL = {"model": "gpt2", "system": "h100_sxm", "requests": "batch:n=6,prompt=20,output=5"}
FRAME = pd.DataFrame({"arrival_s": [0.5, 0.0, 0.25], "prompt_token": [10, 20, 30], "output_token": [2, 3, 4]})


@pytest.fixture(scope="module")
def done():
    return simulate(Scenario(**SMALL), record_steps=True)


def test_reprs_are_short_and_html_is_a_table(done) -> None:
    assert len(repr(done)) < 400
    assert "\n" not in repr(done)
    assert len(repr(done.run)) < 200
    assert done._repr_html_().startswith("<table>")
    one = ridgeline.schedule("1f1b", 4, 8)
    assert len(repr(one)) < 400
    assert one._repr_html_().count("<tr>") >= 3


def test_results_of_other_verbs_are_short_too() -> None:
    target = Target(ttft_s=1.0, tpot_s=0.05, objective="cost", max_device=4, within=1.5)
    load = load_requests("poisson:rate=2,n=50,prompt=100,output=10")
    none = Recommendation([], target, demand_of(load), 0, True)
    table = pd.DataFrame({"metric": ["ttft_s"], "mean": [0.25]})
    pooled = PooledRun(SimpleNamespace(pool=["prefill"]), FRAME, table, FRAME, "stable", 0.0, None, {})  # type: ignore[arg-type]
    runs = [ProgramRun(None, FRAME, FRAME, table), pooled]  # type: ignore[arg-type]
    for found in (none, *runs):
        assert len(repr(found)) < 200
        assert found._repr_html_().startswith("<table>")  # type: ignore[attr-defined]
    assert repr(none) == "<Recommendation: 0 candidates, 0 simulated, none meets the target>"
    assert repr(load).startswith("<Requests: 50 over ")
    assert repr(load).endswith(" s, 100 prompt and 10 output tokens in the mean>")


def test_frames_say_their_units(done) -> None:
    counts = ("token", "num_", "block", "replica", "lane", "request", "status", "reason", "priority", "operator",
              "kind", "bound")  # fmt: skip
    for frame in (done.run.requests, done.run.steps, done.run.operators):
        for name in frame.columns:
            assert re.search(r"_(s|j|w|byte)$", name) or any(part in name for part in counts), name


def test_a_frame_of_requests_is_a_load() -> None:
    load = load_requests(FRAME)
    assert load.arrival_ps.tolist() == [0, 250_000_000_000, 500_000_000_000]
    assert load.prompt_token.tolist() == [20, 30, 10]
    done = simulate(Scenario(**SMALL), requests=FRAME)
    assert done.run.requests["prompt_token"].tolist() == [20, 30, 10]
    with pytest.raises(InputError, match=r"the frame:1: header = 'prompt'.*nearest: prompt_token"):
        load_requests(FRAME.rename(columns={"prompt_token": "prompt"}))
    with pytest.raises(InputError, match=r"the frame:3: output_token = '-1'"):
        load_requests(FRAME.assign(output_token=[1, -1, 1]))
    with pytest.raises(InputError, match="no rows"):
        load_requests(FRAME.head(0))


def test_figures_are_returned(done) -> None:
    figure = pytest.importorskip("matplotlib.figure")
    for kind in ("latency", "load", "roofline"):
        assert isinstance(done.plot(kind), figure.Figure)
    with pytest.raises(InputError, match="nearest: latency"):
        done.plot("latencies")


def test_progress_in_a_notebook_is_one_output_that_changes(monkeypatch) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, content, raw):
            shown.append(content["text/plain"])

    def display(content, raw, display_id):
        shown.append(content["text/plain"])
        return Handle()

    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    inner = types.ModuleType("IPython.display")
    inner.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", inner)
    with Progress() as progress:
        progress(3, 10)
        progress(5, 20)
    assert shown == ["3 requests ended, 10 steps", "5 requests ended, 20 steps", ""]
    with Progress(False) as progress:
        progress(1, 1)
    assert len(shown) == 3
    ipython.get_ipython = types.SimpleNamespace  # a terminal
    with Progress() as progress:
        progress(1, 1)
    assert len(shown) == 3
    assert simulate(Scenario(**SMALL), progress=True).served
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    shown.clear()
    with time_left(True) as search:
        assert search is not None
        search._said_s = 0.0  # long ago
        search(3, 0, 12)
    assert shown[0].startswith("3 of 12 points, ")
    assert shown[-1] == ""
    with time_left(False) as search:
        assert search is None


def test_what_a_run_is_stands_in_its_head_and_in_json(capsys, tmp_path) -> None:
    import json

    from sim.cli import main

    out = tmp_path / "a.json"
    (tmp_path / "load.csv").write_text("arrival_s,prompt_token,output_token\n0,20,4\n0,5000,4\n")
    words = ["simulate", "--model", "gpt2", "--system", "h100_pcie", "--requests", str(tmp_path / "load.csv")]
    assert main([*words, "--json", str(out)]) == 0
    text = capsys.readouterr().out
    head = " ".join(text[: text.index("Serving Benchmark Result")].split())
    assert "Calibration: inherited from" in head
    assert "1 request refused: longer than the context." in head
    assert re.search(r"GPU KV cache size: [\d,]+ tokens\n", text)
    assert re.search(r"Maximum concurrency for 1,024 tokens per request: [\d,.]+x\n", text)
    said = json.loads(out.read_text())["ridgeline"]
    assert said["refused"] == {"longer than the context": 1}
    assert said["calibration"].startswith("inherited from")
    assert set(said["kv_cache"]) == {"kv_capacity_token", "kv_concurrency", "max_model_len"}
    assert said["kv_cache"]["kv_concurrency"] == pytest.approx(
        said["kv_cache"]["kv_capacity_token"] / said["kv_cache"]["max_model_len"], rel=0.01
    )


def test_the_default_load_says_what_it_leaves_out() -> None:
    assert "7,168" in load_requests("conversation:n=10").note
    assert not load_requests("conversation:n=10,prompt=20,output=3").note
    np.testing.assert_array_equal(load_requests("conversation:n=10").parent, -1)


@pytest.mark.parametrize("given", ["gpt2", 3, None, {"model": "gpt2"}])
@pytest.mark.parametrize("name", [
    "simulate", "capacity", "compare", "roofline", "simulate_operation", "simulate_programs",
])  # fmt: skip
def test_what_is_no_scenario_is_said_in_one_line(name: str, given: object) -> None:
    with pytest.raises(ridgeline.InputError, match=r"^scenario = .*: not a scenario; allowed: Scenario\("):
        getattr(ridgeline, name)(given)
    with pytest.raises(ridgeline.InputError, match="not a scenario"):
        ridgeline.simulate_pools_operation(given, {}, {})
