"""Length distributions: moments against closed forms, bounds, text."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.errors import InputError
from workloads.lengths import DISTRIBUTIONS, lognormal_sigma, parse_length, quantile

NUM = 100_000
U = np.random.default_rng(7).random(NUM)


def near(values: np.ndarray, mean: float) -> bool:
    """Within 5 standard errors of the sample mean: a false alarm in 1.7 million."""
    return abs(values.mean() - mean) < 5 * values.std() / math.sqrt(len(values)) + 1e-9


@pytest.mark.parametrize(
    ("text", "mean"),
    [
        ("512", 512),
        ("uniform:min=10:max=19", 14.5),  # (10 + 19) / 2
        ("normal:mean=100:std=30", 100),
        ("normal:mean=100:std=90:max=300", 100),  # cut on both sides, the mean kept
        ("lognormal:mean=1064:max=3000", 1064),
        ("lognormal:mean=247:sigma=1.2:max=1000", 247),
        ("lognormal:mean=1155:std=1109", 1155),
        ("lognormal:mean=1155:median=1020", 1155),
        ("quantiles:at=1/101/401", (51 + 251) / 2),  # two straight lines, as many of either
        ("zipf:alpha=0:min=3:max=6", 4.5),  # no preference: uniform
        ("zipf:alpha=1:max=3", 3 / (1 + 1 / 2 + 1 / 3)),  # sum of k / k over sum of 1 / k
    ],
)
def test_sample_mean_is_the_mean_asked_for(text: str, mean: float) -> None:
    assert near(quantile(parse_length(text), U), mean)


def test_lognormal_median_and_width() -> None:
    values = quantile(parse_length("lognormal:median=500:sigma=0.7"), U)
    # the sample median's standard error is 1 / (2 f sqrt(n)), f the density of log length there: 1/(0.7 sqrt(2 pi))
    error = 0.7 * math.sqrt(2 * math.pi) / 2 / math.sqrt(NUM)
    assert abs(math.log(np.median(values) / 500)) < 5 * error + 1 / 500  # and one token of rounding
    assert np.log(values).std() == pytest.approx(0.7, abs=5 * 0.7 / math.sqrt(2 * NUM))
    # std over mean of 1: sigma^2 = ln 2; mean over median of e^(1/2): sigma = 1
    assert lognormal_sigma(parse_length("lognormal:mean=99:std=99")) == pytest.approx(math.sqrt(math.log(2)))
    assert lognormal_sigma(parse_length({"distribution": "lognormal", "mean": 50 * math.e**0.5, "median": 50})) == (
        pytest.approx(1)
    )


def test_quantiles_are_where_they_are_said_to_be_and_lines_between() -> None:
    length = parse_length("quantiles:at=5/80/80/400")
    assert quantile(length, np.array([0, 1 / 6, 1 / 3, 0.5, 2 / 3, 5 / 6, 1 - 1e-12])).tolist() == [
        5, 42, 80, 80, 80, 240, 400,
    ]  # fmt: skip
    assert parse_length(str(length)) == length
    for bad in ("5", "5/4", "0/4", "1/x", "1/2.5", "", "1//2"):
        with pytest.raises(InputError, match="not quantiles"):
            parse_length(f"quantiles:at={bad}")


def test_zipf_odds() -> None:
    values = quantile(parse_length("zipf:alpha=1.5:min=1:max=1000"), U)
    share = [(values == k).mean() for k in (1, 2)]
    norm = sum(k**-1.5 for k in range(1, 1001))
    for got, k in zip(share, (1, 2), strict=True):
        p = k**-1.5 / norm
        assert abs(got - p) < 5 * math.sqrt(p * (1 - p) / NUM)


def test_empirical_draws_the_file_in_its_shares(tmp_path) -> None:
    (tmp_path / "lengths.csv").write_text("10,1\n20,2\n20,3\n40,4\n")
    values = quantile(parse_length(f"empirical:file={tmp_path / 'lengths.csv'}"), np.array([0.0, 0.3, 0.6, 0.99]))
    assert values.tolist() == [10, 20, 20, 40]  # quarter by quarter of the sorted column
    second = parse_length({"distribution": "empirical", "file": str(tmp_path / "lengths.csv"), "column": 2})
    assert quantile(second, np.array([0.0, 0.99])).tolist() == [1, 4]


lengths = st.one_of(
    st.builds("fixed:token={}".format, st.integers(1, 10**6)),
    st.builds("uniform:min={}:max={}".format, st.integers(1, 100), st.integers(100, 10**5)),
    st.builds("normal:mean={}:std={}:min=1:max=2000".format, st.integers(1, 2000), st.floats(0, 5000)),
    st.builds(
        "lognormal:mean={}:sigma={}:max={}".format, st.integers(1, 999), st.floats(0, 5), st.integers(999, 10**6)
    ),
    st.builds("zipf:alpha={}:max={}".format, st.floats(0, 20), st.integers(1, 5000)),
)


@settings(max_examples=100, deadline=None)
@given(lengths)
def test_every_length_reads_back_and_keeps_its_bounds(text: str) -> None:
    length = parse_length(text)
    assert parse_length(str(length)) == length
    assert parse_length({"distribution": length.distribution, **dict(length.values)}) == length
    values = quantile(length, U[:500])
    assert values.dtype == np.int64
    assert values.min() >= (length.get("min") or 1)
    assert values.max() <= (length.get("max") or length.get("token") or 2**24)
    ordered = quantile(length, np.sort(U[:500]))
    assert (np.diff(ordered) >= 0).all()  # a quantile function never falls


@pytest.mark.parametrize(
    "text",
    [
        "lognormal", "lognormal:sigma=1", "lognormal:mean=5:sigma=1:std=2", "lognormal:mean=5:median=9",
        "lognormal:mean=nan", "lognormal:mean=5:max=4", "lognormal:mean=5:mean=6", "lognormal:median=5:std=1",
        "uniform:min=9:max=3", "normal:mean=5", "fixed:token=1.5", "fixed:token=0", "fixed:token=1e12", "-3", "0",
        "zipf:alpha=1", "zipf:alpha=1:max=9999999", "empirical:file=/nowhere/x.csv:column=0", "uniform:min=1_0:max=30",
        "fixed:tokens=3", "", ":", "fixed:", "fixed:token", "inf",
    ],
)  # fmt: skip
def test_bad_lengths_are_input_errors(text: str) -> None:
    with pytest.raises(InputError):
        quantile(parse_length(text), U[:10])


def test_unknown_names_say_the_nearest() -> None:
    with pytest.raises(InputError, match="nearest: lognormal"):
        parse_length("lognorml:mean=5")
    with pytest.raises(InputError, match="nearest: sigma"):
        parse_length("lognormal:mean=5:sigmma=1")
    assert set(DISTRIBUTIONS) == {"fixed", "uniform", "normal", "lognormal", "zipf", "empirical", "quantiles"}
