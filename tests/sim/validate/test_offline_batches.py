"""Offline batches: chunks of a prompt, layers apart, one text for all, keys read once a query head."""

import dataclasses

import pytest

from sim.serving.engine_profile import EngineProfile, load
from sim.serving.step_time import Batch, Deployment, lowered_for, step_of
from sim.validate._batches import ALIASES, Offline, alike, latency_s, offline_of, steps_of

ROW = {
    "system": "h100_sxm_80gb", "num_device": 1, "framework": "llama.cpp", "model": "llama-2-7b", "batch": 1,
    "input_len": 512, "output_len": 8, "latency_s": 1.0,
}  # fmt: skip


def bare(**changed: float) -> EngineProfile:
    return dataclasses.replace(load("none"), **changed)  # type: ignore[arg-type]


def prompt_s(chunk: int) -> float:
    return steps_of(offline_of(ROW | {"chunk": chunk}), bare(), "calibrated")[2]


def test_a_prompt_in_chunks_takes_a_step_each() -> None:
    assert "n_batch" in ALIASES["chunk"]
    assert prompt_s(0) == prompt_s(512) == prompt_s(4096)
    token_s = step_of(lowered_for(Deployment("llama-2-7b", "h100_sxm_80gb"), bare())[0], Batch(0, 0, 1, 256))[0]
    assert prompt_s(1) == pytest.approx(512 * token_s)  # one at a time: a step a token, in the middle at its half
    assert prompt_s(1) > 8 * prompt_s(16) > 8 * prompt_s(64)  # weights are read once a chunk


def test_layers_on_several_devices_wait_for_each_other() -> None:
    one, four = (offline_of(ROW | {"num_device": num}) for num in (1, 4))
    assert (four.where.tp, four.where.pp) == (1, 4)
    at_once, apart = latency_s(four, bare()), latency_s(four, bare(device_s=0.01))
    assert apart - at_once == pytest.approx(0.01 * 4 * 8)  # a prompt and seven tokens
    assert latency_s(one, bare(device_s=0.01)) == latency_s(one, bare())


def test_tokens_of_one_text_ask_for_the_same_experts() -> None:
    where = Deployment("mixtral-8x7b", "h100_sxm", 4)
    lowered = lowered_for(where, bare())[0]
    few, all_of_them = (step_of(held, Batch(0, 0, 64, 256))[0] for held in (alike(lowered), lowered))
    expert_s = 32 * 3 * 4096 * 14336 * 2 / 4 / 3.352e12  # one of the eight on a device, at the memory's peak
    assert all_of_them - few > 0.7 * 6 * expert_s
    single = Batch(0, 0, 1, 256)
    assert step_of(alike(lowered), single)[0] == pytest.approx(step_of(lowered, single)[0], rel=0.05)  # two either way
    batches = [Offline(where, stack, 64, 128, 8) for stack in ("trtllm_2024", "vllm_2024")]
    one_text, own_text = (latency_s(each, bare()) for each in batches)
    assert one_text < own_text


def test_unshared_keys_are_read_once_a_query_head() -> None:
    def kept_s(model: str, unshared: bool) -> float:  # what 2,048 keys more take
        profile = dataclasses.replace(bare(), unshared=unshared)
        lowered = lowered_for(Deployment(model, "max_1550"), profile)[0]
        long, short = (step_of(lowered, Batch(0, 0, 64, kv_len))[0] for kv_len in (4096, 2048))
        return long - short

    assert kept_s("llama-3-8b", True) > 3 * kept_s("llama-3-8b", False)  # four query heads a key head
    assert kept_s("llama-2-7b", True) == kept_s("llama-2-7b", False)  # one each
    assert kept_s("llama-3-8b", True) == pytest.approx(kept_s("llama-2-7b", True), rel=0.15)  # 32 heads each


def test_decode_attention_has_a_factor_of_its_own() -> None:
    where, batch = Deployment("llama-3-8b", "h100_sxm"), Batch(0, 0, 32, 4096)
    plain, twice, thrice = (
        step_of(lowered_for(where, bare(decode_factor=factor))[0], batch)[0] for factor in (1.0, 2.0, 3.0)
    )
    assert thrice - twice == pytest.approx(twice - plain, rel=1e-6)
    prompt = Batch(4, 512)
    assert step_of(lowered_for(where, bare(decode_factor=3.0))[0], prompt) == step_of(
        lowered_for(where, bare())[0], prompt
    )
