"""Options that would do nothing are refused; what a run leaves out on its own is said in its result.

An option at its default is never an error, also where it is given. What a scenario's fields say of one another is
checked where it is made (`sim.run.scenario_check`); here is what its policy, placement, model and load say of it.
"""

from collections import Counter

import numpy as np

from kernels.errors import InputError
from sim.run.profile import profile_of
from sim.run.scenario import Scenario
from sim.serving.limits import finds_state
from sim.serving.plugin import Plugin, find
from sim.serving.speculation import lookahead
from workloads.load import parse_load
from workloads.models.spec import ModelSpec
from workloads.placement import Placement
from workloads.requests import Requests

PAGED = "paged"  # the reserve rule of policies that name none


def finds_states(scenario: Scenario) -> bool:
    """Whether sequences find states of recurrent layers: the engine looks, and the policy leaves them there."""
    profile = profile_of(scenario)
    if not (scenario.prefix_cache and profile.scheduler.finds_state):
        return False
    return finds_state(find("policy", profile.policy if scenario.policy == "auto" else scenario.policy))


def contiguous(policy: Plugin) -> bool:
    """Whether the policy takes a sequence's KV in one piece, all at once."""
    if "reserve" not in policy.value:
        return False
    return policy.module.OPTIONS["reserve"].choices[int(policy.value["reserve"])] != PAGED


def check_policy(scenario: Scenario, policy: Plugin) -> None:
    """Options that the policy does not read, and options of it that are given twice."""
    _given_once("policy", scenario.policy, {"max_token": scenario.token_budget, "max_seq": scenario.max_num_seq})
    _given_once("router", scenario.router, {})
    if not contiguous(policy):
        return
    for field, value, neutral in (
        ("prefix_cache", scenario.prefix_cache, "true"),
        ("watermark", scenario.watermark, "-1"),
        ("preemption", scenario.preemption, "recompute"),
        ("attention", scenario.attention, "paged"),
        ("kv_budget", scenario.kv_budget, "0"),
        ("lora_rank", scenario.lora_rank, "empty"),
        ("kv_tiers", scenario.kv_tiers, "empty"),
        ("kv_evict", scenario.kv_evict, "lru"),
    ):
        if value != Scenario.__dataclass_fields__[field].default:
            raise InputError(
                f"has no effect: policy {policy.name} keeps the KV of a sequence in one piece",
                field=field, value=value, allowed=f"{neutral}; or a policy with paged KV",
            )  # fmt: skip


def check_progress(scenario: Scenario, policy: Plugin) -> None:
    """A draft model where nothing is drafted."""
    if lookahead(policy) == 0 and scenario.draft_model:
        raise InputError(f"has no effect: {scenario.speculate} drafts no token", field="draft_model",
                         value=scenario.draft_model, allowed="empty")  # fmt: skip


FIELD_OF = {"max_token": "token_budget", "max_seq": "max_num_seq"}


def _given_once(field: str, text: str, fields: dict[str, int]) -> None:
    options = [part.partition("=")[0] for part in text.partition(":")[2].split(",") if part]
    for name, count in Counter(options).items():
        if count > 1:
            raise InputError(f"option {name} is given twice", field=field, value=text)
        if fields.get(name):
            raise InputError(
                f"{field} {text} gives {name} as well",
                field=FIELD_OF[name],
                value=fields[name],
                allowed="one of the two",
            )


def check_placement(scenario: Scenario, model: ModelSpec, placement: Placement) -> None:
    """Options that the model or its placement leaves nothing to do for."""
    if placement.dp == 1 and scenario.router != Scenario.__dataclass_fields__["router"].default:
        raise InputError("has no effect on one replica", field="router", value=scenario.router,
                         allowed="round_robin; or dp above 1")  # fmt: skip
    if scenario.speculate and any(block.mixer for block in model.block):
        raise InputError(f"{model.name} has recurrent layers, whose state takes back no token", field="speculate",
                         value=scenario.speculate, allowed="empty")  # fmt: skip
    if scenario.kv_budget:
        _check_budget(scenario, model)
    for field in ("kv_tiers", "kv_evict"):
        value = getattr(scenario, field)
        if value != Scenario.__dataclass_fields__[field].default and any(block.mixer for block in model.block):
            raise InputError(f"{model.name} has recurrent layers: their states go to no tier", field=field,
                             value=value, allowed="the default")  # fmt: skip
    if scenario.attention != Scenario.__dataclass_fields__["attention"].default:
        _check_spans(scenario, model)
    if scenario.expert_skew > 0 and not any(block.ffn.num_expert for block in model.block):
        raise InputError(f"has no effect: {model.name} has no experts", field="expert_skew", value=scenario.expert_skew,
                         allowed="0")  # fmt: skip


