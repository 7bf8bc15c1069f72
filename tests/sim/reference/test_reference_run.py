"""The proof on this CPU: a small model served for real and simulated, the simulator calibrated by `calibrate` alone.

The bounds are what a machine of two cores shared with ten other jobs can hold, not what the simulator aims at: what
neighbours leave of caches and memory changes between the calibration and the run, more than the fit is wrong. On one
core, ahead of other jobs, a calibration of fifteen seconds missed the mean step time by 1 to 5 % at the three loads and
mean latencies by 1 to 9 %. A factor of two is asserted, which units, layers or tokens counted
wrongly would break; the errors themselves are printed (`pytest -s`).
"""

import json
import pathlib

import numpy as np
import pytest

from kernels.engine import records as at
from kernels.engine.arrays import Sizes, world
from kernels.engine.types import engine_of
from kernels.errors import InputError
from sim.cli import main
from sim.reference.reference_run import Comparison, Executor, reference_run
from sim.run.scenario import Scenario

SMALL = {  # 250 MB of weights, as calibration prices those that come from memory
    "model_type": "llama", "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 4,
    "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 8192,
    "max_position_embeddings": 1024, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": False,
}  # fmt: skip
LOADS = {"light": 1.0, "busy": 4.0, "saturated": 500.0}  # requests a second: waits of nobody, some, nearly all
FACTOR = 2.0


class CountingModel:
    """Takes a millisecond a step, and remembers the spans."""

    num_block = 40

    def __init__(self) -> None:
        self.seen: list[list[tuple[int, int, list[int]]]] = []

    def step(self, spans: list[tuple[int, int, list[int]]]) -> tuple[None, float]:
        self.seen.append(spans)
        return None, 1e-3


def arrays(kv: list[int], plan: list[tuple[int, int, int, int]]) -> at.Engine:
    """An engine whose one lane has planned `plan` for sequences that hold `kv` tokens."""
    size = Sizes(max_seq=4, max_token=64, block_token=4)
    made = world(len(kv), 1, size, np.zeros((2, 1), np.int32), np.zeros(1, np.int32))
    made.seq["kv"] = kv
    made.lane[0, 0]["end_ps"] = 2_000_000_000  # priced at two milliseconds
    engine = engine_of(made, 0)
    return with_plan(engine, plan)


def with_plan(engine: at.Engine, plan: list[tuple[int, int, int, int]]) -> at.Engine:
    """The same engine with another plan."""
    engine.lane[0]["num_plan"] = len(plan)
    engine.seq["ahead"] = 0
    for i, _, token, _ in plan:
        engine.seq["ahead"][i] = token
    first = int(engine.me["at_lane"] + engine.me["in_plan"])
    engine.work[first : first + at.ROW * len(plan)] = np.array(plan).ravel()
    return engine


def test_a_plan_becomes_spans_over_blocks_of_their_own() -> None:
    model = CountingModel()
    executor = Executor(model, lambda *span: span, 40, 4, live=True)
    took = executor(arrays([0, 9], [(0, at.PREFILL, 6, 0), (1, at.DECODE, 1, 0)]), 0)
    (prefill, decode) = model.seen[0]
    assert prefill[:2] == (6, 6)
    assert decode[:2] == (1, 10)  # nine keys held and its own
    assert [len(prefill[2]), len(decode[2])] == [2, 3]  # blocks of four tokens
    assert not set(prefill[2]) & set(decode[2])
    assert (took, executor.measured_s, executor.simulated_s) == (1_000_000_000, [1e-3], [2e-3])


