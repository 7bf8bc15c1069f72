"""Records: documented columns, units, what never happened."""

import numpy as np
import pytest

from sim.record.records import OPERATOR_COLUMNS, REQUEST_COLUMNS, STEP_COLUMNS, TOTALS
from tests.sim.tiny_run import tiny_run


def test_every_column_is_documented_and_every_documented_one_is_there() -> None:
    run = tiny_run()
    assert list(run.requests.columns) == list(REQUEST_COLUMNS)
    assert run.steps is not None
    assert list(run.steps.columns) == list(STEP_COLUMNS)
    assert run.operators is not None
    assert list(run.operators.columns) == list(OPERATOR_COLUMNS)
    assert set(run.totals) <= set(TOTALS)


def test_latencies_by_hand() -> None:
    frame = tiny_run().requests
    nan = np.nan
    for column, expected in {
        "ttft_s": [1, 3, 2, nan, 3],
        "e2e_s": [3, 3, 6, nan, nan],
        "queue_s": [0, 0, 1, nan, 1],
        "tpot_s": [0.5, nan, 2, nan, nan],  # (3 - 1) / 4; one token: none; (6 - 2) / 2; refused; unfinished
    }.items():
        assert np.array_equal(frame[column].to_numpy(), expected, equal_nan=True), column
    assert frame["status"].tolist() == ["finished"] * 3 + ["refused", "unfinished"]
    assert frame["reason"].tolist()[3] == "longer than the context"


def test_operators_add_up_by_name_and_bound_longest_first() -> None:
    operators = tiny_run().operators
    assert operators is not None
    assert operators["time_s"].tolist() == [4, 3, 2, 1]
    assert operators["bound"].tolist() == ["memory", "memory", "compute", "host"]
    assert operators["kind"].tolist() == ["gemm", "attn_decode", "gemm", "host"]
    assert operators["energy_j"].sum() == pytest.approx(4.0)  # 4 x 10^9 nJ


def test_steps_are_in_seconds_and_joules() -> None:
    steps = tiny_run().steps
    assert steps is not None
    assert (steps["end_s"] - steps["start_s"]).tolist() == [1.0, 3.0, 2.0, 1.0]
    assert steps["energy_j"].tolist() == [1.0] * 4