def _check_budget(scenario: Scenario, model: ModelSpec) -> None:
    """Models of which nobody has said what a budget of tokens leaves out."""
    kinds = [block.attention for block in model.block if block.attention.num_head]
    if any(a.latent or a.indexer is not None for a in kinds) or not any(a.window == 0 for a in kinds):
        raise InputError(f"no layer of {model.name} keeps a key and a value of every token", field="kv_budget",
                         value=scenario.kv_budget, allowed="0")  # fmt: skip


def _check_spans(scenario: Scenario, model: ModelSpec) -> None:
    """Models whose keys no pass of several queries has been priced for, that share no prefix, or all of whose layers
    have a window."""
    if any(block.mixer for block in model.block) and finds_states(scenario):
        raise InputError(f"no shared pass is known for models with recurrent layers ({model.name})", field="attention",
                         value=scenario.attention, allowed="paged")  # fmt: skip
    if any(block.mixer for block in model.block):
        raise InputError(f"has no effect: recurrent layers of {model.name} share no prefix", field="attention",
                         value=scenario.attention, allowed="paged")  # fmt: skip
    kinds = [block.attention for block in model.block if block.attention.num_head]
    if any(a.latent or a.indexer is not None for a in kinds):
        raise InputError(f"{model.name} reads latents or chosen keys: no shared pass is known for these",
                         field="attention", value=scenario.attention, allowed="paged")  # fmt: skip
    if not any(a.window == 0 for a in kinds):
        raise InputError(f"has no effect: every layer of {model.name} reads a window of its own", field="attention",
                         value=scenario.attention, allowed="paged")  # fmt: skip


def check_load(scenario: Scenario, load: Requests) -> None:
    """Options that the load leaves nothing to do for."""
    asked = bool((load.adapter >= 0).any())
    if asked and not scenario.lora_rank:
        raise InputError("the load names adapters, of no rank", field="lora_rank", value="", allowed="8, or 64+32+16+8")
    if asked and scenario.prefix_cache and _mixes_adapters(load):
        raise InputError("requests of several adapters name one prefix, but its KV differs by adapter",
                         field="prefix_cache", value=True, allowed="false; or a prefix each")  # fmt: skip
    if scenario.lora_rank and not asked:
        raise InputError("has no effect: this load names no adapters", field="lora_rank", value=scenario.lora_rank,
                         allowed="empty; or a load with num_adapter=")  # fmt: skip
    if scenario.order == "priority" and (load.priority == load.priority[0]).all() and not _draws_priority(scenario):
        raise InputError("has no effect: all requests of this load have one priority", field="order", value="priority",
                         allowed="fcfs, sjf; or a load with priority=0.8+0.2")  # fmt: skip


def _mixes_adapters(load: Requests) -> bool:
    """Whether requests of different adapters name the same prefix unit."""
    count = load.unit_stop - load.unit_start
    named = np.repeat(load.adapter, count)
    first = np.cumsum(count) - count
    unit = load.unit_id[np.arange(len(named)) + np.repeat(load.unit_start - first, count)]
    low = np.full(load.num_unit, np.iinfo(np.int32).max, np.int32)
    np.minimum.at(low, unit, named)
    return bool((named > low[unit]).any())


def _draws_priority(scenario: Scenario) -> bool:
    """Whether the load's text asks for priorities, though few requests may have drawn the same one."""
    try:
        return "priority" in dict(parse_load(scenario.requests).values)
    except InputError:  # the requests came as an array
        return False


def notes(scenario: Scenario, policy: Plugin, load: Requests, has_arrays: bool) -> list[str]:
    """What the run leaves out, a sentence each."""
    said = [load.note] if load.note else []
    if contiguous(policy) and len(load.unit_id):
        said += [f"prefixes are not shared: policy {policy.name} keeps the KV of a sequence in one piece"]
    if scenario.attention != Scenario.__dataclass_fields__["attention"].default and not len(load.unit_id):
        said += ["no request names a prefix that it shares: every row reads its own keys"]
    if (scenario.kv_tiers or scenario.kv_evict != "lru") and not len(load.unit_id):
        said += ["no request names a prefix that it shares: nothing goes to a tier, or is chosen to be evicted"]
    if scenario.kv_budget and len(load.unit_id):
        said += ["prefixes are not shared: of each sequence its own queries choose the tokens that stay"]
    if has_arrays:
        said += [f"the [npu] table of {scenario.system} is not read: a serving run takes the peak rates of the device"]
    return said
