"""A run in which nothing happened says so and leaves with exit code 3; a result shows itself in a few words."""

import json
import pathlib

import pytest

from kernels.errors import NothingServedError
from sim.cli import main
from sim.run.capacity import capacity
from sim.run.scenario import Scenario
from sim.run.simulate import Simulation, simulate

WORDS = ["--model", "gpt2", "--system", "a100_sxm", "--fidelity", "sol"]  # GPT-2 reads 1,024 tokens
LONG = "batch:n=3,prompt=2000,output=5"


@pytest.fixture(scope="module")
def done() -> Simulation:
    return simulate(
        Scenario(model="gpt2", system="a100_sxm", fidelity="sol", requests="batch:n=300,prompt=64,output=4")
    )


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--requests", LONG], "3 requests were refused: longer than the context."),
        (["--requests", "batch:n=3,prompt=64,output=5", "--timeout-s", "1e-9"], "the client gave up"),
    ],
)
def test_a_run_that_serves_nothing_leaves_its_files_and_exit_code_3(
    more: list[str], why: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, file = tmp_path / "out", tmp_path / "a.json"
    assert main(["simulate", *WORDS, *more, "--out", str(out), "--json", str(file)]) == 3
    shown = capsys.readouterr()
    assert "No request was served (of 3)" in shown.out
    assert why in " ".join(shown.out.split())
    assert shown.err == "ridgeline: No request was served (of 3)\n"
    assert "nan" not in shown.out
    assert {"metrics.json", "requests.csv", "steps.csv", "timeline.json"} <= {path.name for path in out.iterdir()}
    found = json.loads(file.read_text())
    assert (found["completed"], found["failed"], found["mean_ttft_ms"]) == (0, 3, None)


def test_an_empty_trace_is_said_in_one_line(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.csv"
    path.write_text("arrival_s,prompt_token,output_token\n")
    for words in (["simulate", *WORDS, "--requests", str(path)], ["traces", str(path)]):
        assert main(words) == 3
        assert capsys.readouterr().err == f"ridgeline: {path}: no rows\n"


def test_no_rate_serves_what_no_rate_can_serve(capsys: pytest.CaptureFixture[str]) -> None:
    scenario = Scenario(
        model="gpt2", system="a100_sxm", fidelity="sol", requests="poisson:rate=1,n=3,prompt=2000,output=5"
    )
    with pytest.raises(NothingServedError, match="longer than the context"):
        capacity(scenario)
    assert main(["capacity", *WORDS, "--requests", scenario.requests]) == 3


def test_a_comparison_names_who_served_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "--model", "gpt2", "--fidelity", "sol", "--systems", "a100_sxm,h100_sxm", "--requests", LONG]
    assert main(words) == 3
    assert capsys.readouterr().err == "ridgeline: no request was served: a100_sxm, h100_sxm\n"


def test_results_show_themselves_in_a_few_words(done: Simulation) -> None:
    for result, words in (
        (done, ("gpt2 on 1 a100_sxm_80gb", "300 of 300 requests served", "TTFT", "sol")),
        (done.run, ("300 requests", "steps", "config")),
        (done.setup, ("Setup of Scenario(model='gpt2'",)),
        (done.run.request, ("300 rows of request, status",)),
    ):
        assert len(repr(result)) < 400
        assert all(word in repr(result) for word in words)


def test_notebooks_show_a_table(done: Simulation) -> None:
    shown = done._repr_html_()
    assert shown.startswith("<table>")
    assert shown.endswith("</table>")
    assert "gpt2 on 1 a100_sxm_80gb" in shown
    assert "TTFT, P99 (ms)" in shown
    assert len(shown) < 4000
    empty = simulate(Scenario(model="gpt2", system="a100_sxm", fidelity="sol", requests=LONG))
    assert "No request was served (of 3)" in empty._repr_html_()
    assert "no request was served (of 3)" in repr(empty)
