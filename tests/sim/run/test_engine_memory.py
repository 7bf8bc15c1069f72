"""What an engine leaves for KV, against start-up logs that others published: vLLM on H100 of 79.18 GiB at share 0.9
with its own limits of 8,192 tokens and 1,024 sequences (llm-d-benchmark, `empirical-vllm-memory-results`)."""

import pytest

from kernels.errors import InputError
from sim.run.scenario import Scenario
from sim.run.simulate import policy_of, prepared
from sim.serving import engine_profile

GIB = 1 << 30


def prepare(**fields):
    scenario = Scenario(**fields)
    return prepared(scenario, policy_of(scenario))


@pytest.mark.parametrize(
    ("model", "fields", "weight_gib", "peak_gib", "kv_gib"),
    [
        ("llama-3.1-8b", {}, 14.99, 4.76, 51.38),
        ("llama-3.1-70b", {"tp": 2, "weight_format": "fp8"}, 33.88, 4.84, 32.00),
        ("qwen3-32b", {}, 61.03, 5.64, 4.45),
    ],
)
def test_weights_peak_and_kv_of_measured_servers(model, fields, weight_gib, peak_gib, kv_gib):
    setup = prepare(model=model, system="h100_sxm", **fields)
    assert sum(setup.budget.weight.values()) / GIB == pytest.approx(weight_gib, rel=0.005)
    assert setup.budget.activation / GIB == pytest.approx(peak_gib, rel=0.03)
    # what is wrong with any part is right or wrong here, to a hundredth of the device
    assert setup.budget.kv / GIB == pytest.approx(kv_gib, abs=0.15)


@pytest.mark.parametrize(("vocab", "peak_gib"), [(128256, 4.76), (201088, 7.38), (151936, 5.56)])
def test_peaks_of_measured_servers_are_the_samplers(vocab, peak_gib):
    byte = engine_profile.load("vllm_0.15").memory.sampled_byte * 1024 * vocab
    assert byte / GIB == pytest.approx(peak_gib, rel=0.03)


def test_a_later_version_on_a_smaller_card():
    # vLLM 0.19.0, gpt-oss-20b on an A100 with 256 sequences: 1.17 GiB for all but weights and KV
    memory = engine_profile.load("vllm_0.33").memory
    assert (memory.sampled_byte * 256 * 201088 + memory.outside_byte) / GIB == pytest.approx(1.17, abs=0.01)


def test_limits_by_machine_and_front():
    found = {}
    for engine in ("vllm_0.15", "vllm_0.33"):
        for system in ("h100_sxm", "a100_sxm_80gb", "b200_sxm", "l40s"):
            for front in ("server", "offline"):
                value = policy_of(Scenario(system=system, engine=engine, front=front)).value
                found[engine, system, front] = (value["max_token"], value["max_seq"])
    for engine in ("vllm_0.15", "vllm_0.33"):
        assert [found[engine, "h100_sxm", front] for front in ("server", "offline")] == [(8192, 1024), (16384, 1024)]
        for small in ("a100_sxm_80gb", "l40s"):
            assert [found[engine, small, front] for front in ("server", "offline")] == [(2048, 256), (8192, 256)]
    assert found["vllm_0.15", "b200_sxm", "server"] == (8192, 1024)
    assert found["vllm_0.33", "b200_sxm", "server"] == (16384, 1024)


def test_given_limits_are_kept_and_another_policy_has_its_own():
    assert policy_of(Scenario(policy="vllm_v1:max_seq=32")).value["max_seq"] == 32
    assert policy_of(Scenario(policy="vllm_v1:max_seq=32")).value["max_token"] == 8192
    assert policy_of(Scenario(token_budget=512)).value["max_token"] == 512
    assert policy_of(Scenario(policy="sarathi")).value["max_seq"] == 128
    with pytest.raises(InputError, match="front = 'offline': has no effect"):
        policy_of(Scenario(token_budget=512, front="offline"))


def test_the_newer_engine_takes_more_of_the_device_and_counts_its_graphs():
    older, newer = prepare(model="llama-3.1-8b"), prepare(model="llama-3.1-8b", engine="vllm_0.33")
    device = older.budget.device
    assert older.budget.reserve == pytest.approx(0.1 * device + 0.13 * GIB, rel=1e-6)
    assert newer.budget.reserve == pytest.approx(0.08 * device + (0.13 + 0.36) * GIB, rel=1e-6)
    assert prepare(model="llama-3.1-8b", memory_share=0.5).budget.kv < 0.5 * device


def test_concurrency_is_in_whole_blocks():
    setup = prepare(model="llama-3.1-8b", max_model_len=8190)
    assert setup.kv_concurrency == pytest.approx(setup.num_block / 512, rel=1e-3)
