"""Sweeps: the same rows whoever computes them and however often they are killed, nothing lost and nothing twice."""

import contextlib
import json
import os
import pathlib
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

import ridgeline
from kernels.errors import InputError
from sim.sweep.store import Store

ROOT = pathlib.Path(ridgeline.__file__).parent
SCENARIO = 'model = "gpt2"\nsystem = "a100_sxm"\nrequests = "poisson:rate=40,n=20,prompt=64,output=8"\n'
BASE = ridgeline.Scenario(model="gpt2", system="a100_sxm", requests="poisson:rate=40,n=20,prompt=64,output=8")
WAIT_S = 300  # until somebody is taken to hang
POINT_S = 5  # likewise, a point of many: a machine that does ten other things takes a second or two


def start(folder: pathlib.Path, *words: str) -> subprocess.Popen[str]:
    """`ridgeline sweep` in a process of its own."""
    (folder / "s.toml").write_text(SCENARIO)
    return subprocess.Popen(
        [sys.executable, "-m", "sim.cli", "sweep", "s.toml", *words], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no thread runs here
    )  # fmt: skip


def end(child: subprocess.Popen[str], code: int = 0, num_point: int = 0) -> str:
    out, err = child.communicate(timeout=WAIT_S + POINT_S * num_point)
    assert child.returncode == code, (child.returncode, out, err)
    return err


def test_the_function_is_a_frame_of_what_simulate_gives() -> None:
    frame = ridgeline.sweep(BASE, over={"seed": "0:1:1", "policy": ["vllm_v1", "static"]})
    assert frame[["seed", "policy"]].to_numpy().tolist() == [[0, "vllm_v1"], [0, "static"], [1, "vllm_v1"],
                                                             [1, "static"]]  # fmt: skip
    alone = ridgeline.simulate(ridgeline.Scenario(**{**vars(BASE), "seed": 1, "policy": "static"})).metrics
    row = frame.iloc[3]
    assert all(row[name] == value for name, value in alone.items() if value is not None)
    assert frame.attrs["complete"]
    assert frame["key"].nunique() == 4


def test_a_point_that_does_not_fit_is_a_row_that_says_so(tmp_path: pathlib.Path) -> None:
    frame = ridgeline.sweep(BASE, over={"model": ["gpt2", "llama-3-70b"]}, store=tmp_path)
    assert frame["status"].tolist() == ["served", "refused"]
    assert "does not fit" in frame["why"][1]
    frame = ridgeline.sweep(BASE, over={"model": ["gpt2", "llama-3-70b"]}, store=tmp_path)
    assert frame["status"].tolist() == ["served", "refused"]


