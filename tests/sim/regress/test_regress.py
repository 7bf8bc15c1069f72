"""A planted slowdown is caught and named, a planted decision too; a clean tree is quiet."""

import dataclasses
import functools
import json
import pathlib
from xml.etree import ElementTree as Xml

import pytest

from kernels.errors import InputError
from kernels.formats import FORMAT_CODE
from kernels.optable import KIND_CODE
from kernels.stream import MEM_EFF
from sim import cli
from sim.regress import baseline, report
from sim.regress.judge import Threshold, judge
from sim.regress.measure import measure
from sim.regress.run import record, regress
from sim.run.scenario import Scenario
from sim.run.simulate import policy_of, prepared, simulate

LOAD = "poisson:rate=20,n=12,prompt=200,output=8"
PLAIN = Scenario(requests=LOAD)


@pytest.fixture
def recorded(tmp_path: pathlib.Path) -> pathlib.Path:
    file = tmp_path / "baseline.json"
    baseline.write(file, record({"plain": PLAIN, "two": Scenario(requests=LOAD, tp=2)}))
    return file


def planted(file: pathlib.Path, change: object) -> None:
    """Another machine's or an older release's baseline: `change(entry)` of each of its entries."""
    content = json.loads(file.read_text())
    for entry in content["entry"]:
        change(entry)  # type: ignore[operator]
    file.write_text(json.dumps(content))


def test_a_clean_tree_is_quiet_over_ten_runs(recorded: pathlib.Path) -> None:
    for _ in range(10):
        assert all(one.holds for one in regress(recorded))


def test_a_slower_operator_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three per cent less of the memory's bandwidth in one kernel, planted where kernels get their constants."""
    scenario = Scenario(requests="poisson:rate=20,n=6,prompt=2000,output=4")
    base = measure("a", scenario)
    assert base is not None
    plain = prepared(scenario, policy_of(scenario)).machine
    fit = plain.fit.copy()
    fit[KIND_CODE["act"], FORMAT_CODE["bf16"], MEM_EFF] /= 1.03
    slower = functools.partial(simulate, machine=plain._replace(fit=fit))
    monkeypatch.setattr("sim.regress.measure.simulate", slower)
    now = measure("a", scenario, base.probe)
    assert now is not None
    found = judge(base, now, Threshold())
    assert not found.holds
    named = [cause for cause in found.causes if cause.startswith("operator")]
    assert len(named) == 1
    assert named[0].startswith("operator mlp_act (act): ")
    assert "(+2.9" in named[0] or "(+3.0" in named[0]  # 3 %, but for the constant part of a launch


def test_a_price_that_moved_is_named_and_ranked_by_what_it_moved(recorded: pathlib.Path) -> None:
    def change(entry: dict[str, object]) -> None:
        for row in entry["price"]:  # type: ignore[attr-defined]
            if row["operator"] in ("mlp_down", "embed"):
                row["time_ps"] = round(row["time_ps"] / 1.03)
        entry["metric"]["mean_tpot_ms"] /= 1.005  # type: ignore[index]

    planted(recorded, change)
    for one in regress(recorded):
        assert [name for name, _, _ in one.moved] == ["mean_tpot_ms"]
        assert [cause.split()[1] for cause in one.causes] == ["mlp_down", "embed"]
        assert all("+3.0" in cause for cause in one.causes)


def test_thresholds_let_pass_what_they_say() -> None:
    near = Threshold(relative=0.01, absolute=0.5)
    assert near.holds("mean_ttft_ms", 100.0, 101.0)
    assert not near.holds("mean_ttft_ms", 100.0, 101.001)
    assert near.holds("mean_ttft_ms", 1.0, 1.5)  # the larger of both
    assert not near.holds("mean_ttft_ms", 1.0, 1.51)
    assert not near.holds("mean_ttft_ms", 1.0, None)
    better = Threshold(worse_only=True)
    assert better.holds("output_throughput", 10.0, 11.0)
    assert not better.holds("output_throughput", 10.0, 9.0)
    for name in ("relative", "absolute"):
        for value in (-1.0, float("nan"), float("inf")):
            with pytest.raises(InputError, match=name):
                Threshold(**{name: value})


