"""A scenario as a serving engine's command line: `sim.run.front` the other way, by the same tables.

What the engine has no flag for, and what decides time here, is an error that names the field; what belongs to the load,
the clock or the machine is left out, for no server is told of it.
"""

import dataclasses
import functools
import json
import shlex
from typing import Any

from kernels.errors import InputError
from sim.run import front
from sim.run.scenario import Scenario, read_toml
from workloads.models import hub

NOT_THE_SERVERS = frozenset({
    "system", "requests", "router", "engine", "front", "ends", "fidelity", "timeout_s", "goodput", "price_USDph",
    "run_ahead", "seed", "expert_skew", "power_limit_W",
})  # fmt: skip
"""Fields of the load, the clients, the machine and the simulation; how experts are loaded is the inputs' doing."""


def command_of(engine: str, scenario: Scenario) -> str:
    """The command line of `engine` (`vllm`, `sglang`, `trtllm`) that serves as the scenario does.

    >>> command_of("vllm", Scenario(model="qwen3-32b", tp=4, max_num_seq=128, prefix_cache=False))
    'vllm serve Qwen/Qwen3-32B --tensor-parallel-size 4 --max-num-seqs 128 --no-enable-prefix-caching'
    >>> command_of("vllm", Scenario(kv_budget=512, prefix_cache=False))
    Traceback (most recent call last):
    ...
    kernels.errors.InputError: kv_budget = 512: vLLM has no flag for it
    """
    if engine not in front.engines():
        raise InputError("no such front", field="engine", value=engine, allowed=front.engines())
    if scenario.engine != "none" and scenario.engine.partition("_")[0] != engine:
        raise InputError("is the profile of another engine", field="engine", value=scenario.engine,
                         allowed=f"a profile of {engine}'s, or none")  # fmt: skip
    table, entries = _entries(engine)
    words, said = table["command"][0].split(), {"model"}
    values = {
        field.name: value
        for field in dataclasses.fields(scenario)
        if field.name not in NOT_THE_SERVERS and (value := getattr(scenario, field.name)) != field.default
    }
    values = _settled(engine, scenario, values)
    words += [*(["--model-path"] if engine == "sglang" else []), _model(scenario.model)]
    for name, value in values.items():
        if name in said:
            continue
        entry = entries.get(name)
        if entry is None:
            raise InputError(f"{table['title']} has no flag for it", field=name, value=value)
        words += _flag(table, entry, name, value)
    return shlex.join(words)


@functools.cache
def _entries(engine: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    table = read_toml(front.FOLDER / f"{engine}.toml")
    return table, {entry["field"]: entry for entry in reversed(table["used"])}


def _model(name: str) -> str:
    """The id under which the hub has the ready model, else the folder of its configuration."""
    found = hub.published(name)
    return found or (name.removesuffix("/config.json") if name.endswith("config.json") else name)


def _settled(engine: str, scenario: Scenario, values: dict[str, Any]) -> dict[str, Any]:
    """What several fields mean together, as `sim.run.front_rules` reads it."""
    found = {name: value for name, value in values.items() if (name, value) != ("policy", "auto")}
    groups, replicas = found.pop("attn_dp", 1), found.pop("dp", 1)
    if groups > 1 and replicas > 1:
        raise InputError("replicas of attention groups are several servers", field="dp", value=replicas, allowed="1")
    ranks = max(groups, replicas)
    if engine == "trtllm" and ranks > 1:
        name = "attn_dp" if groups > 1 else "dp"
        raise InputError("TensorRT-LLM's server has no flag for it", field=name, value=ranks)
    if ranks > 1:
        found["_dp"] = ranks
    if engine == "vllm" and found.pop("ep", 1) > 1:
        _check_spread(scenario.ep, scenario.tp * groups)
        found["_spread"] = True
    if engine == "vllm" and "max_in_flight" in found:
        if ranks > 1:
            raise InputError("vLLM keeps one number for all data parallel ranks", field="max_in_flight",
                             value=scenario.max_in_flight, allowed="0; or one rank")  # fmt: skip
        found["_in_flight"] = found.pop("max_in_flight")
    if engine == "sglang":
        if groups > 1:
            found |= {"tp": scenario.tp * groups, "_dp_attention": True}
        if not found.pop("prefix_cache", True):
            found["_no_cache"] = True
        if found.get("order") == "priority":
            del found["order"]
            found["_priority"] = True
    if engine == "vllm" and "speculate" in found:
        found["_speculative"] = _speculative(found.pop("speculate"), found.pop("draft_model", ""), scenario)
        if found.pop("draft_tp", 1) != 1:
            raise InputError("vLLM's draft model is as parallel as it says itself", field="draft_tp",
                             value=scenario.draft_tp, allowed="1")  # fmt: skip
    return found


def _speculative(text: str, draft: str, scenario: Scenario) -> str:
    """vLLM's `--speculative-config` of a chain of drafts; how many are accepted is the inputs' doing."""
    name, _, options = text.partition(":")
    given = dict(part.split("=", 1) for part in options.split(",") if "=" in part)
    if name != "chain" or not draft or "k" not in given:
        raise InputError("not what vLLM's --speculative-config says", field="speculate", value=scenario.speculate,
                         allowed="chain:k=K,... with a draft model")  # fmt: skip
    return json.dumps({"model": _model(draft), "num_speculative_tokens": int(given["k"])})


def _check_spread(experts: int, group: int) -> None:
    if experts != group:
        raise InputError("vLLM spreads experts over all devices of a replica", field="ep", value=experts,
                         allowed=f"1 or {group}")  # fmt: skip


def _flag(table: dict[str, Any], entry: dict[str, Any], name: str, value: Any) -> list[str]:
    flag = entry["flag"][0]
    if entry["kind"] == "switch":
        if value:
            return [flag]
        if not table["negation"]:
            raise InputError(f"{table['title']} has no flag for it", field=name, value=value)
        return [table["negation"] + flag.removeprefix("--")]
    said = {str(inner): outer for outer, inner in reversed(entry.get("map", {}).items())}
    if str(value) in said:
        return [flag, said[str(value)]]
    if entry["kind"] == "word":
        raise InputError(f"no value of {table['title']}'s", field=name, value=value, allowed=list(said))
    return [flag, str(value)]
