"""Features of a scenario through every door that takes one: engine profiles, ways of running, other verbs."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

from kernels.errors import InputError
from sim.cluster.simulate import simulate_pools
from sim.cluster.simulate_programs import simulate_programs
from sim.run import predictor
from sim.run.scenario import Scenario
from sim.run.simulate import Simulation, simulate
from tests.matrix.mechanisms import BASE, ENGINE, MECHANISM, Mechanism, image_model

NUM, OUTPUT = 3, 3
LOAD = f"batch:n={NUM},prompt=80,output={OUTPUT}"
OF_LOAD = ("requests", "order", "router")  # no part of a batch


def _anything(done: Simulation) -> bool:
    return done.served


FEATURE: dict[str, Mechanism] = {
    "replicas behind a router": Mechanism(
        {"dp": 2, "router": "least_outstanding"}, lambda done: done.run.totals["num_replica"] == 2
    ),
    "attention groups": Mechanism(
        {"model": "olmoe-1b-7b", "attn_dp": 2, "ep": 2}, lambda done: done.setup.placement.attn_dp == 2
    ),
    "priorities": Mechanism({"order": "priority"}, _anything, {"priority": "0.5+0.5"}),  # type: ignore[dict-item]
    "a cap on concurrency": Mechanism({}, lambda done: done.metrics["max_concurrent_requests"] <= 2,
                                      {"max_concurrency": 2}),
    "a bounded queue": Mechanism({"max_queue": NUM}, lambda done: done.metrics["failed"] == 0),
    "a power limit": Mechanism(
        {"power_limit_W": 400.0}, lambda done: done.metrics["peak_power_w"] <= 400 * done.run.totals["num_device"]
    ),
    "without CUDA graphs": Mechanism({"eager": True}, lambda done: not done.lowered.host.graph_token),
    "steps between prompts": Mechanism(
        {"policy": "vllm_v1:interval=2", "max_num_seq": 2},
        lambda done: int(done.run.steps["num_prefill"].iloc[1]) == 0,  # type: ignore[index]
    ),
    **{name: one for name, one in ENGINE.items() if not one.scarce},
    **MECHANISM,
}  # fmt: skip
"""The rows."""


def fields_of(feature: Mechanism, folder: pathlib.Path) -> dict[str, Any]:
    """A scenario of the feature alone."""
    fields = {**BASE, **feature.fields}
    if fields["model"] == "IMAGES":
        fields["model"] = image_model(folder)
    return fields | {"requests": ",".join([LOAD, *(f"{name}={value}" for name, value in feature.load.items())])}


def _served(done: Simulation, feature: Mechanism) -> None:
    assert done.metrics["completed"] == NUM
    assert done.metrics["total_output_tokens"] == NUM * OUTPUT
    if not feature.shows(done):
        note = [note for note in done.run.about.get("note", ()) if note.startswith("prefixes are not shared")]
        assert note, f"nothing shows {feature.fields}"


def _under(engine: str) -> Callable[[Mechanism, dict[str, Any]], None]:
    def run(feature: Mechanism, fields: dict[str, Any]) -> None:
        scenario = Scenario(**{**fields, "fidelity": "calibrated", "engine": engine})
        _served(simulate(scenario, record_steps=True), feature)

    return run


def _one_by_one(feature: Mechanism, fields: dict[str, Any]) -> None:
    stepped = simulate(Scenario(**fields, run_ahead=False), record_steps=True)
    _served(stepped, feature)
    ahead = simulate(Scenario(**fields))
    assert {**stepped.metrics} == {**ahead.metrics}


def _replayed(feature: Mechanism, fields: dict[str, Any]) -> None:
    _served(simulate(Scenario(**{**fields, "fidelity": "replay"}), record_steps=True), feature)


def _pools(feature: Mechanism, fields: dict[str, Any]) -> None:
    done = simulate_pools(Scenario(**fields), {}, {})
    assert int(done.requests["served"].sum()) == NUM


def _programs(feature: Mechanism, fields: dict[str, Any]) -> None:
    done = simulate_programs(Scenario(**fields), "one")
    assert int(done.programs["produced_token"].sum()) == NUM * OUTPUT


def _predicted(feature: Mechanism, fields: dict[str, Any]) -> None:
    if feature.load and not feature.fields:  # of a load alone: a batch has none
        raise InputError("has no effect on the time of a batch", field="requests", value=next(iter(feature.load)))
    own = {name: value for name, value in fields.items() if name != "requests"}
    assert predictor.BatchTime(**own).seconds(predictor.Batch(prefill=[30], decode=[90])) > 0


def _carried_out(feature: Mechanism, fields: dict[str, Any]) -> None:
    _served(simulate(Scenario(**fields), record_steps=True, execute=lambda engine, lane: -1), feature)


DOOR: dict[str, Callable[[Mechanism, dict[str, Any]], None]] = {
    "vllm_0.15": _under("vllm_0.15"),
    "vllm_0.33": _under("vllm_0.33"),
    "sglang": _under("sglang"),
    "trtllm": _under("trtllm"),
    "step by step": _one_by_one,
    "replay": _replayed,
    "pools": _pools,
    "programs": _programs,
    "predictor": _predicted,
    "carried out": _carried_out,
}
"""The columns."""


def outcome(feature: Mechanism, door: str, folder: pathlib.Path) -> str:
    """`yes` where every request of a run is served to its last token (and the run shows the feature), else the words of
    the refusal, which name a field of it."""
    fields = fields_of(feature, folder)
    try:
        DOOR[door](feature, fields)
    except InputError as error:
        known = {field.name for field in dataclasses.fields(Scenario)} | set(feature.load)
        if error.field not in known:
            raise
        return str(error).partition("; allowed")[0].replace(str(folder), "")
    return "yes"
