"""`validate serving` and `validate points` on files that nobody has seen: shuffled, reduced, partly unknown."""

import json
import pathlib

import pandas as pd
import pytest

from kernels.errors import InputError
from sim.cli import main
from sim.validate._published_names import known_model
from sim.validate.points import read as read_points
from sim.validate.points import validate_points
from sim.validate.serving import overloaded, read, scenario_of, validate_serving
from tests.shared_data import folder

STAGE = {
    "run": "a", "gpu": "h100_sxm", "model": "meta-llama/Llama-2-7b-hf", "tp": 1, "max_num_seqs": 16,
    "max_num_batched_tokens": 512, "max_model_len": 2048, "stage": 0, "request_per_s": 2.0, "duration_s": 4.0,
    "num_system_prompt": 2, "num_user_per_system_prompt": 2, "system_prompt_len": 32, "question_len": 100,
    "output_len": 20, "completed": 8, "failed": 0, "request_throughput_per_s": 1.9, "ttft_mean_s": 0.03,
    "e2e_mean_s": 0.25,
}  # fmt: skip
UNKNOWN = STAGE | {"run": "b", "model": "acme/unheard-of-9b"}
LATE = STAGE | {"run": "c", "completed": 4, "failed": 4, "request_throughput_per_s": 1.0}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Columns in another order, stages out of order, a model that nobody knows, a run that was overloaded."""
    frame = pd.DataFrame(
        [UNKNOWN, STAGE | {"stage": 1, "request_per_s": 4.0, "request_throughput_per_s": 3.8}, LATE, STAGE]
    )
    path = tmp_path_factory.mktemp("serving") / "elsewhere.csv"
    frame[sorted(frame.columns, reverse=True)].to_csv(path, index=False)
    return path


def test_a_row_that_cannot_run_counts_against_coverage_and_says_why(file: pathlib.Path, tmp_path: pathlib.Path) -> None:
    rows, reasons = validate_serving(file)
    total = next(r for r in rows if r["kernel"] == "all" and r["kind"] == "ttft" and r["size_class"] == "served")
    assert total["n"] == 2  # the two stages of run a
    assert total["coverage"] == pytest.approx(2 / 3)  # and the stage of the unknown model
    unknown, overload = reasons
    assert ("unheard-of-9b" in unknown, "overloaded" in overload) == (True, True)
    assert list(reasons.values()) == [1, 1]
    whole = next(r for r in rows if r["kind"] == "ttft" and r["format"] == r["system"] == r["size_class"] == "all")
    assert (whole["n"], whole["coverage"]) == (2, 0.5)
    late = [r for r in rows if r["size_class"] == "overloaded" and r["kernel"] == "c"]
    assert [r["kind"] for r in late] == ["throughput"]  # of an overloaded stage only that means something


def test_the_command_prints_and_writes_the_shape_of_every_verb(
    file: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.json"
    assert main(["validate", "serving", str(file), "--json", str(out)]) == 0
    assert "not simulated: 1 rows" in capsys.readouterr().out
    rows = json.loads(out.read_text())["rows"]
    names = {"kind", "format", "kernel", "system", "size_class", "n", "coverage", "mape", "median", "p90", "bias"}
    assert names <= set(rows[0])
    assert all(0 <= row["coverage"] <= 1 for row in rows)


def test_overloaded_is_what_failed_or_fell_behind(file: pathlib.Path) -> None:
    frame = read(file)
    assert frame[overloaded(frame)]["run"].tolist() == ["c"]  # half of its requests failed
    behind = frame.assign(failed=0, request_throughput_per_s=0.8 * frame["request_per_s"])  # below nine tenths
    assert overloaded(behind).all()


def test_stages_of_a_run_are_one_load_in_order(file: pathlib.Path) -> None:
    frame = read(file)
    scenario = scenario_of(frame[frame["run"] == "a"], "none")
    assert "stages=2:4+4:4," in scenario.requests
    assert (scenario.model, scenario.tp, scenario.timeout_s) == ("llama-2-7b", 1, 300.0)


def test_columns_go_by_other_names(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.csv"
    names = {"gpu": "Hardware", "tp": "tensor_parallel", "request_per_s": "rps", "model": "Model"}
    pd.DataFrame([STAGE]).rename(columns=names).to_csv(path, index=False)
    frame = read(path)
    assert frame[list(names)].iloc[0].tolist() == [STAGE[name] for name in names]


def test_a_run_of_one_question_a_system_prompt_asks_new_ones(file: pathlib.Path) -> None:
    frame = read(file)
    few = frame[frame["run"] == "a"]
    assert "num_user_per_system_prompt=2" in scenario_of(few, "none").requests
    assert "num_user_per_system_prompt" not in scenario_of(few.assign(num_user_per_system_prompt=1), "none").requests


def test_a_missing_column_is_named(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.csv"
    pd.DataFrame([STAGE]).drop(columns="output_len").to_csv(path, index=False)
    with pytest.raises(InputError, match="output_len"):
        read(path)


@pytest.mark.parametrize(
    ("published", "ours"),
    [
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama-3-8b"),
        ("meta-llama/Llama-3.1-405B-Instruct-FP8", "llama-3.1-405b"),
        ("deepseek-ai/DeepSeek-V3-0324", "deepseek-v3"),
        ("meta-llama/Llama-4-Maverick-17B-128E-Instruct", "llama-4-maverick"),
        ("google/gemma-3-27b-it", "gemma-3-27b"),
        ("bigscience/bloom", "bloom-176b"),
        ("microsoft/Phi-3-mini-4k-instruct", "phi-3-mini"),
        ("openai-community/gpt2-xl", "gpt2-xl"),
        ("LLAMA3.1_8b", "llama-3.1-8b"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama-3.1-70b"),  # the same shapes, trained on
        ("MOE_Mixtral8x7B", "mixtral-8x7b"),
        ("meta-llama/Llama-2-34b-hf", "meta-llama/Llama-2-34b-hf"),  # there is no such size, and no nearest is taken
    ],
)
def test_published_names_are_known(published: str, ours: str) -> None:
    assert known_model(published) == ours


POINT = {"Model_ID": "meta-llama/Llama-2-7b-hf", "GPU": "h100_sxm", "TP_size": 1, "ISL": 64, "OSL": 8,
         "max_concurrency": 4, "mean_ttft_ms": 20.0, "mean_tpot_ms": 8.0}  # fmt: skip


def test_points_go_by_any_of_their_names_in_seconds(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "points.csv"
    pd.DataFrame([POINT]).to_csv(path, index=False)
    row = read_points(path).iloc[0]
    assert (row["input_len"], row["concurrency"], row["ttft_s"], row["tpot_s"]) == (64, 4, 0.02, 0.008)


def test_points_that_cannot_run_count_against_coverage(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "points.csv"
    too_big = POINT | {"Model_ID": "meta-llama/Llama-2-70b-hf"}  # 138 GB of weights on one device of 80
    too_long = POINT | {"ISL": 5000}  # of 4,096 tokens of context
    pd.DataFrame([too_big, POINT, too_long]).to_csv(path, index=False)
    rows, reasons = validate_points(path)
    total = {row["kind"]: row for row in rows if row["kernel"] == "all"}
    assert total["tpot"]["n"] == 1
    assert total["tpot"]["coverage"] == pytest.approx(1 / 3)
    first, second = reasons
    assert "does not fit" in first
    assert "longer than the context" in second


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ttft_mean_s": 3e-5, "e2e_mean_s": 2.5e-4}, r"x\.csv:2: .*_mean_s = .*beats the speed of light"),  # ks
        ({"ttft_mean_s": 30.0, "e2e_mean_s": 250.0}, r"x\.csv:2: e2e_mean_s = 250\.0: 100 times slower"),  # ms
        ({"ttft_mean_s": 0.3}, r"x\.csv:2: ttft_mean_s = 0\.3: the first token comes after the end"),
        ({"num_system_prompt": "few"}, r"x\.csv:2: num_system_prompt"),
        ({"failed": "none"}, r"x\.csv:2: failed"),
        ({"stage": "last"}, r"x\.csv:2: stage"),
    ],
)
def test_load_tests_that_cannot_be_are_counted_and_refused_with_the_row_where_there_is_no_other(
    tmp_path: pathlib.Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "x.csv"
    pd.DataFrame([STAGE, STAGE | {"run": "d"} | change]).to_csv(path, index=False)
    rows, reasons = validate_serving(path)
    total = {row["kind"]: row for row in rows if row["format"] == row["system"] == "all"}
    assert (total["e2e"]["n"], total["e2e"]["coverage"]) == (1, 0.5)
    assert sum(reasons.values()) == 1
    pd.DataFrame([STAGE | {"run": "d"} | change]).to_csv(path, index=False)
    with pytest.raises(InputError, match=message):
        validate_serving(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean_ttft_ms": 0.02}, r"x\.csv:2: ttft_s = 2e-05: beats the speed of light"),  # seconds, said to be ms
        ({"mean_tpot_ms": 0.008}, r"x\.csv:2: tpot_s = 8e-06: beats the speed of light"),
        ({"mean_tpot_ms": 8000.0}, r"x\.csv:2: tpot_s = 8\.0: 100 times slower"),  # microseconds
        ({"ISL": 64.5}, r"x\.csv:2: isl = 64\.5: not a measurement"),
    ],
)
def test_points_that_cannot_be_are_counted_and_refused_with_the_row_where_there_is_no_other(
    tmp_path: pathlib.Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "x.csv"
    pd.DataFrame([POINT, POINT | change]).to_csv(path, index=False)
    rows, reasons = validate_points(path)
    assert (rows[0]["n"], rows[0]["coverage"], sum(reasons.values())) == (1, 0.5, 1)
    pd.DataFrame([POINT | change]).to_csv(path, index=False)
    with pytest.raises(InputError, match=message):
        validate_points(path)


def test_points_have_rows_by_format_and_users(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.csv"
    pd.DataFrame([POINT | {"precision": name, "max_concurrency": n} for name, n in (("bf16", 1), ("fp8", 4))]).to_csv(
        path, index=False
    )
    rows, _ = validate_points(path)
    found = [(row["format"], row["size_class"], row["n"]) for row in rows if row["kind"] == "tpot"]
    assert found == [
        ("all", "all", 2), ("all", "all", 2), ("bf16", "all", 1), ("fp8", "all", 1), ("all", "one_user", 1),
        ("all", "up_to_16_users", 1), ("all", "steady", 2),
    ]  # fmt: skip


def test_shipped_engine_profile_still_has_the_errors_it_states() -> None:
    from sim.reference.engine_fit import cases, errors, mean_error
    from sim.serving.engine_profile import load

    profile = load("vllm_0.15")
    assert profile.fit is not None
    some = cases(folder("serving", "vllm_h100_measured.csv"), "vllm_0.15", run=("llama-2-7b-tp1-codegen",))
    found = mean_error(errors(some, profile))
    # one model of four: within three times the mean over all
    assert found["e2e"] <= 3 * profile.fit.error["e2e"]
    assert found["tpot"] <= 3 * profile.fit.error["tpot"]


@pytest.mark.parametrize("run", ["llama-2-70b-tp4-codegen", "mixtral-8x7b-tp2-codegen"])
def test_the_short_span_of_a_fit_sees_what_the_whole_load_does(run: str) -> None:
    """Requests whose load goes on after them, experts as uneven as the engine's profile has them."""
    from sim.reference.engine_fit import cases, simulated
    from sim.serving.engine_profile import load
    from sim.validate.serving import simulate_run

    file = folder("serving", "vllm_h100_measured.csv")
    frame = read(file)
    stages = frame[frame["run"] == run].assign(duration_s=120.0)
    whole = simulate_run(stages, "vllm_0.15").sort_values("stage")
    for case, (_, stage) in zip(cases(file, "vllm_0.15", run=(run,)), whole.iterrows(), strict=True):
        for ours, name in zip(simulated(case, load("vllm_0.15"))[1:], ("e2e", "tpot"), strict=True):
            assert ours == pytest.approx(stage[f"simulated_{name}_mean_s"], rel=0.012)
