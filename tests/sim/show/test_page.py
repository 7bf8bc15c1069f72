"""Pages: well formed, self-contained, escaped, the same bytes twice, and the numbers of the frames."""

import dataclasses
import html.parser
import math
import pathlib
import re
import shutil
import subprocess
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kernels.errors import InputError
from sim.cli import main
from sim.recommend.recommend import recommend
from sim.record.columns import Columns
from sim.record.metrics import measure
from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from sim.show.page import run_page
from sim.show.page.charts import Axis, bars
from sim.show.page.page import page_bytes, table
from sim.show.page.points_page import recommend_page, sweep_page
from sim.show.page.roofline_page import roofline_section
from sim.show.points import DEVICE, USER, front, with_rates
from sim.sweep.axes import parse_axes
from sim.sweep.sweep import Swept
from tests.sim.tiny_run import tiny_run

VOID = {"meta"}
HOSTILE = "</title><script>alert(1)</script>\"'& <img src=x onerror=alert(1)>"


class Balanced(html.parser.HTMLParser):
    """Every tag is closed by its own; what is loaded from elsewhere, and how many scripts there are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.loads += [name for name, _ in attrs if name in ("src", "href", "xlink:href") or name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def tiny_page(title: str = "tiny", about: dict[str, Any] | None = None) -> str:
    run = tiny_run()
    run = dataclasses.replace(run, about=dict(run.about) | (about or {}))
    return run_page.records_page(title, run, measure(run))


def swept(name: str = "a") -> Swept:
    """Three served points and one that is refused."""
    rates, tpots, outs = (1, 2, 3), (5.0, 8.0, 20.0), (100.0, 240.0, 230.0)
    rows: list[dict[str, Any]] = [
        {"seed": rate, "key": "k", "status": "served", "why": "", "num_device": 2, "mean_tpot_ms": tpot,
         "output_throughput": out,
         "p99_ttft_ms": 10.0 * rate, "p99_tpot_ms": tpot, "usd_per_million_output_token": 1e3 / out,
         "energy_j_per_million_output_token": 1e6 / out}
        for rate, tpot, out in zip(rates, tpots, outs, strict=True)
    ]  # fmt: skip
    rows.append({"seed": 4, "key": "k", "status": "refused", "why": f"does not fit {name}"})
    return Swept(rows, tuple(parse_axes({"seed": [1, 2, 3, 4]})), Scenario(tp=2), True)


@pytest.mark.parametrize("make", [tiny_page, lambda: sweep_page(swept())])
def test_a_page_is_well_formed_alone_and_the_same_twice(make: Any) -> None:
    text = make()
    found = Balanced(text)
    assert found.loads == []
    assert "://" not in text
    assert not re.search(r"url\(|@import|fetch\(|XMLHttp", text)
    assert found.tags.count("script") == 1
    assert found.tags.count("svg") >= 5
    assert text.count("viewBox") == found.tags.count("svg")
    assert '<meta name="viewport"' in text
    assert "prefers-color-scheme:dark" in text
    assert page_bytes(text) == page_bytes(make())


def test_what_users_wrote_is_text() -> None:
    about = {"note": [HOSTILE], "config": {"model": HOSTILE, HOSTILE: 1}, "calibration": HOSTILE}
    chart = bars(HOSTILE, HOSTILE, {HOSTILE: {HOSTILE: 1.0}})
    for text in (tiny_page(HOSTILE, about), sweep_page(swept(HOSTILE)), chart, table({HOSTILE: [HOSTILE]})):
        found = Balanced(text)
        assert found.tags.count("script") <= 1
        assert "img" not in found.tags
        assert found.loads == []
    assert page_bytes("\ud800") == b"\\ud800"


def test_numbers_of_the_page_are_those_of_the_frames() -> None:
    run = tiny_run()
    metrics = measure(run)
    text = tiny_page()
    for name, value in metrics.items():
        if isinstance(value, int | float) and math.isfinite(value):
            assert f'<td>{name}</td><td class=n data-v="{value!r}">' in text, name
    for row in run.operators.to_dict("records"):  # type: ignore[union-attr]
        assert f'data-v="{row["time_s"]!r}"' in text
    assert "P50 2000 ms, P99 2980 ms, 3 requests" in text  # TTFT of 1, 3 and 2 s
    assert "attn_decode, memory: 3 s" in text
    assert "request 0, decode: 2 to 4 s" in text
    assert "request 3" not in text  # refused


def test_utilisation_is_the_time_that_steps_cover() -> None:
    steps = tiny_run().step
    assert steps is not None
    edges = np.arange(9.0)
    own = steps.rows(steps["replica"] == 0)  # 1 to 2, 2 to 4, 4 to 5
    assert run_page.mean_in_steps(own, np.ones(3), edges).tolist() == [0, 1, 1, 1, 1, 0, 0, 0]
    lanes = Columns({"start_s": np.array([0.5, 1.0, 1.0]), "end_s": np.array([2.0, 1.5, 3.0])})  # that overlap
    assert run_page.mean_in_steps(lanes, np.ones(3), np.arange(5.0)).tolist() == [0.5, 1, 1, 0]


def test_means_over_time_are_those_by_hand() -> None:
    run = tiny_run()
    assert run.step is not None
    own = run.step.rows(run.step["replica"] == 0)
    held = run_page.mean_in_steps(own, own["used_block"].astype(np.float64), np.array([0.0, 2.0, 5.0]))
    assert held == pytest.approx([0.5, 4 / 3])  # a block for 1 s of 2; one for 2 s and two for 1 s of 3
    arrived = run_page.mean_passed(np.array([1.0, 2.5, np.nan]), np.array([0.0, 2.0, 4.0]))
    assert arrived == pytest.approx([0.5, 1.75])


def test_what_is_not_drawn_is_said() -> None:
    request = tiny_run().requests
    many = Columns.of(pd.concat([request.iloc[[0]]] * 250, ignore_index=True))
    chart = run_page.timeline(many)
    assert "the first 200 of the 250 requests that got a token" in chart
    assert chart.count("<rect") == 200 * 2  # no time in the queue
    bare = dataclasses.replace(tiny_run(), step=None)
    assert "Steps were not recorded" in run_page.records_page("bare", bare, measure(bare))


def test_axes_begin_at_zero_and_ticks_are_round() -> None:
    assert Axis("s", 0.7).ticks() == pytest.approx([0.0, 0.2, 0.4, 0.6])
    assert Axis("x", 100.0).share(25.0) == 0.25
    assert Axis("x", 1e4, 1.0, True).share(100.0) == 0.5


def test_rates_fronts_and_concurrency_of_a_sweep() -> None:
    row = with_rates({"mean_tpot_ms": 8.0, "output_throughput": 240.0, "num_device": 2})
    assert (row[USER], row[DEVICE]) == (125.0, 120.0)
    assert row["concurrency"] == pytest.approx(1.92)  # 240 tokens/s, each 8 ms under way
    rows = [with_rates(one) for one in swept().rows[:3]]
    assert [one["seed"] for one in front(rows, USER, DEVICE)] == [1, 2]  # 3 is slower and gives less
    text = sweep_page(swept())
    assert "seed=2: 125 tokens/s a user, 120 tokens/s a GPU" in text
    assert ">1.92</text>" in text
    assert "does not fit a" in text


def test_points_lie_under_their_roof() -> None:
    points = pd.DataFrame({
        "phase": ["decode"] * 2, "operator": ["mlp", "norm"], "kind": ["gemm", "norm"], "format": ["bf16"] * 2,
        "flop": [1e12, 0.0], "mem_byte": [1e10, 1e9], "op_per_byte": [100.0, 0.0], "time_s": [0.003, 0.001],
        "share": [0.75, 0.25], "flop_per_s": [1e12 / 0.003, 0.0],
    })  # fmt: skip
    roofs = pd.DataFrame({"format": ["bf16"], "peak_flop_per_s": [1e15], "mem_byte_per_s": [4e12],
                          "ridge_op_per_byte": [250.0]})  # fmt: skip
    text = roofline_section(points, roofs)
    Balanced(text)
    assert "bf16: 1,000 TFLOP/s, 4,000 GB/s" in text
    assert "mlp: 100 FLOP/byte, 3.333e+14 FLOP/s, 75.0%" in text
    assert "not shown: 25% of it" in text
    x, y = map(float, re.findall(r'<circle[^>]*cx="([\d.]+)" cy="([\d.]+)"', text)[0])
    roof = re.findall(r'class="roof"[^>]*d="M([^"]+)"', text)[0]
    xs, ys = np.array([[float(place) for place in pair.split(",")] for pair in roof.split("L")]).T
    assert y > np.interp(x, xs, ys)  # below: the drawing's y falls


def test_there_is_no_page_of_nothing() -> None:
    nothing = dataclasses.replace(swept(), rows=[swept().rows[3]])
    with pytest.raises(InputError, match="no request was served"):
        sweep_page(nothing)


def test_a_run_writes_its_page_and_none_where_nothing_was_served(tmp_path: pathlib.Path) -> None:
    words = ["simulate", "--quiet", "--model", "gpt2", "--fidelity", "sol", "--system", "h100_sxm"]
    one, other, none = (tmp_path / f"{name}.html" for name in ("one", "other", "none"))
    load = "poisson:rate=9,n=9,prompt=64,output=4"
    for path in (one, other):
        assert main([*words, "--requests", load, "--html", str(path)]) == 0
    assert one.read_bytes() == other.read_bytes()
    text = one.read_text()
    found = Balanced(text)
    assert found.tags.count("svg") >= 12
    assert {"Roofline", "Utilisation", "KV memory"} <= set(re.findall(r">([\w ]+)<", text))
    assert main([*words, "--requests", "batch:n=3,prompt=5000,output=5", "--html", str(none)]) == 3
    assert not none.exists()
    refused = Scenario(model="gpt2", system="h100_sxm", fidelity="sol", requests="batch:n=3,prompt=5000,output=5")
    empty = simulate(refused)
    with pytest.raises(InputError, match="no request was served"):
        empty.page()


def test_a_recommendation_is_a_page() -> None:
    base = Scenario(model="gpt2", system="h100_sxm", fidelity="sol", requests="poisson:rate=9,n=9,prompt=64,output=4")
    found = recommend(base, 1.0, 1.0, max_devices=1, tp=[1], pools=["mixed"], over={"token_budget": [0, 256]})
    text = found.page()
    Balanced(text)
    assert recommend_page(found) == text
    best = found.rows[0]
    rows = [row for row in found.rows if row[USER]]
    assert [row["rank"] for row in front(rows, USER, DEVICE)] == found.frontier["rank"].tolist()
    assert f'data-v="{best["token_per_s_per_user"]!r}"' in text
    assert "tokens/s a user" in text


@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium")
def test_a_browser_draws_it_and_sorts(tmp_path: pathlib.Path) -> None:
    """Headless: a click on a head sorts its column by number, missing ones last, and nothing is an error."""
    click = ('document.querySelectorAll("th button").forEach(b=>{if(b.textContent==="output_throughput"){b.click();'
             'b.click()}});</script></body>')  # fmt: skip
    path = tmp_path / "page.html"
    path.write_bytes(page_bytes(sweep_page(swept()).replace("</script></body>", click)))
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
         "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 'aria-sort="descending"' in done.stdout
    first = [row.split("</td>")[0] for row in done.stdout.split("<tbody>")[1].split("<tr>")[1:]]
    assert [re.sub("<[^>]*>", "", cell).strip() for cell in first] == ["seed=2", "seed=3", "seed=1", "seed=4"]
