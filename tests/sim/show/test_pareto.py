"""Pareto plots: what they draw is what the rows say, and no point of the front is beaten."""

import pathlib

import pandas as pd
import pytest

import ridgeline
from kernels.errors import InputError
from sim.cli import main

matplotlib = pytest.importorskip("matplotlib.figure", reason="the extra `plot` is not installed")

FRAME = pd.DataFrame({
    "mean_tpot_ms": [5.0, 8.0, 20.0, float("nan")], "output_throughput": [100.0, 240.0, 230.0, float("nan")],
    "num_device": [2, 2, 2, float("nan")], "usd_per_million_output_token": [10.0, 4.0, 5.0, None],
    "energy_j_per_million_output_token": [9e5, 4e5, 6e5, None],
})  # fmt: skip


def test_points_front_and_concurrency() -> None:
    figure = ridgeline.pareto(FRAME, "three points")
    assert isinstance(figure, matplotlib.Figure)
    labels = [axis.get_ylabel() for axis in figure.axes]
    assert labels == ["tokens/s a GPU", "$ a million output tokens", "J a million output tokens"]
    for axis in figure.axes:
        assert axis.get_xlabel() == "tokens/s a user"
        assert (axis.get_xlim()[0], axis.get_ylim()[0]) == (0, 0)
        every, front = (list(zip(*line.get_data(), strict=True)) for line in axis.lines)
        assert [point[0] for point in every] == [200.0, 125.0, 50.0]  # 1 / TPOT; the refused point is not drawn
        assert set(front) == set(every[:2])  # 50 tokens/s a user and 115 a GPU are beaten in both
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.5", "1.92"]  # 100 / 200, 240 / 125


def test_overloaded_points_are_in_no_front() -> None:
    frame = FRAME.assign(load_state=["stable", "overloaded", "stable", None])
    front = list(zip(*ridgeline.pareto(frame).axes[0].lines[1].get_data(), strict=True))
    assert front == [(200.0, 50.0), (50.0, 115.0)]


def test_what_is_no_sweep_is_refused() -> None:
    with pytest.raises(InputError, match="not the frame of a sweep"):
        ridgeline.pareto(pd.DataFrame({"a": [1]}))
    with pytest.raises(InputError, match="no point served"):
        ridgeline.pareto(FRAME.tail(1))


def test_a_sweep_is_drawn_into_a_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "front.svg"
    words = ["sweep", "--model", "gpt2", "--system", "h100_sxm", "--fidelity", "sol", "--over", "requests.n=1,4"]
    assert main([*words, "--requests", "batch:prompt=20,output=5", "--plot", str(path), "--jobs", "1"]) == 0
    assert "tokens/s a user" in path.read_text() or "<svg" in path.read_text()
    assert main([*words, "--plot", str(tmp_path / "front.xyz")]) == 2


def test_a_comparison_is_drawn_with_names_and_concurrency(tmp_path: pathlib.Path) -> None:
    load = "poisson:rate=50,n=20,prompt=200,output=10"
    several = [ridgeline.Scenario(model="gpt2", system=name, requests=load) for name in ("h100_sxm", "a100_sxm")]
    frame = ridgeline.compare(several)
    figure = ridgeline.pareto(frame)
    points = frame.set_index("metric")
    for axis in figure.axes:
        drawn = dict(zip([text.get_text().split(" (")[0] for text in axis.texts], axis.texts, strict=True))
        assert list(drawn) == ["h100_sxm", "a100_sxm"]
        for name, text in drawn.items():
            user = 1e3 / points.loc["mean_tpot_ms", name]
            assert text.xy[0] == pytest.approx(user)
            concurrency = float(text.get_text().split("(")[1].rstrip(")"))
            assert concurrency == pytest.approx(points.loc["output_throughput", name] / user, rel=6e-3)
    path = tmp_path / "both.svg"
    words = ["compare", "--model", "gpt2", "--systems", "h100_sxm,a100_sxm", "--requests", load]
    assert main([*words, "--plot", str(path)]) == 0
    assert path.stat().st_size > 1000
    assert main([*words, "--plot", str(tmp_path / "front.xyz")]) == 2
