"""Metrics: the definitions of vLLM's serving benchmark, on a run that is followed by hand."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.errors import InputError
from sim.record.metrics import histogram_percentile, measure, parse_slo, peak_concurrency, peak_token_rate, token_rate
from tests.sim.tiny_run import tiny_run

VLLM_NAMES = {
    "num_prompts", "completed", "failed", "duration", "total_input_tokens", "total_output_tokens",
    "request_throughput", "request_goodput", "output_throughput", "total_token_throughput",
    "max_output_tokens_per_s", "max_concurrent_requests",
}  # fmt: skip
STATISTICS = {
    f"{stat}_{name}_ms" for name in ("ttft", "tpot", "itl", "e2el") for stat in ("mean", "median", "std", "p99")
}


def test_by_hand() -> None:
    found = measure(tiny_run(), goodput="ttft:2.5 tpot:0.5", percentiles=(50, 99))
    assert set(found) >= VLLM_NAMES | STATISTICS
    expected = {
        "num_prompts": 5, "completed": 3, "failed": 2,
        "duration": 8.0,  # first arrival at 1 s, last finish at 9 s
        "total_input_tokens": 60, "total_output_tokens": 9,  # of the three that finished
        "request_throughput": 3 / 8, "output_throughput": 9 / 8, "total_token_throughput": 69 / 8,
        "request_goodput": 1 / 8,  # request 0; 1 has TTFT 3 s, 2 has TPOT 2 s
        "mean_ttft_ms": 2000.0, "median_ttft_ms": 2000.0,  # 1, 3, 2 s
        "std_ttft_ms": 1000 * math.sqrt(2 / 3),  # of the population
        "p50_ttft_ms": 2000.0, "p99_ttft_ms": 2980.0,  # linear between the sorted values: 2 + 0.98
        "mean_tpot_ms": 1250.0,  # 0.5 and 2 s: the single token has none
        "mean_e2el_ms": 4000.0,  # 3, 3, 6 s
        "mean_itl_ms": 1000.0,  # four of 0.5 s and two of 2 s
        "max_concurrent_requests": 3,  # from 3 s to 4 s 0, 1 and 2 are there
        "energy_j": 1200.0,
        "energy_j_per_million_token": 1200 / 69 * 1e6,
        "usd_per_million_output_token": 7.2 * 8 / 3600 / 9 * 1e6,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["median_itl_ms"] == pytest.approx(500, abs=20)  # to the bucket of 0.49 to 0.51 s
    assert found["p99_itl_ms"] == pytest.approx(2000, abs=20)
    # deviation of 4 x 0.5 and 2 x 2 about 1: sqrt((4 x 0.25 + 2 x 1) / 6)
    assert found["std_itl_ms"] == pytest.approx(1000 * math.sqrt(0.5))


def test_goodput_is_absent_without_an_slo_and_one_token_meets_any_tpot() -> None:
    run = tiny_run()
    assert measure(run)["request_goodput"] is None
    assert measure(run, goodput={"tpot": 0.1})["request_goodput"] == pytest.approx(1 / 8)  # request 1 alone
    assert measure(run, goodput=["e2el:6"])["request_goodput"] == pytest.approx(3 / 8)  # a limit is met when equal


def test_a_run_in_which_nothing_finished() -> None:
    run = tiny_run()
    requests = run.requests.iloc[3:].reset_index(drop=True)
    run = dataclasses.replace(run, requests=requests, gap_count=np.zeros(4, np.int64))
    found = measure(run, goodput="ttft:1")
    assert (found["completed"], found["failed"], found["request_throughput"], found["request_goodput"]) == (0, 2, 0, 0)
    assert all(found[name] is None for name in found if name.endswith("_ms"))


def test_without_a_histogram_there_is_no_itl() -> None:
    found = measure(dataclasses.replace(tiny_run(), gap_count=None))
    assert not [name for name in found if "itl" in name]


@pytest.mark.parametrize("text", ["ttf:1", "ttft", "ttft:", "ttft:x", "ttft:-1", "ttft:0", "ttft:nan", "1"])
def test_bad_slos(text: str) -> None:
    with pytest.raises(InputError):
        parse_slo(text)


def test_bad_percentiles() -> None:
    with pytest.raises(InputError):
        measure(tiny_run(), percentiles=(101,))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1e-4, 9.9), min_size=1, max_size=200), st.floats(0, 100))
def test_histogram_percentiles_are_those_of_the_values_to_a_bucket(values: list[float], p: float) -> None:
    edges = np.concatenate([[0.0], np.geomspace(1e-4, 10, 1000)])  # a bucket is 1.16 % wide
    count = np.histogram(values, edges)[0]
    got = histogram_percentile(edges, count, p)
    low, high = np.percentile(values, p, method="lower"), np.percentile(values, p, method="higher")
    assert low / 1.0117 <= got <= high * 1.0117


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 10), st.integers(1, 30)), min_size=1, max_size=20))
def test_token_rate_conserves_tokens_and_equals_a_count(rows: list[tuple[int, int, int]]) -> None:
    """Tokens of (first, last - first, count), spread evenly: each interval gets its share of every ramp."""
    frame = pd.DataFrame(
        [(first, first + span, num if span else 1) for first, span, num in rows],
        columns=["first_token_s", "last_token_s", "committed_token"],
    ).astype(float)  # fmt: skip
    edges = np.arange(0.0, 33.0)
    got = token_rate(frame, edges)
    expected = np.zeros(32)
    for first, last, num in frame.itertuples(index=False):
        expected[int(first)] += 1
        if last > first:
            expected[int(first) : int(last)] += (num - 1) / (last - first)
    assert got == pytest.approx(expected, abs=1e-6)
    assert got.sum() == pytest.approx(frame["committed_token"].sum())


def test_peaks_by_hand() -> None:
    done = tiny_run().requests.iloc[:3]
    # seconds since 1 s: request 0 has tokens at 1 and a ramp of 2 a second over 1..3; 1 at 4; 2 at 4 and 0.5 a second
    assert peak_token_rate(done) == pytest.approx(3.0)
    assert peak_concurrency(done.iloc[:1]) == 1
    moved = done.assign(arrival_s=[1.0, 4.0, 5.0])  # each comes as the one before leaves
    assert peak_concurrency(moved) == 1
