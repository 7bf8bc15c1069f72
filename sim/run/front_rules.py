"""What flags of an engine mean together: who shares experts, what a policy reads, what a command leaves open."""

import json
from collections.abc import Callable
from typing import Any

from kernels.errors import InputError
from workloads import models

Values = dict[str, Any]
DRAFTED = ("_speculative", "_spec_method", "_spec_model", "_spec_token")  # what says that there are drafts
Rule = Callable[[Values, dict[str, str], list[str]], Values]


def settle(
    engine: str, values: Values, flag_of: dict[str, str], given: Values
) -> tuple[Values, dict[str, str], list[str]]:  # fmt: skip
    """Fields of a scenario from values by field and by `_name` (what no field says alone), the flag of each field, and
    sentences for the result."""
    if "model" not in values and "model" not in given:
        raise InputError("the command names no model", field=f"from_{engine}", value="", allowed="a model")
    notes: list[str] = []
    found = {name: value for name, value in values.items() if not name.startswith("_")}
    flags = dict(flag_of)
    if values.get("_revision") and "model" in found:
        found["model"] = f"{found['model']}@{values['_revision']}"
    if drafted := next((name for name in DRAFTED if name in values), None):
        _speculation(values[drafted], values.get("_spec_token"), flag_of[drafted], given, notes)
    if engine in RULES:
        found |= RULES[engine](values | {"model": given.get("model", found.get("model"))}, flags, notes)
    if "system" not in given:
        notes.append("the command names no machine: it is the default of --system")
    return found, {name: flag for name, flag in flags.items() if not name.startswith("_")}, notes


def _speculation(text: Any, num: Any, flag: str, given: Values, notes: list[str]) -> None:
    """A command says who drafts and how much (in JSON, or as `num`), not how much of it is accepted."""
    if not given.get("speculate"):
        if str(text).startswith("{"):
            try:
                num = json.loads(text).get("num_speculative_tokens")
            except ValueError:
                raise InputError("not JSON", field=flag, value=text) from None
        allowed = f"--speculate chain:k={'K' if num is None else num},accept=P beside it, and --draft-model"
        raise InputError("says nothing of how many drafts are accepted", field=flag, value=text, allowed=allowed)
    notes.append(f"{flag}: drafts are those of --speculate {given['speculate']}")


def _has_experts(values: Values) -> bool:
    return any(block.ffn.num_expert for block in models.load(values["model"]).block)


def _vllm(values: Values, flags: dict[str, str], notes: list[str]) -> Values:
    """Data parallel ranks of a model with experts share them; of others, they are replicas behind a router."""
    tp, dp = values.get("tp", 1), values.get("_dp", 1)
    found: Values = {}
    if dp > 1 and _has_experts(values):
        found, flags["attn_dp"] = {"attn_dp": dp}, flags["_dp"]
        notes.append(f"{flags['_dp']} {dp}: {dp} attention groups of one replica, which share their experts")
    elif dp > 1:
        found, flags["dp"] = {"dp": dp}, flags["_dp"]
    if values.get("_spread"):
        if _has_experts(values):
            found["ep"], flags["ep"] = tp * dp, flags["_spread"]
        else:
            notes.append(f"{flags['_spread']}: no effect, the model has no experts")
    for name, own in (("token_budget", "_scheduled_token"), ("max_num_seq", "_active_seq")):
        if own in values:
            if values[own] > values.get(name, values[own]):
                raise InputError(
                    f"more than {flags[name]}", field=flags[own], value=values[own], allowed=f"up to {values[name]}"
                )
            found[name], flags[name] = values[own], flags[own]
    chosen = {"max_chunk": values.get("_max_chunk", 0), "interval": values.get("_interval", 1)}
    if options := ",".join(f"{name}={value}" for name, value in chosen.items() if value != (name == "interval")):
        found["policy"] = f"vllm_v1:{options}"
    for name, usual in (("_interval", 1), ("_in_flight", 0)):
        if dp > 1 and values.get(name, usual) != usual:
            raise InputError("is kept for all data parallel ranks together", field=flags[name], value=values[name],
                             allowed="one rank")  # fmt: skip
    if "_in_flight" in values:
        found["max_in_flight"], flags["max_in_flight"] = values["_in_flight"], flags["_in_flight"]
    return found


def _sglang(values: Values, flags: dict[str, str], notes: list[str]) -> Values:
    """With attention data parallel, the ranks divide the tensor parallel devices; else they are replicas."""
    tp, dp = values.get("tp", 1), values.get("_dp", 1)
    found: Values = {}
    groups = int(values.get("_attn_dp") or (dp if values.get("_dp_attention") else 1))
    if groups > 1:
        if tp % groups:
            raise InputError("attention groups divide the tensor parallel devices", field="--dp-size", value=groups,
                             allowed=f"a divisor of {tp}")  # fmt: skip
        found |= {"tp": tp // groups, "attn_dp": groups}
        notes.append(f"--dp-size {groups} with attention data parallel: {groups} groups of {tp // groups} devices")
    elif dp > 1:
        found, flags["dp"] = {"dp": dp}, flags["_dp"]
    if values.get("_no_cache"):
        found["prefix_cache"], flags["prefix_cache"] = False, flags["_no_cache"]
    if values.get("_priority"):
        found["order"], flags["order"] = "priority", flags["_priority"]
    if "_schedule" in values:
        notes.append(f"{flags['_schedule']}: the queue is served by arrival")
    if values.get("token_budget", 0) < 0:
        raise InputError("the policy sglang cuts prompts at its budget", field=flags["token_budget"],
                         value=values["token_budget"], allowed="1 and more")  # fmt: skip
    return found


def _trtllm(values: Values, flags: dict[str, str], notes: list[str]) -> Values:
    """The policy's own option says whether prompts are cut."""
    return {"policy": "trtllm:chunked=1"} if values.get("_chunked") else {}


RULES: dict[str, Rule] = {"vllm": _vllm, "sglang": _sglang, "trtllm": _trtllm}
