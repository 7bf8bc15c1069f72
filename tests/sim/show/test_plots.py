"""Pictures: drawn whole, labelled with units, the same bytes twice."""

import io

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("matplotlib")

from sim.record.export import figure_bytes
from sim.show import plots
from tests.sim.tiny_run import tiny_run

POINTS = pd.DataFrame(
    {
        "operator": ["mlp", "attn_decode", "all_reduce"],
        "kind": ["gemm", "attn_decode", "all_reduce"],
        "flop": [1e12, 1e9, 0.0],
        "mem_byte": [1e9, 1e9, 0.0],
        "time_s": [2e-3, 1e-3, 1e-3],
    }
)


def labels(figure) -> str:
    return " ".join(f"{axis.get_title(loc='left')} {axis.get_xlabel()} {axis.get_ylabel()}" for axis in figure.axes)


def test_latency_curves_end_at_every_request() -> None:
    figure = plots.latency_cdf({"one": tiny_run(), "two": tiny_run()})
    assert "(s)" in labels(figure)
    assert "(%)" in labels(figure)
    line = figure.axes[0].lines[0]
    assert list(line.get_xdata()) == [1.0, 2.0, 3.0, 3.0]  # TTFT of all that got a token, in seconds
    assert line.get_ydata()[-1] == 100


def test_load_over_time_has_a_memory_panel_only_with_steps() -> None:
    import dataclasses

    run = tiny_run()
    figure = plots.load_over_time(run)
    assert len(figure.axes) == 3
    assert "output tokens / s" in labels(figure)
    assert "time (s)" in labels(figure)
    assert len(plots.load_over_time(dataclasses.replace(run, steps=None)).axes) == 2


def test_requests_running_and_waiting_by_hand() -> None:
    requests = tiny_run().requests
    requests.loc[3, "finish_s"] = 4.0  # refused, and gone at once
    running, waiting = plots.running_and_waiting(requests, np.array([0.0, 1.5, 3.5, 4.5, 5.5, 8.0, 10.0]))
    # 0 from 1 to 4 s, 1 from 2 to 5 s, 2 from 4 to 9 s, 4 from 6 s on; 2 waits from 3 to 4 s, 4 from 5 to 6 s
    assert running.tolist() == [0, 1, 2, 2, 1, 2, 1]
    assert waiting.tolist() == [0, 0, 1, 0, 1, 0, 0]


def test_a_roofline_has_a_panel_a_phase() -> None:
    phases = pd.concat([POINTS.assign(phase="prefill"), POINTS.assign(phase="decode")])
    figure = plots.roofline(phases, [("bf16", 1e15), ("fp8", 2e15)], 1e12)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["prefill", "decode"]


def test_roofline_marks_lie_where_flop_and_byte_say_and_the_rest_is_counted() -> None:
    figure = plots.roofline(POINTS, [("bf16", 1e15)], 1e12)
    axis = figure.axes[0]
    offsets = np.concatenate([item.get_offsets() for item in axis.collections if len(item.get_offsets())])
    assert np.allclose(offsets, [[1000, 5e14], [1, 1e12]])  # FLOP a byte, FLOP a second
    texts = " ".join(text.get_text() for text in axis.texts)
    assert "not shown: 25% of the time" in texts  # the all-reduce
    assert "bf16: 1,000 TFLOP/s" in texts
    assert "mlp 50%" in texts
    assert "byte" in axis.get_xlabel()
    roof = axis.lines[0]
    assert roof.get_ydata().max() == 1e15
    assert (roof.get_ydata() <= roof.get_xdata() * 1e12 * (1 + 1e-9)).all()


@pytest.mark.parametrize("form", ["png", "svg"])
def test_pictures_are_the_same_bytes_twice(form) -> None:
    about = tiny_run().about
    first, second = (figure_bytes(plots.latency_cdf(tiny_run()), about, form) for _ in range(2))
    assert first == second
    assert b"config_hash" in first
    if form == "png":
        import matplotlib.image

        assert matplotlib.image.imread(io.BytesIO(first)).shape[2] == 4