def test_blocks_come_back_when_a_sequence_ends_and_run_out_with_a_word() -> None:
    model = CountingModel()
    executor = Executor(model, lambda *span: span, 4, 4, live=False)
    replica = arrays([0, 0], [(0, at.PREFILL, 12, 0)])
    assert executor(replica, 0) == -1  # the clock keeps the price
    replica.seq["status"][0] = at.FINISHED
    executor(with_plan(replica, [(1, at.PREFILL, 16, 0)]), 0)
    assert len(model.seen[-1][0][2]) == 4
    replica.seq["kv"][1] = 16
    with pytest.raises(InputError, match="prefix_cache"):
        executor(with_plan(replica, [(1, at.DECODE, 1, 0)]), 0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with the small model and this machine, calibrated in fifteen seconds."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("proof")
    (folder / "small.json").write_text(json.dumps(SMALL))
    machine = str(folder / "machine.toml")
    command = ["calibrate", "--device", "cpu", "--budget", "15s", "--formats", "fp32", "--out", machine]
    assert main([*command, "--json", str(folder / "errors.json"), "--probes", str(folder / "raw")]) == 0
    return folder


def scenario(place: pathlib.Path, rate: float, **change: object) -> Scenario:
    values = {
        "model": str(place / "small.json"), "system": str(place / "machine.toml"),
        "engine": str(place / "machine.toml"), "weight_format": "fp32", "kv_format": "fp32", "token_budget": 128,
        "max_num_seq": 8, "memory_share": 0.2, "max_model_len": 512,
        "requests": f"poisson:rate={rate},n=12,prompt=uniform:min=30:max=120,output=uniform:min=8:max=24",
    }  # fmt: skip
    return Scenario(**{**values, **change})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def proof(place: pathlib.Path) -> dict[str, Comparison]:
    return {load: reference_run(scenario(place, rate)) for load, rate in LOADS.items()}


def test_calibration_says_how_wrong_it_is(place: pathlib.Path) -> None:
    found = json.loads((place / "errors.json").read_text())
    gemm = next(row for row in found["errors"] if row["kind"] == "gemm")
    print("held-out GEMM error", gemm)
    assert gemm["held_out_n"] >= 3
    assert gemm["held_out_mape"] < 0.6  # see the head of the file
    assert found["engine"]["step_s"] >= 0
    assert (place / "raw" / "gemm.csv").exists()
    assert (place / "raw" / "step.csv").exists()


def test_limits_left_to_the_policy_run(place: pathlib.Path) -> None:
    few = "batch:n=3,prompt=uniform:min=30:max=120,output=4"
    found = reference_run(scenario(place, 1.0, token_budget=0, max_num_seq=0, requests=few))
    # the policy's own limits hold three prompts of 120 tokens at most in one step; three more steps give the answers
    assert len(found.steps) == 4
    assert (found.requests["status"] == "finished").all() if "status" in found.requests else len(found.requests) == 3


@pytest.mark.parametrize("load", LOADS)
def test_simulated_and_real_runs_agree(proof: dict[str, Comparison], load: str) -> None:
    found = proof[load]
    error = found.summary.set_index("metric")["error"]
    print(load, error.round(3).to_dict())
    for name in ("mean_step_s", "mean_ttft_ms", "mean_tpot_ms", "mean_e2el_ms", "output_throughput"):
        assert 1 / FACTOR < 1 + error[name] < FACTOR, name


def test_load_grows_from_light_to_saturated(proof: dict[str, Comparison]) -> None:
    for side in ("simulated", "measured"):
        ttft = [found.summary.set_index("metric")[side]["mean_ttft_ms"] for found in proof.values()]
        assert ttft[2] > 2 * ttft[0]  # eight places for twelve requests at once


def test_every_request_and_every_token_is_served_on_both_sides(proof: dict[str, Comparison]) -> None:
    for found in proof.values():
        for side in (found.simulated, found.measured):
            frame = side.run.requests
            assert (frame["status"] == "finished").all()
            assert (frame["committed_token"] == frame["output_token"]).all()
        assert found.steps["end_s"].to_numpy() == pytest.approx(
            (found.steps["start_s"] + found.steps["measured_s"]).to_numpy(), abs=1e-11
        )  # the clock followed the device, to the picosecond
        assert found.steps["num_sampled"].sum() == found.measured.run.requests["output_token"].sum()


def test_a_replay_keeps_the_simulators_plans(place: pathlib.Path) -> None:
    found = reference_run(scenario(place, 500.0), mode="replay")
    columns = ["start_s", "num_prefill", "num_decode", "prefill_token"]
    assert found.steps[columns].equals(found.simulated.run.steps[columns])  # type: ignore[index]
    assert (found.steps["measured_s"] > 0).all()
    assert np.allclose(found.steps["end_s"] - found.steps["start_s"], found.steps["simulated_s"])


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"pp": 2}, "one device"),
        ({"preemption": "swap", "swap_GiB": 1.0}, "no KV on the host"),
        ({"kv_format": "bf16"}, "format of its weights"),
    ],
)
def test_what_one_device_cannot_run_is_refused(change: dict[str, object], names: str) -> None:
    with pytest.raises(InputError, match=names):
        reference_run(scenario(pathlib.Path("nowhere"), 1.0, **change))


def test_the_command_refuses_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reference", "run", "--mode", "backwards"]) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert "live" in text
