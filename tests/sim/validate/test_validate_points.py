"""`validate points`: the closed loop is steady, and its times are those of closed forms."""

import pathlib

import pandas as pd
import pytest

from kernels.errors import InputError
from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from sim.validate.points import burst_requests, read, scenario_of, simulate_point, steady_requests, validate_points

ROW = {"model": "llama-2-7b", "system": "h100_sxm", "input_len": 900, "output_len": 30, "concurrency": 12}
ENGINE = "vllm_0.15"


def test_a_lone_user_meets_the_times_of_a_lone_request() -> None:
    ttft_s, tpot_s = simulate_point(ROW | {"concurrency": 1}, ENGINE)
    policy = "vllm_v1:max_token=8192,max_seq=256"
    lone = simulate(
        Scenario(model="llama-2-7b", system="h100_sxm", policy=policy, requests="batch:n=1,prompt=900,output=30")
    ).run.requests.iloc[0]
    assert ttft_s == pytest.approx(lone["ttft_s"], rel=1e-9)
    assert tpot_s == pytest.approx(lone["tpot_s"], rel=1e-9)


def test_users_are_throughput_times_latency() -> None:
    steady = steady_requests(ROW, ENGINE)
    arrival = steady["arrival_s"]
    per_s = (len(steady) - 1) / (arrival.iloc[-1] - arrival.iloc[0])
    assert per_s * steady["e2e_s"].mean() == pytest.approx(12, rel=0.03)  # Little's law; 3 rounds have their ends


def test_steady_users_do_not_queue_behind_each_others_prompts() -> None:
    together = simulate(scenario_of(ROW, ENGINE, 6, 0.0)).run.requests.sort_values("arrival_s")
    burst_s = together["ttft_s"].iloc[24:60].mean()  # 12 prompts of 900 tokens at once: two steps of 8,192 at most
    ttft_s, tpot_s = simulate_point(ROW, ENGINE)
    alone_s, bare_s = simulate_point(ROW | {"concurrency": 1}, ENGINE)
    assert alone_s < ttft_s < burst_s
    assert tpot_s > bare_s  # others' prompts come by while one decodes


def test_the_same_point_is_the_same_numbers() -> None:
    assert simulate_point(ROW, ENGINE) == simulate_point(ROW, ENGINE)


def test_attention_groups_that_share_experts_run(tmp_path: pathlib.Path) -> None:
    base = {"Model": "Qwen/Qwen3-30B-A3B", "GPU": "h100_sxm", "ISL": 64, "OSL": 4, "users": 4, "tpot_ms": 9.0}
    rows = [base | {"tp": 1, "dp": 2, "ep": 2}, base | {"tp": 2, "dp": 1, "ep": 2}, base | {"tp": 1, "dp": 2, "ep": 1}]
    path = tmp_path / "points.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    found, reasons = validate_points(path)
    assert not reasons
    assert found[0]["n"] == 3
    scenario = scenario_of(read(path).iloc[0].to_dict(), ENGINE, 2, 0.0)
    assert "max_token=16384" in scenario.policy  # a budget of 8,192 for each of the two groups


def test_attention_groups_may_be_a_switch(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "points.csv"
    base = {"model": "Qwen/Qwen3-30B-A3B", "hw": "h100", "isl": 64, "osl": 4, "conc": 4, "tpot_ms": 9.0}
    pd.DataFrame([base | {"tp": 4, "ep": 4, "dp_attention": on} for on in (True, False)]).to_csv(path, index=False)
    frame = read(path)
    assert frame[["tp", "attn_dp", "ep"]].values.tolist() == [[1, 4, 4], [4, 1, 4]]  # four devices either way
    found, reasons = validate_points(path)
    assert not reasons
    assert found[0]["n"] == 2


def test_formats_left_unsaid_are_the_models_own(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "points.csv"
    pd.DataFrame([ROW | {"ttft_ms": 1.0, "kv_cache_dtype": "auto", "quantization": None}]).to_csv(path, index=False)
    row = read(path).iloc[0]
    assert (row["kv_format"], row["weight_format"]) == ("bf16", "bf16")


def test_a_missing_column_is_named_with_its_names(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "points.csv"
    pd.DataFrame([ROW | {"ttft_ms": 1.0}]).drop(columns="concurrency").to_csv(path, index=False)
    with pytest.raises(InputError, match=r"concurrency.*max_concurrency"):
        read(path)


def test_a_burst_is_all_users_at_once_and_lengths_up_to_the_nominal() -> None:
    burst = burst_requests(ROW | {"request_per_user": 4}, ENGINE)
    assert len(burst) == 48
    assert (burst["arrival_s"] == 0).sum() == 12
    assert burst["prompt_token"].between(720, 900).all()
    assert burst["output_token"].between(24, 30).all()
    assert burst["prompt_token"].mean() == pytest.approx(810, rel=0.05)
    first = burst.sort_values("arrival_s", kind="stable").iloc[:12]
    assert first["ttft_s"].mean() > simulate_point(ROW, ENGINE)[0]  # their prompts queue behind each other


def test_the_protocol_is_the_files_or_told_by_its_engine(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "points.csv"
    base = ROW | {"tpot_ms": 9.0, "concurrency": 2, "output_len": 4}
    pd.DataFrame([base | {"engine": "vllm 0.33.0", "protocol": "steady"}, base | {"engine": "vllm"}, base]).to_csv(path)
    assert read(path)["protocol"].tolist() == ["steady", "burst", "steady"]
    rows, reasons = validate_points(path)
    said = {row["size_class"]: row["n"] for row in rows}
    assert (said["burst"], said["steady"], said["all"], not reasons) == (1, 2, 3, True)
    pd.DataFrame([base | {"protocol": "sometimes"}]).to_csv(path)
    with pytest.raises(InputError, match=r"points\.csv:2: protocol = 'sometimes'"):
        read(path)


def test_engines_run_by_their_own_profiles(tmp_path: pathlib.Path) -> None:
    taken = {name: scenario_of(ROW | {"engine": name}, ENGINE, 1, 0.0) for name in ("sglang", "trtllm 1.2", "vllm")}
    assert [scenario.engine for scenario in taken.values()] == ["sglang", "trtllm", "vllm_0.15"]
    assert [scenario.policy.partition(":")[0] for scenario in taken.values()] == ["sglang", "trtllm", "vllm_v1"]
    path = tmp_path / "points.csv"
    pd.DataFrame([ROW | {"tpot_ms": 9.0, "engine": "lmdeploy"}, ROW | {"tpot_ms": 9.0}]).to_csv(path)
    rows, reasons = validate_points(path)
    assert rows[0]["n"] == 1
    assert sum(reasons.values()) == 1
