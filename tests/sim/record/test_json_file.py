"""Frames as JSON: plain numbers, nothing that a reader refuses."""

import json

import numpy as np
import pandas as pd

from sim.cli import main
from sim.record import export


def test_json_holds_plain_values(capfd) -> None:
    export.write_json({"a": np.float64(1.5), "b": float("nan"), "c": [np.int64(2)], "d": pd.DataFrame({"x": [1]})}, "-")
    assert json.loads(capfd.readouterr().out) == {"a": 1.5, "b": None, "c": [2], "d": [{"x": 1}]}


def test_an_output_that_cannot_be_written_is_refused_before_the_work(capfd, tmp_path) -> None:
    missing = tmp_path / "missing" / "x.json"
    assert main(["simulate", "--model", "no-such-model", "--system", "h100_sxm", "--json", str(missing)]) == 2
    assert "cannot be written" in capfd.readouterr().err  # and not that there is no such model
