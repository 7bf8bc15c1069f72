"""Frames as JSON: plain numbers, nothing that a reader refuses."""

import json

import numpy as np
import pandas as pd

from sim import show


def test_json_holds_plain_values(capsys) -> None:
    show.write_json({"a": np.float64(1.5), "b": float("nan"), "c": [np.int64(2)], "d": pd.DataFrame({"x": [1]})}, "-")
    assert json.loads(capsys.readouterr().out) == {"a": 1.5, "b": None, "c": [2], "d": [{"x": 1}]}
