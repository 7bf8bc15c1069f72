"""Mechanisms of serving, each as fields of a scenario, words of its load, and what a run shows where it took effect."""

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

from kernels.errors import InputError
from sim.run.scenario import Scenario
from sim.run.simulate import Simulation, policy_of, prepared, simulate

PROMPT, OUTPUT, NUM = 200, 72, 8
BASE: dict[str, Any] = {"model": "llama-3-8b", "system": "dgx_h100", "fidelity": "sol", "max_model_len": 4096}
LOAD = f"batch:n={NUM},prompt={PROMPT},output={OUTPUT}"
SHARED = {"num_system_prompt": 1, "system_prompt_len": 96}
SCARCE = (3.6, 2.6, 1.8, 4.99)  # requests whose KV a replica holds, at the ends of all of them
CHAIN = "chain:k=3,accept=0.7"
VISION = {"depth": 2, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "patch_size": 16,
          "temporal_patch_size": 2, "spatial_merge_size": 2, "out_hidden_size": 4096,
          "hidden_act": "gelu_pytorch_tanh", "deepstack_visual_indexes": []}  # fmt: skip
TEXT = {"model_type": "qwen3_vl_text", "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 4,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
        "hidden_act": "silu", "max_position_embeddings": 262144, "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Mechanism:
    """`shows`: whether a run was another for it."""

    fields: dict[str, Any]
    shows: Callable[[Simulation], bool]
    load: dict[str, int] = dataclasses.field(default_factory=dict)
    scarce: bool = False  # KV memory is made so small that sequences lose theirs


def _total(name: str) -> Callable[[Simulation], bool]:
    return lambda done: done.run.totals[name] > 0


def _kind(*names: str) -> Callable[[Simulation], bool]:
    def shows(done: Simulation) -> bool:
        assert done.run.operator is not None
        return any(any(name in word for name in names) for word in done.run.operator.words("operator"))

    return shows


def _cached(done: Simulation) -> bool:
    return int(done.run.request["cached_token"].sum()) > 0


def _preempted(done: Simulation) -> bool:
    return done.run.totals["num_preemption"] > 0


ENGINE: dict[str, Mechanism] = {
    "chunked prefill": Mechanism(
        {"token_budget": 64}, lambda done: int(done.run.steps["prefill_token"].max()) <= 64  # type: ignore[index]
    ),
    "small pages": Mechanism({"block_token": 4}, lambda done: done.run.totals["kv_block_token"] == 4),
    "preemption, recompute": Mechanism({}, _preempted, scarce=True),
    "preemption, swap": Mechanism({"preemption": "swap", "swap_GiB": 8.0}, _preempted, scarce=True),
    "TP": Mechanism({"tp": 2}, lambda done: done.setup.placement.tp == 2),
    "PP": Mechanism({"pp": 2}, lambda done: len(done.result.stage_busy_ps[0]) == 2),
}  # fmt: skip
"""What an engine does with any of them: the columns."""

MECHANISM: dict[str, Mechanism] = {
    "prefix cache": Mechanism({"max_num_seq": 2, "prefix_cache": True}, _cached, SHARED),
    "speculation, free drafts": Mechanism(
        {"speculate": CHAIN}, lambda done: done.metrics["spec_decode_num_drafts"] > 0
    ),
    "speculation, draft model": Mechanism(
        {"speculate": CHAIN, "draft_model": "llama-3.2-1b"}, lambda done: "drafts by" in done.run.about["speculation"]
    ),
    "adapters": Mechanism({"lora_rank": "8"}, _total("num_fetch"), {"num_adapter": 2}),
    "KV budget": Mechanism(
        {"kv_budget": 240}, lambda done: any(group.rule == "budget" for group in done.setup.store.groups)
    ),
    "shared spans, relay": Mechanism({"attention": "relay", "prefix_cache": True}, _total("num_spared_key"), SHARED),
    "shared spans, hydragen": Mechanism(
        {"attention": "hydragen", "prefix_cache": True}, _total("num_spared_key"), SHARED
    ),
    "4-bit weights, FP8 KV": Mechanism(
        {"weight_format": "w4a16", "kv_format": "fp8"}, lambda done: "w4a16" in done.run.about["formats"]
    ),
    "windows": Mechanism({"model": "gemma-3-12b"}, lambda done: len(done.setup.store.groups) > 1),
    "experts": Mechanism({"model": "olmoe-1b-7b"}, _kind("expert", "moe")),
    "latent attention": Mechanism(
        {"model": "deepseek-v2-lite"}, lambda done: bool(done.lowered.model.block[0].attention.latent)
    ),
    "recurrent layers": Mechanism({"model": "nemotron-h-8b"}, lambda done: len(done.lowered.scans()) > 0),
    "images": Mechanism({"model": "IMAGES"}, _kind("vision", "patch", "encoder"), {"num_image": 1, "image_token": 64}),
    "units in the memory": Mechanism(
        {"system": "duplex_x8", "dispatch": "co_process"}, lambda done: done.metrics["energy_pim_j"] > 0
    ),
    "layers on two machines": Mechanism({"ffn_system": "h200", "num_microbatch": 2}, _kind("ffn ")),
}  # fmt: skip
"""The rows."""


def image_model(folder: pathlib.Path) -> str:
    """A small model that reads images (Qwen3-VL's fields, fewer layers)."""
    path = folder / "config.json"
    path.write_text(json.dumps({"model_type": "qwen3_vl", "text_config": TEXT, "vision_config": VISION}))
    return str(path)


def together(one: Mechanism, other: Mechanism, folder: pathlib.Path) -> dict[str, Any] | None:
    """The fields of a scenario with both; None where both say the same thing differently (two models)."""
    for name in set(one.fields) & set(other.fields):
        if one.fields[name] != other.fields[name]:
            return None
    fields = {**BASE, **one.fields, **other.fields}
    if fields["model"] == "IMAGES":
        fields["model"] = image_model(folder)
    words = ",".join(f"{name}={value}" for name, value in {**one.load, **other.load}.items())
    return {**fields, "requests": f"{LOAD},{words}".rstrip(",")}


def outcome(one: Mechanism, other: Mechanism, folder: pathlib.Path) -> str:
    """`yes` where a run with both serves every request to its last token and shows both; why not, where it is refused,
    or where one has no effect and the report says so; `-` where there cannot be both. An `AssertionError` where a run
    does none of these."""
    fields = together(one, other, folder)
    if fields is None:
        return "-"
    try:
        if not (one.scarce or other.scarce):
            done = simulate(Scenario(**fields), record_steps=True)
        else:
            done = _squeezed(fields)
    except InputError as error:
        if error.field not in {**fields, **one.load, **other.load}:  # by the name of neither
            raise
        return str(error).partition("; allowed")[0]
    assert done.metrics["completed"] == NUM, done.metrics["completed"]
    assert done.metrics["total_output_tokens"] == NUM * OUTPUT
    unseen = [mechanism for mechanism in (one, other) if not mechanism.shows(done)]
    if unseen:  # then the report says so
        assert [mechanism.load for mechanism in unseen] == [SHARED], unseen
        return next(note for note in done.run.about["note"] if note.startswith("prefixes are not shared"))
    return "yes"


def _squeezed(fields: dict[str, Any]) -> Simulation:
    """A run with so few KV blocks that sequences lose theirs: memory holds what the weights leave, in proportion."""

    def num_block(share: float) -> int:
        scenario = Scenario(**fields, memory_share=share)
        return prepared(scenario, policy_of(scenario)).store.num_block

    free = simulate(Scenario(**fields), record_steps=True)
    steps = free.run.steps
    assert steps is not None
    need = float((steps["used_block"] / steps["num_running"].clip(lower=1)).max())
    low, high = 0.6, 0.9
    few, many = num_block(low), num_block(high)
    for held in SCARCE:
        share = low + (held * need + 0.5 - few) * (high - low) / (many - few)
        done = simulate(Scenario(**fields, memory_share=share), record_steps=True)
        if _preempted(done) and done.metrics["completed"] == NUM:
            return done
    raise AssertionError("no sequence loses its KV")
