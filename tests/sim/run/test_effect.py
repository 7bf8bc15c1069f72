"""Options that would do nothing are refused by the user's own name for them, in every verb; at their default they are
not."""

import dataclasses
import pathlib

import pytest

from hw_models import catalog
from kernels.errors import InputError
from sim.cli import main
from sim.run.scenario import Scenario
from sim.run.simulate import limits_of, simulate
from sim.serving.engine_profile import load

LOAD = "batch:n=4,prompt=64,output=4"
BASE = Scenario(model="gpt2", system="a100_sxm_80gb", fidelity="sol", requests=LOAD)
MOE = Scenario(model="qwen3-30b-a3b", system="h100_sxm", fidelity="sol", requests=LOAD)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expert_skew": 0.5}, "expert_skew = 0.5: has no effect: gpt2 has no experts"),
        ({"eplb": True}, "eplb = True: has no effect: expert load is even already"),
        ({"ends": "token"}, "ends = 'token': has no effect: no step is planned while another runs"),
        ({"front": "offline"}, "front = 'offline': has no effect"),
        ({"kernels": "gemm.bf16=x"}, "kernels = 'gemm.bf16=x': no such kernel of this run"),
        ({"router": "least_token"}, "router = 'least_token': has no effect on one replica"),
        ({"order": "priority"}, "order = 'priority': has no effect: all requests of this load have one priority"),
        ({"policy": "orca", "prefix_cache": False}, "prefix_cache = False: has no effect: policy orca keeps the KV"),
        ({"policy": "static", "watermark": 0.1}, "watermark = 0.1: has no effect: policy static keeps the KV"),
        ({"policy": "orca", "preemption": "swap", "swap_GiB": 1.0}, "preemption = 'swap': has no effect: policy orca"),
        (
            {"policy": "vllm_v1:max_token=64", "token_budget": 32},
            "token_budget = 32: policy vllm_v1:max_token=64 gives",
        ),
        ({"policy": "vllm_v1:max_seq=64", "max_num_seq": 64}, "max_num_seq = 64: policy vllm_v1:max_seq=64 gives"),
        (
            {"policy": "sarathi:max_token=1,max_token=2"},
            "policy = 'sarathi:max_token=1,max_token=2': option max_token is",
        ),
        (
            {"system": "duplex", "dispatch": "op_b:op_per_byte=nan"},
            "dispatch: op_per_byte = nan: out of range; allowed: 0 t",
        ),
        ({"system": "duplex", "dispatch": "own:sub_batch_from=" + "9" * 400}, "dispatch: sub_batch_from = 9999"),
        (
            {"system": "duplex", "dispatch": "best:routing=even,routing=even"},
            "dispatch = 'best:routing=even,routing=even'",
        ),
        # beyond what the engine counts, named as the user named it
        ({"preemption": "swap", "swap_GiB": 1e-5}, "swap_GiB = 1e-05: holds 0 KV blocks of 16 tokens"),
        (
            {"preemption": "swap", "swap_GiB": 1e6, "block_token": 1, "kv_format": "int1"},
            "swap_GiB = 1000000.0: holds ",
        ),
    ],
)
def test_an_option_without_effect_is_refused_by_its_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        simulate(dataclasses.replace(BASE, **change))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "change",
    [
        {"router": "round_robin", "order": "fcfs", "watermark": -1.0, "expert_skew": 0.0, "swap_GiB": 0.0},
        {"policy": "orca", "prefix_cache": True, "watermark": -1.0, "preemption": "recompute"},
        {"dp": 2, "router": "least_token"},
        {"order": "priority", "requests": LOAD + ",priority=0.5+0.5"},
        {"policy": "vllm_v1:max_token=64,max_seq=8", "token_budget": 0, "max_num_seq": 0},
        {"engine": "none"},
    ],
)
def test_defaults_and_options_with_effect_are_taken(change: dict[str, object]) -> None:
    assert simulate(dataclasses.replace(BASE, **change)).metrics["completed"] == 4


def test_skewed_experts_are_taken_where_there_are_experts() -> None:
    even, skewed = (simulate(dataclasses.replace(MOE, expert_skew=skew)) for skew in (0.0, 1.0))
    assert skewed.metrics["duration"] != even.metrics["duration"]


