"""The whole path on small loads: conservation, the split by operator, determinism, and the files it leaves."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

from hw_models.power import draw, rest_w
from kernels.errors import InputError
from kernels.units import PS_PER_S
from sim.cli import main
from sim.run.results import metrics_file, write_results
from sim.run.scenario import Scenario, from_mapping
from sim.run.setup import prepare
from sim.run.simulate import Simulation, limits_of, simulate, simulate_intervals
from sim.serving.engine_profile import load

BASE = Scenario(
    model="llama-2-7b", system="a100_sxm_80gb", fidelity="sol", policy="sarathi",
    requests="poisson:rate=4,n=60,prompt=lognormal:mean=400:max=1500,output=lognormal:mean=40:max=200",
)  # fmt: skip


@pytest.fixture(scope="module")
def done() -> Simulation:
    return simulate(BASE, record_steps=True)


def test_every_request_ends_and_every_token_is_there(done: Simulation) -> None:
    frame = done.run.requests
    assert (frame["status"] == "finished").all()
    assert (frame["committed_token"] == frame["output_token"]).all()
    assert (frame["arrival_s"] <= frame["scheduled_s"]).all()
    assert (frame["scheduled_s"] < frame["first_token_s"]).all()
    assert (frame["first_token_s"] <= frame["finish_s"]).all()


def test_operators_add_up_to_the_time_in_steps(done: Simulation) -> None:
    operators = done.run.operators
    assert operators is not None
    # integers are summed on both sides; what is left is the rounding of the conversion to seconds
    assert operators["time_s"].sum() == pytest.approx(float(done.result.stage_busy_ps.sum()) / PS_PER_S, rel=1e-12)


def test_step_energies_and_idle_power_add_up(done: Simulation) -> None:
    steps = done.run.steps
    assert steps is not None
    idle_s = done.result.span_ps / PS_PER_S - float(done.result.stage_busy_ps.sum()) / PS_PER_S
    idle_j = idle_s * draw(done.setup.system.device).awake_w
    assert done.run.totals["energy_j"] == pytest.approx(float(steps["energy_j"].sum()) + idle_j, rel=1e-9)


def test_the_wall_supplies_the_devices_and_their_share_of_the_box(done: Simulation) -> None:
    system, mean_w = done.setup.system, done.metrics["mean_power_w"]
    span_s = done.result.span_ps / PS_PER_S
    drawn_w = done.run.totals["energy_j"] / span_s
    assert done.run.totals["rest_j"] / span_s == pytest.approx(rest_w(system, drawn_w, 1))
    assert done.metrics["mean_wall_power_w"] > mean_w


def test_nothing_beats_the_speed_of_light(done: Simulation) -> None:
    # every output token of a sequence needs one read of the weights: 6.74e9 parameters less the embedding's
    # 32000 x 4096, two bytes each, at 2039 GB/s
    light_s = (6_738_415_616 - 32000 * 4096) * 2 / 2.039e12
    assert done.run.requests["tpot_s"].min() >= light_s


def test_the_same_seed_gives_the_same_bytes(done: Simulation, tmp_path: pathlib.Path) -> None:
    again = simulate(BASE, record_steps=True)
    one, two = (write_results(run, tmp_path / name, plots=False) for run, name in ((done, "a"), (again, "b")))
    assert [path.name for path in one] == [path.name for path in two]
    for first, second in zip(one, two, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_another_seed_gives_another_load(done: Simulation) -> None:
    other = simulate(dataclasses.replace(BASE, seed=1))
    assert other.metrics["total_input_tokens"] != done.metrics["total_input_tokens"]


@pytest.mark.parametrize("policy", ["static", "orca", "vllm_v0", "vllm_v1", "sarathi"])
def test_run_ahead_equals_stepping_on_the_whole_path(policy: str) -> None:
    scenario = dataclasses.replace(BASE, policy=policy, requests=BASE.requests.replace("n=60", "n=25"))
    ahead = simulate(scenario).result
    stepping = simulate(dataclasses.replace(scenario, run_ahead=False)).result
    assert (ahead.engine, stepping.engine) == ("run-ahead", "stepping")
    for name, column in ahead.request.items():
        np.testing.assert_array_equal(column, stepping.request[name], name)
    assert ahead.span_ps == stepping.span_ps


def test_replay_on_simpy_engines_gives_the_same_integers() -> None:
    # calibrated constants, host time and captured batch sizes are all in play; pp = 2 overlaps two batches
    small = BASE.requests.replace("n=60", "n=8")
    for change in ({"pp": 2}, {"tp": 2, "weight_format": "w4a16"}):
        scenario = from_mapping(dataclasses.asdict(BASE) | change | {"requests": small, "fidelity": "calibrated"})
        ahead = simulate(scenario).result
        replay = simulate(dataclasses.replace(scenario, fidelity="replay")).result
        assert (ahead.engine, replay.engine) == ("run-ahead", "replay")
        for name, column in ahead.request.items():
            np.testing.assert_array_equal(column, replay.request[name], name)


def test_tensor_parallel_pipeline_and_replicas_serve_the_same_tokens() -> None:
    for change in ({"tp": 2}, {"pp": 2}, {"dp": 2, "router": "least_token"}, {"tp": 2, "sequence_parallel": True}):
        run = simulate(from_mapping(dataclasses.asdict(BASE) | change)).run
        assert int(run.requests["committed_token"].sum()) == int(run.requests["output_token"].sum())


def test_what_does_not_fit_says_so_with_the_budget() -> None:
    # 80 GiB less what driver and ECC keep; 80 layers x 3 x 8192 x 28672 weights of two bytes
    with pytest.raises(InputError, match=r"does not fit: device memory 84\.99.*weights: ffn 112\.74"):
        simulate(dataclasses.replace(BASE, model="llama-2-70b"))


def test_a_prompt_longer_than_the_context_is_refused_with_its_reason() -> None:
    long = dataclasses.replace(BASE, requests="batch:n=3,prompt=5000,output=10")
    frame = simulate(long).run.requests
    assert (frame["status"] == "refused").all()
    assert set(frame["reason"]) == {"longer than the context"}  # Llama 2 reads 4,096 tokens


def test_intervals_hold_the_plain_run() -> None:
    scenario = dataclasses.replace(BASE, fidelity="calibrated", requests=BASE.requests.replace("n=60", "n=20"))
    frame = simulate_intervals(scenario, 8).set_index("metric")
    tpot = frame.loc["mean_tpot_ms"]
    # kernels are off by 5 to 12 % each and partly cancel; the plain run is the median of the draw
    assert tpot["low"] < tpot["plain"] < tpot["high"]
    assert 0.005 < tpot["relative"] < 0.15
    assert frame.loc["total_output_tokens", "relative"] == 0  # what is computed does not depend on how fast
    with pytest.raises(InputError, match="fidelity"):
        simulate_intervals(BASE, 8)


def test_the_json_has_the_names_of_vllms_benchmark(done: Simulation, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "out.json"
    metrics_file(done, path)
    found = json.loads(path.read_text())
    names = {"num_prompts", "completed", "duration", "total_input_tokens", "total_output_tokens", "request_throughput",
             "output_throughput", "total_token_throughput", "mean_ttft_ms", "median_ttft_ms", "p99_ttft_ms",
             "mean_tpot_ms", "p99_tpot_ms", "mean_itl_ms", "mean_e2el_ms", "input_lens", "ttfts"}  # fmt: skip
    assert names <= set(found)
    assert found["ridgeline"]["seed"] == 0
    assert found["ridgeline"]["fidelity"] == "sol"


def test_the_command_line_is_the_same_call(
    done: Simulation, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out.json"
    words = ["simulate", "--model", BASE.model, "--system", BASE.system, "--fidelity", "sol", "--policy", "sarathi",
             "--requests", BASE.requests, "--json", str(path)]  # fmt: skip
    assert main(words) == 0
    assert "Mean TTFT (ms):" in capsys.readouterr().out
    assert json.loads(path.read_text())["mean_ttft_ms"] == done.metrics["mean_ttft_ms"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["simulate", "--model", "lama-2-7b"], "nearest: llama-2-7b"),
        (["simulate", "--system", "h100_sx"], "nearest: h100_sxm"),
        (["simulate", "--policy", "sarati"], "nearest: sarathi"),
        (["simulate", "--requests", "poison:rate=1,n=5"], "nearest: poisson"),
        (["simulate", "--tp", "3", "--model", "llama-2-7b"], "tp = 3"),
        (["simulate", "--frobnicate", "1"], "unrecognized arguments"),
        (["simulate", "--engine", "vlm"], "engine = 'vlm'"),
        (["nonsense"], "invalid choice"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_step_limit_costs_the_same_memory_however_it_is_said() -> None:
    named = simulate(dataclasses.replace(BASE, policy="vllm_v1:max_token=8192,max_seq=64"))
    options = simulate(dataclasses.replace(BASE, policy="vllm_v1", token_budget=8192, max_num_seq=64))
    fewer = simulate(dataclasses.replace(BASE, policy="vllm_v1:max_token=8192", max_num_seq=4))
    assert named.setup.num_block == options.setup.num_block
    assert named.setup.budget.activation == fewer.setup.budget.activation  # the layers', as many tokens
    rows = simulate(dataclasses.replace(BASE, policy="vllm_v1:max_token=64,max_seq=64"))
    none = rows.setup.scenario.fidelity == "sol"  # without an engine logits lie in 2 and 4 bytes
    assert rows.setup.budget.activation == 64 * 32000 * (6.0 if none else 38.5)


def test_swapping_without_memory_names_the_option() -> None:
    with pytest.raises(InputError, match="swap_GiB = 0"):
        simulate(dataclasses.replace(BASE, preemption="swap"))


def test_a_block_of_one_attention_group_swaps_to_its_own_share_of_memory() -> None:
    one = dataclasses.replace(BASE, model="qwen3-30b-a3b", system="dgx_h100", preemption="swap", swap_GiB=8.0)
    blocks = [
        limits_of(prepare(dataclasses.replace(one, attn_dp=groups, ep=groups)), load("none")).host_block
        for groups in (1, 4)
    ]
    assert blocks[0] == blocks[1] > 0


def test_experts_in_a_format_that_the_machine_lacks_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="weight_format = 'mxfp4'"):
        simulate(dataclasses.replace(BASE, model="gpt-oss-20b", system="h100_sxm", weight_format="mxfp4"))


def test_an_eviction_that_lets_the_queue_in_ends_a_repeated_plan() -> None:
    # a unit of 128 tokens is two blocks: evicting one for a decode frees more than the decode asks for, and a
    # prompt admitted by chunks then fits
    lengths = "prompt=lognormal:mean=500:max=1500,output=lognormal:mean=80:max=300"
    shared = "num_system_prompt=3,system_prompt_len=300,num_user_per_system_prompt=2,unit_token=128"
    ahead = dataclasses.replace(
        BASE, fidelity="calibrated", policy="vllm_v1:max_token=256,max_chunk=33", block_token=64, memory_share=0.185,
        requests=f"poisson:rate=10,n=80,{lengths},{shared}",
    )  # fmt: skip
    one, other = (simulate(dataclasses.replace(ahead, run_ahead=run_ahead)).run.requests for run_ahead in (True, False))
    assert one["num_preemption"].sum() > 0
    assert one.equals(other)