def test_a_result_that_the_baseline_does_not_know_is_new_and_has_not_moved(
    recorded: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A release that counts more leaves users' baselines alone; one that no longer gives a result moves them."""

    def older(entry: dict[str, object]) -> None:
        del entry["metric"]["median_tpot_ms"], entry["decision"]["num_step"]  # type: ignore[attr-defined]

    out = {name: str(recorded.parent / f"out.{name}") for name in ("json", "markdown", "junit")}
    words = ["regress", "--baseline", str(recorded), *(part for name in out for part in (f"--{name}", out[name]))]
    planted(recorded, older)
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert said.count("new since it was recorded, and not compared: median_tpot_ms") == 2
    assert [(row["entry"], row["metric"]) for row in json.loads(pathlib.Path(out["json"]).read_text())["new"]] == [
        ("plain", "median_tpot_ms"), ("two", "median_tpot_ms"),
    ]  # fmt: skip
    case = Xml.parse(out["junit"]).getroot().find("testsuite/testcase")
    assert case is not None
    assert case.find("failure") is None
    assert "median_tpot_ms" in (case.findtext("system-out") or "")
    assert "- two: new since it was recorded" in pathlib.Path(out["markdown"]).read_text()

    def known(entry: dict[str, object]) -> None:
        entry["metric"]["mean_of_old_ms"] = 3.0  # type: ignore[index]

    planted(recorded, known)
    assert cli.main(words) == 1
    assert all([name for name, _, _ in one.moved] == ["mean_of_old_ms"] for one in regress(recorded))


def test_another_decision_is_named_with_its_first_step() -> None:
    """A smaller budget of tokens cuts prompts: no price moves, and the first step that differs is said."""
    base = measure("a", PLAIN)
    now = measure("a", dataclasses.replace(PLAIN, token_budget=128), base.probe if base else ())
    assert base is not None
    assert now is not None
    found = judge(base, now, Threshold())
    assert not found.holds
    assert not any(cause.startswith("operator") for cause in found.causes)
    assert any("step 0 is the first that differs: prefill_token 200 -> 128" in cause for cause in found.causes)


def test_a_file_that_changed_is_named(tmp_path: pathlib.Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,prompt_token,output_token\n0.0,100,4\n0.1,100,4\n")
    base = measure("a", Scenario(requests=str(trace)))
    trace.write_text("arrival_s,prompt_token,output_token\n0.0,100,4\n0.1,300,4\n")
    assert base is not None
    now = measure("a", Scenario(requests=str(trace)), base.probe)
    assert now is not None
    assert judge(base, now, Threshold()).causes[0] == f"the file {trace} has another content"


def test_exit_codes_and_files(recorded: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = recorded.parent
    out = {name: str(folder / f"out.{name}") for name in ("json", "markdown", "junit")}
    words = ["regress", "--baseline", str(recorded), *(part for name in out for part in (f"--{name}", out[name]))]
    assert cli.main(words) == 0
    assert Xml.parse(out["junit"]).getroot().attrib == {"tests": "2", "failures": "0", "errors": "0"}

    def change(entry: dict[str, object]) -> None:
        entry["metric"]["duration"] /= 1.5  # type: ignore[index]

    planted(recorded, change)
    assert cli.main(words) == 1
    said = json.loads(pathlib.Path(out["json"]).read_text())
    assert said["num_moved"] == said["num_entry"] == 2
    assert {row["metric"] for row in said["rows"]} == {"duration"}
    assert {row["direction"] for row in said["rows"]} == {"worse"}
    cases = Xml.parse(out["junit"]).getroot().findall("testsuite/testcase")
    assert [case.get("name") for case in cases] == ["plain", "two"]
    assert all("duration" in (case.find("failure").get("message") or "") for case in cases)  # type: ignore[union-attr]
    assert "| duration |" in pathlib.Path(out["markdown"]).read_text()
    assert cli.main([*words, "--relative", "0.6"]) == 0  # a half of what is now is +50 % of what was recorded
    assert cli.main([*words, "--only", "two"]) == 1
    capsys.readouterr()
    assert cli.main([*words, "--only", "too"]) == 2
    assert "nearest: two" in capsys.readouterr().err


def test_an_odd_name_stays_xml() -> None:
    base = measure("plain", PLAIN)
    assert base is not None
    odd = base.model_copy(update={"name": 'a\x00<b>&"'})
    other = odd.model_copy(update={"metric": odd.metric | {"duration": 1.0}})
    root = Xml.fromstring(report.junit([judge(odd, other, Threshold())]))
    assert root.find("testsuite/testcase").get("name") == 'a?<b>&"'  # type: ignore[union-attr]


@pytest.mark.parametrize(("content", "named"), [
    ("[]", "is no baseline"),
    ('{"format": "ridgeline-baseline/2"}', "is no baseline"),
    ('{"format": "ridgeline-baseline/1", "versions": {}, "entry": []}', "entry"),
    ('{"format": "ridgeline-baseline/1", "versions": {}, "entry": [{"name": 3}]}', "entry.0"),
])  # fmt: skip
def test_a_file_that_is_no_baseline_is_said(tmp_path: pathlib.Path, content: str, named: str) -> None:
    file = tmp_path / "b.json"
    file.write_text(content)
    with pytest.raises(InputError, match=named):
        baseline.read(file)


def test_recorded_scenarios_have_names_of_their_own() -> None:
    assert baseline.names_of(["a/x.toml", "b/x.toml", "c/y.toml"]) == {
        "a/x": "a/x.toml",
        "b/x": "b/x.toml",
        "y": "c/y.toml",
    }
    with pytest.raises(InputError, match="twice"):
        baseline.names_of(["a/x.toml", "a/x.toml"])


def test_recording_anew_keeps_the_others(recorded: pathlib.Path) -> None:
    before = recorded.read_text()

    def change(entry: dict[str, object]) -> None:
        entry["metric"]["duration"] = 1.0  # type: ignore[index]

    planted(recorded, change)
    assert cli.main(["regress", "--baseline", str(recorded), "--record", "--only", "plain"]) == 0
    plain, two = baseline.read(recorded).entry
    assert two.metric["duration"] == 1.0
    assert plain == baseline.Baseline.model_validate_json(before).entry[0]


def test_a_load_that_serves_nothing_is_not_recorded() -> None:
    with pytest.raises(InputError, match="serves no request"):
        record({"long": Scenario(requests="poisson:rate=1,n=2,prompt=9000,output=10", model="llama-2-7b")})