def test_ranks_of_experts_are_even_where_they_are_placed_by_load() -> None:
    spread = dataclasses.replace(MOE, fidelity="calibrated", system="dgx_h100", tp=8, ep=8)
    found = {name: simulate(dataclasses.replace(spread, **change)) for name, change in (
        ("engine", {}), ("named", {"expert_skew": 0.6}), ("eplb", {"eplb": True}), ("even", {"expert_skew": 0.0}),
    )}  # fmt: skip
    span = {name: done.metrics["duration"] for name, done in found.items()}
    assert span["engine"] == span["named"] > span["eplb"] == span["even"]
    assert "moe bf16: vllm_unquantizedfusedmoe_triton" in found["engine"].run.about["kernels"]


def test_replicas_that_share_experts_are_one_replica_to_the_router() -> None:
    shared = dataclasses.replace(MOE, system="dgx_h100", dp=2, ep=2, router="least_token")
    with pytest.raises(InputError, match="router = 'least_token': has no effect on one replica"):
        simulate(shared)


def test_a_block_larger_than_the_memory_for_kv_names_the_block(tmp_path: pathlib.Path) -> None:
    done = simulate(BASE)
    few = dataclasses.replace(done.setup.budget, kv=int(done.setup.budget.kv_per_token * 10))
    setup = dataclasses.replace(done.setup, budget=few)
    with pytest.raises(InputError, match=r"block_token = 16: KV memory of 10 tokens is 0 blocks"):
        limits_of(setup, load("none"))


def test_what_a_run_leaves_out_is_said_in_its_report(capsys: pytest.CaptureFixture[str]) -> None:
    shared = "batch:n=4,prompt=64,output=4,num_system_prompt=1,system_prompt_len=32"
    words = ["simulate", "--model", "gpt2", "--system", "a100_sxm", "--fidelity", "sol", "--policy", "orca"]
    assert main([*words, "--requests", shared]) == 0
    assert "Note: prefixes are not shared: policy orca keeps the" in capsys.readouterr().out
    arrays = simulate(dataclasses.replace(BASE, system="neupims"))
    assert catalog.device("neupims").npu is not None
    assert arrays.run.about["note"] == [
        "the [npu] table of neupims is not read: a serving run takes the peak rates of the device"
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("simulate --format parquet", "format = 'parquet': has no effect without --out"),
        ("simulate --uncertainty 1", "uncertainty = 1: out of range; allowed: 0; or 2 to 100000"),
        ("simulate --uncertainty 9 --quiet", "uncertainty = 9: has no effect with --quiet and without --json"),
        (
            "compare --systems a100_sxm,h100_sxm --system h100_sxm",
            "system = 'h100_sxm': has no effect beside --systems",
        ),
        ("compare --policies orca;static --policy orca", "policy = 'orca': has no effect beside --policies"),
        ("capacity --price-usdph 2", "unrecognized arguments: --price-usdph"),
        ("capacity --requests closed_loop:users=2,n=4,ramp_s=1,prompt=5,output=5", "have no rate to vary"),
        ("roofline --policy orca", "unrecognized arguments: --policy"),
        ("roofline --expert-skew 1 --model gpt2", "expert_skew = 1.0: has no effect: gpt2 has no experts"),
        ("roofline --sequence-parallel", "sequence_parallel = True: has no effect at tp = 1"),
        ("capacity --swap-gib 3", "swap_GiB = 3.0: has no effect with preemption = recompute"),
        ("quickstart --expert-skew 1", "expert_skew = 1.0: has no effect: llama-3-70b has no experts"),
        ("simulate --fidelity sol --engine vllm_2023", "engine = 'vllm_2023': has no effect at the speed of light"),
    ],
)
def test_every_verb_refuses_them(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_scenario_file_serves_every_verb(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A roofline takes of a file what it reads, and refuses what no scenario may hold."""
    path = tmp_path / "s.toml"
    path.write_text('model = "gpt2"\nsystem = "a100_sxm"\npolicy = "orca"\nengine = "vllm_2023_a100"\n')
    assert main(["roofline", str(path)]) == 0
    path.write_text('model = "gpt2"\nblock_token = 0\n')
    assert main(["roofline", str(path)]) == 2
    assert "s.toml: block_token = 0: out of range" in capsys.readouterr().err