def test_a_wrong_name_is_refused_before_anything_runs(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match="nearest: sarathi"):
        ridgeline.sweep(BASE, over={"policy": ["vllm_v1", "sarati"]}, store=tmp_path / "s")
    assert not (tmp_path / "s").exists()
    for words, said in (
        ({"executor": "clod"}, "no such executor"), ({"jobs": 0}, "out of range"),
        ({"sampler": "x"}, "no such sampler"),
        ({"trials": 3}, "has no effect"), ({"sampler": "optuna", "trials": 3}, "one metric"),
        ({"sampler": "optuna", "trials": 3, "minimise": "p99_tfft_ms"}, "nearest: p99_ttft_ms"),
        ({"sampler": "optuna", "trials": 0, "minimise": "p99_ttft_ms"}, "out of range"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            ridgeline.sweep(BASE, over={"seed": [0]}, **words)


def test_every_metric_of_optuna_is_in_every_row() -> None:
    from sim.sweep.sweep import metrics

    row = ridgeline.sweep(BASE, over={"seed": [0]}).iloc[0]
    assert set(metrics()) <= set(row.index)


def test_a_repeated_point_is_free(tmp_path: pathlib.Path) -> None:
    said: list[tuple[int, int, int]] = []
    first = ridgeline.sweep(BASE, over={"seed": [0, 1]}, store=tmp_path)
    more = ridgeline.sweep(BASE, over={"seed": [1, 0, 2]}, store=tmp_path, progress=lambda *n: said.append(n))
    assert said[-1] == (3, 2, 3)
    assert more.iloc[1].drop(["seed"]).equals(first.iloc[0].drop(["seed"]))
    assert set(Store(tmp_path).num_claim().values()) == {1}


def test_a_file_that_changes_is_another_point(tmp_path: pathlib.Path) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text("arrival_s,prompt_token,output_token\n0,10,5\n1,20,6\n")
    base = ridgeline.Scenario(**{**vars(BASE), "requests": str(trace)})
    first = ridgeline.sweep(base, over={"seed": [0]}, store=tmp_path / "s")
    trace.write_text("arrival_s,prompt_token,output_token\n0,10,5\n1,20,9\n")
    second = ridgeline.sweep(base, over={"seed": [0]}, store=tmp_path / "s")
    assert second["total_output_tokens"][0] == first["total_output_tokens"][0] + 3


def test_optuna_goes_on_where_it_was(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("optuna", reason="the extra `cluster` is not installed")
    over = {"requests.rate": "10:100:10", "policy": ["vllm_v1", "sarathi"]}
    words = {"sampler": "optuna", "maximise": "output_throughput"}
    whole = ridgeline.sweep(BASE, over=over, trials=9, **words)
    part = ridgeline.sweep(BASE, over=over, trials=5, store=tmp_path, **words)
    assert part["key"].tolist() == whole["key"].tolist()[:5]
    again = ridgeline.sweep(BASE, over=over, trials=9, store=tmp_path, jobs=2, **words)
    assert again.equals(whole)


@pytest.mark.parametrize("kills", [4, pytest.param(100, marks=pytest.mark.nightly)])
def test_killed_at_random_moments_the_table_is_that_of_an_undisturbed_run(tmp_path: pathlib.Path, kills: int) -> None:
    num = 6 * kills
    words = ["--over", f"seed=0:{num - 1}:1", "--jobs", "2", "--store"]
    end(start(tmp_path, *words, "whole", "--json", "whole.json", "--csv", "whole.csv"), num_point=num)
    chance = random.Random(kills)
    for _ in range(kills):
        child = start(tmp_path, *words, "killed", "--json", "killed.json")
        until = num_done(tmp_path / "killed") + chance.randrange(5)  # it has done so many more, and a little
        if chance.random() < 0.8:
            wait_for(lambda: num_done(tmp_path / "killed") >= until or child.poll() is not None)  # noqa: B023
        time.sleep(chance.uniform(0, 0.2))
        child.kill()
        child.communicate(timeout=WAIT_S)
    end(start(tmp_path, *words, "killed", "--json", "killed.json", "--csv", "killed.csv"), num_point=num)
    for ending in ("json", "csv"):
        assert (tmp_path / f"killed.{ending}").read_bytes() == (tmp_path / f"whole.{ending}").read_bytes()
    tables = [next((tmp_path / name).glob("sweep-*")).read_bytes() for name in ("whole", "killed")]
    assert tables[0] == tables[1]
    claims = Store(tmp_path / "killed").num_claim()
    assert len(claims) == num
    assert sum(claims.values()) <= num + 2 * kills  # a kill loses what two workers were at, and nothing else


def num_done(folder: pathlib.Path) -> int:
    """Rows in a store that another process may be making at this moment."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{folder / 'index.sqlite'}?mode=ro", uri=True)) as base:
            return int(base.execute("SELECT count(row) FROM point").fetchone()[0])
    except sqlite3.Error:
        return 0


def wait_for(there: Callable[[], bool]) -> None:
    end_s = time.monotonic() + WAIT_S
    while not there():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_two_sweeps_share_a_store_and_do_no_point_twice(tmp_path: pathlib.Path) -> None:
    words = ["--over", "seed=0:11:1", "--store", "s", "--jobs"]
    children = [start(tmp_path, *words, jobs, "--json", f"{jobs}.json") for jobs in ("1", "2")]
    for child in children:
        end(child)
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()
    assert list(Store(tmp_path / "s").num_claim().values()) == [1] * 12


def test_a_worker_that_dies_is_replaced(tmp_path: pathlib.Path) -> None:
    child = start(tmp_path, "--over", "seed=0:19:1", "--store", "s", "--jobs", "2", "--json", "o.json")
    for k in (2, 6):
        wait_for(lambda: num_done(tmp_path / "s") >= k)  # noqa: B023
        os.kill(min(workers(child.pid)), signal.SIGKILL)
    end(child)
    assert len(json.loads((tmp_path / "o.json").read_text())["rows"]) == 20


def workers(parent: int) -> set[int]:
    children = pathlib.Path(f"/proc/{parent}/task/{parent}/children")
    try:
        return {int(word) for word in children.read_text().split()}
    except OSError:
        return set()


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_interrupt_leaves_what_was_done(tmp_path: pathlib.Path, jobs: str) -> None:
    child = start(tmp_path, "--over", "seed=0:799:1", "--store", "s", "--jobs", jobs, "--json", "o.json")
    wait_for(lambda: num_done(tmp_path / "s") > 3)
    child.send_signal(signal.SIGINT)
    err = end(child, 130)
    assert "kept, marked as not complete" in err
    found = json.loads((tmp_path / "o.json").read_text())
    assert found["complete"] is False
    assert 1 <= len(found["rows"]) < 800
    held = Store(tmp_path / "s").rows(row["key"] for row in found["rows"])
    assert len(held) == len(found["rows"])


def test_the_file_says_nothing_of_the_wall(tmp_path: pathlib.Path) -> None:
    for name in ("a", "b"):
        end(start(tmp_path, "--over", "seed=0:2:1", "--jobs", "1", "--json", f"{name}.json"))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
