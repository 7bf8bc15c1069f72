"""Files: whole or absent, carrying their provenance, the same bytes for the same seed, readable by others."""

import errno
import io
import json
import os
import pathlib

import numpy as np
import pandas as pd
import pytest

from kernels.errors import InputError
from sim.record.export import benchmark_json, frame_bytes, json_bytes, read_provenance, run_files, write_files
from sim.record.metrics import measure
from sim.record.provenance import config_hash
from tests.sim.tiny_run import tiny_run
from workloads.load import load_requests


def everything(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_same_seed_same_bytes_and_every_file_says_what_it_is(tmp_path, form) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run = tiny_run(seed)
        write_files(run_files(run, measure(run), tmp_path / name / "deep", form=form))
    assert everything(tmp_path / "a") == everything(tmp_path / "b") != everything(tmp_path / "c")
    paths = sorted((tmp_path / "a" / "deep").iterdir())
    assert [path.name for path in paths] == [
        "metrics.json",
        *(f"{x}.{form}" for x in ("operators", "requests", "steps")),
    ]
    for path in paths:
        about = read_provenance(path)
        assert about == tiny_run().about
        assert {"config_hash", "versions", "seed", "fidelity"} <= set(about)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_tables_read_back_exactly(form) -> None:
    run = tiny_run()
    data = io.BytesIO(frame_bytes(run.requests, run.about, form))
    back = (
        pd.read_csv(data, comment="#", keep_default_na=False, na_values=[""])
        if form == "csv"
        else pd.read_parquet(data)
    )
    for column in ("arrival_s", "ttft_s", "tpot_s", "prompt_token"):
        assert np.array_equal(back[column], run.requests[column], equal_nan=True)
    assert back["status"].tolist() == run.requests["status"].tolist()


def test_the_json_is_flat_has_no_nan_and_no_clock() -> None:
    run = tiny_run()
    found = json.loads(json_bytes(benchmark_json(run, {**measure(run), "odd": float("nan")})))
    assert found["odd"] is None
    assert "date" not in found
    assert found["completed"] == 3
    assert benchmark_json(run, {}, date="20240101-000000")["date"] == "20240101-000000"


def test_details_are_a_trace_that_reads_back(tmp_path) -> None:
    run = tiny_run()
    write_files({tmp_path / "bench.json": json_bytes(benchmark_json(run, measure(run), details=True))})
    requests = load_requests(tmp_path / "bench.json")
    assert requests.prompt_token.tolist() == [10, 20, 30]
    assert requests.output_token.tolist() == [5, 1, 3]
    assert requests.arrival_ps.tolist() == [0, 10**12, 2 * 10**12]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch, step) -> None:
    old = tmp_path / "old.json"
    old.write_text("old")
    calls = {"count": 0}

    def full(*arguments):
        calls["count"] += 1
        if step == "replace" or calls["count"] > 1:  # the second file finds the disk full
            raise OSError(errno.ENOSPC, "No space left on device")

    if step == "write":
        real = os.fdopen

        def fdopen(handle, mode):
            file = real(handle, mode)
            if calls["count"]:

                class Full(io.RawIOBase):
                    def write(self, data):
                        raise OSError(errno.ENOSPC, "No space left on device")

                    def close(self):
                        file.close()

                return Full()
            calls["count"] += 1
            return file

        monkeypatch.setattr(os, "fdopen", fdopen)
    else:
        monkeypatch.setattr(os, step, full)
    files = {old: b"new", tmp_path / "sub" / "b.csv": b"b"}
    with pytest.raises(InputError, match="cannot be written: No space left on device"):
        write_files(files)
    monkeypatch.undo()
    assert everything(tmp_path) == {"old.json": b"old"}
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]  # the new folder is gone too


def test_an_interrupt_leaves_nothing_behind(tmp_path, monkeypatch) -> None:
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_files({tmp_path / "a": b"a"})
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "below", tmp_path):
        with pytest.raises(InputError, match="cannot be written"):
            write_files({path: b"x"})
    with pytest.raises(InputError, match="nearest: csv"):
        frame_bytes(tiny_run().requests, {}, "cvs")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_hash_of_a_configuration() -> None:
    assert config_hash({"a": 1, "b": [1.5, None]}) == config_hash({"b": (1.5, float("nan")), "a": 1})
    assert config_hash({"a": 1}) != config_hash({"a": 2})
    assert config_hash({"a": 1}) == "1f8c00645b7df6ce"  # what studies look results up by
