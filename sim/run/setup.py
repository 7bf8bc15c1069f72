"""From a scenario to the things it names: model, system, machine arrays, formats, placement, memory, load."""

import dataclasses

from hw_models import catalog, dispatch
from hw_models.clock import limited_system
from hw_models.device import all_reduce_of, best_fidelity, calibration, machine
from hw_models.dispatch import Dispatch
from hw_models.engine_kernels import chosen
from hw_models.spec import System
from kernels.errors import InputError
from kernels.machine import Machine
from sim.run.effect import check_placement, finds_states
from sim.run.ffn_part import FfnPart, ffn_part
from sim.run.profile import profile_of
from sim.run.scenario import Scenario
from sim.serving.engine_defaults import Memory
from sim.serving.experts import with_experts
from sim.serving.rules import Group
from sim.serving.state_store import state_store
from sim.serving.stores import Store, store_of
from workloads import apart, memory, models, placement
from workloads import formats as number_formats
from workloads.formats import Formats
from workloads.memory import Budget, DraftPart
from workloads.models.spec import ModelSpec
from workloads.placement import Placement


@dataclasses.dataclass(frozen=True, repr=False)
class DraftModel(DraftPart):
    """A model that drafts for another, with the machine that prices its passes."""

    machine: Machine

    def __repr__(self) -> str:
        return f"<DraftModel {self.model.name}>"


@dataclasses.dataclass(frozen=True, repr=False)
class Setup:
    """A scenario resolved and checked: everything but the requests."""

    scenario: Scenario
    model: ModelSpec
    system: System
    machine: Machine  # one device
    formats: Formats
    placement: Placement
    budget: Budget
    fidelity: str  # what the numbers are: sol, calibrated, replay
    calibrated_on: str  # the device whose fit prices the kernels; empty for speed of light
    dispatch: Dispatch  # what its units in the memory do
    kernels: tuple[str, ...] = ()  # in words, what multiplies its weights
    expert_skew: float = 0.0  # exponent of the load law of its experts
    draft: DraftModel | None = None
    ffn: FfnPart | None = None  # the machine of the feed-forward parts, where it is another

    def __repr__(self) -> str:
        return f"<Setup of {self.scenario!r}>"

    @property
    def title(self) -> str:
        """Model and devices in words."""
        beside = f" and {self.ffn.num_device} {self.ffn.system.device.name}" if self.ffn is not None else ""
        return f"{self.model.name} on {self.placement.num_device} {self.system.device.name}{beside}"

    @property
    def num_device(self) -> int:
        """Devices of all replicas, both sides."""
        return self.placement.num_device + (self.ffn.num_device if self.ffn is not None else 0)

    @property
    def sides(self) -> tuple[tuple[System, Machine, int], ...]:
        """The system, its constants and the devices of all replicas of each side: one, or attention's and the
        feed-forward parts'."""
        near = (self.system, self.machine, self.placement.num_device)
        return (near,) if self.ffn is None else (near, (self.ffn.system, self.ffn.machine, self.ffn.num_device))

    @property
    def num_block(self) -> int:
        """KV blocks of a replica."""
        return self.store.num_block

    @property
    def store(self) -> Store:
        """Pages of KV of a replica, and the rules by which groups of layers take them."""
        scenario, attn_dp = self.scenario, self.placement.attn_dp
        found = None
        if any(block.mixer for block in self.model.block) and finds_states(scenario):
            rules = profile_of(scenario).scheduler
            found = state_store(self.budget, self.model, attn_dp, scenario.block_token, rules)
        return found or store_of(self.budget, attn_dp, scenario.block_token)

    @property
    def kv_concurrency(self) -> float:
        """Sequences of the longest length that a replica holds at once, in whole blocks."""
        size = self.store.block_token
        length = -(-self.max_model_len // size) * size
        return self.budget.kv * self.placement.attn_dp / self.budget.sequence_byte(length)

    @property
    def page_byte(self) -> float | None:
        """Bytes of a page on one device, where it is not what `block_token` tokens keep (None)."""
        return None if self.store.groups == (Group(),) else self.store.block_byte

    @property
    def max_model_len(self) -> int:
        return self.scenario.max_model_len or self.model.max_context

    @property
    def price_usd_per_h(self) -> float:
        """Rental of all devices an hour."""
        own = self.scenario.price_USDph * self.placement.num_device
        here = own or self.system.price_usd_per_h(self.placement.num_device)
        if self.ffn is None:
            return here
        there = self.ffn.system.price_usd_per_h(self.ffn.num_device)
        return here + there if here and there else 0.0  # no sum where one of them is not known


def prepare(scenario: Scenario, max_num_token: int = 2048, max_num_seq: int = 256) -> Setup:
    """Resolve every name of `scenario`; an `InputError` says what is unknown or does not fit.

    `max_num_token` and `max_num_seq` are those of the policy's steps: activations are set aside for them.
    """
    model = models.load(scenario.model)
    if scenario.max_model_len > model.max_context and model.position == "learned":
        raise InputError(
            f"{model.name} has learned positions for {model.max_context} tokens", field="max_model_len",
            value=scenario.max_model_len, allowed=f"0 to {model.max_context}",
        )  # fmt: skip
    formats = number_formats.of(model, scenario.weight_format, scenario.kv_format)
    device_per_node = catalog.system(scenario.system).node.num_device
    near = apart.attention_side(model) if scenario.ffn_system else model
    placed = placement.make(
        near,
        scenario.tp,
        scenario.pp,
        scenario.dp,
        scenario.ep,
        scenario.attn_dp if scenario.attn_dp > 1 and not scenario.ffn_system else None,
        scenario.sequence_parallel,
        device_per_node,
    )
    check_placement(scenario, model, placed)
    system = limited_system(catalog.system(scenario.system, placed.num_device), scenario.power_limit_W)
    fidelity = "sol" if scenario.fidelity == "sol" else "calibrated"
    if scenario.fidelity == "calibrated" and best_fidelity(system.device) == "sol":
        raise InputError(
            f"{system.device.name} has no calibration, nor a relative that has",
            field="fidelity",
            value="calibrated",
            allowed="sol",
        )
    if scenario.fidelity == "replay":
        fidelity = best_fidelity(system.device)
    kept = profile_of(scenario).memory
    needed = {formats.attention, formats.mixer, formats.ffn, formats.expert, formats.head, formats.activation}
    _check_pipes(system, needed)
    draft = _draft(scenario, model, placed, system, fidelity) if scenario.draft_model else None
    budget = _budget(scenario, near, formats, placed, system, kept, (max_num_token, max_num_seq), draft)
    ffn = None
    if scenario.ffn_system:
        placed = dataclasses.replace(placed, attn_dp=scenario.attn_dp)
        # no KV lies there: `memory_share` is of the other side
        ffn = ffn_part(scenario, model, formats, system, fidelity, kept.share, max_num_token * placed.attn_dp)
        _check_pipes(ffn.system, {formats.ffn, formats.expert, formats.activation})
    rule = dispatch.parse(scenario.dispatch, system.device)
    skew = _expert_skew(scenario, model, placed, rule)
    if rule.draws and scenario.expert_skew > 0:
        raise InputError(
            f"the dispatch of {system.device.name} draws experts uniformly", field="expert_skew",
            value=scenario.expert_skew, allowed="0; or a dispatch with routing=even, as best",
        )  # fmt: skip
    if rule.beside != "nothing" and scenario.attention != "paged":
        raise InputError(
            f"attention runs beside other work on {system.device.name}, each row on its own keys", field="attention",
            value=scenario.attention, allowed="paged; or a dispatch with beside=nothing",
        )  # fmt: skip
    named = _named_kernels(scenario, system, fidelity, formats)
    group_size = placed.tp * placed.attn_dp if placed.tp > 1 else None
    reduces = profile_of(scenario).all_reduce_among(placed.tp)
    own = all_reduce_of(system.device, reduces) if fidelity == "calibrated" else {}
    arrays = machine(system, fidelity, group_size=group_size, named=own | named)
    dispatch.fill(arrays.rate, system.device, rule)
    arrays = with_experts(arrays, system.device, rule, model, formats, placed, max_num_token, scenario.seed)
    return Setup(
        scenario,
        model,
        system,
        arrays,
        formats,
        placed,
        budget,
        scenario.fidelity,
        calibration(system.device)[1] if fidelity == "calibrated" else "",
        rule,
        _said_kernels(model, system, formats, named) if fidelity == "calibrated" else (),
        skew,
        draft,
        ffn,
    )


def _expert_skew(scenario: Scenario, model: ModelSpec, placed: Placement, rule: Dispatch) -> float:
    """The exponent of the load law of experts: what is asked for, else the engine's; 0 where ranks are made even."""
    if not any(block.ffn.num_expert for block in model.block) or rule.draws:
        skew = 0.0
    elif scenario.expert_skew < 0:
        skew = profile_of(scenario).skew_of(model)
    else:
        skew = scenario.expert_skew
    if scenario.eplb and (placed.ep == 1 or skew == 0):
        raise InputError(
            "has no effect: expert load is even already, or experts are not spread", field="eplb", value=True,
            allowed="false; or ep above 1 and a load that is skewed",
        )  # fmt: skip
    return 0.0 if scenario.eplb else skew


def _budget(
    scenario: Scenario, model: ModelSpec, formats: Formats, placed: Placement, system: System, kept: Memory,
    step: tuple[int, int], draft: DraftModel | None,
) -> Budget:  # fmt: skip
    """What the engine leaves for KV on the fullest device."""
    share, beside = scenario.memory_share or kept.share, kept.beside(placed.tp)
    token, seq = (0, 0) if kept.static else step
    device_byte = system.device.mem_byte - system.device.mem_reserved_byte
    kept_token = scenario.kv_budget if scenario.kv_budget < (scenario.max_model_len or model.max_context) else 0

    def left(utilization: float, reserve_byte: float) -> Budget:
        return memory.budget(
            model, formats, placed, device_byte, max_num_token=token, max_num_seq=seq, utilization=utilization,
            reserve_byte=reserve_byte, sampled_byte=kept.sampled_byte, draft=draft, kept_token=kept_token,
        )  # fmt: skip

    if not kept.of_free:
        return left(share, beside)
    return left(1.0, beside + (1 - share) * left(1.0, beside).kv)


def _pairs(formats: Formats) -> list[tuple[str, str]]:
    """Kinds and formats of the multiplies that a model's parts make."""
    parts = (formats.attention, formats.mixer, formats.ffn, formats.head)
    return [*(("gemm", name) for name in dict.fromkeys(parts)), ("moe", formats.expert)]


def _named_kernels(scenario: Scenario, system: System, fidelity: str, formats: Formats) -> dict[tuple[str, str], str]:
    """The kernels that a scenario names, by kind and format; an `InputError` says what is there."""
    found: dict[tuple[str, str], str] = {}
    for part in filter(None, scenario.kernels.split(",")):
        place, _, name = part.partition("=")
        kind, _, fmt = place.strip().partition(".")
        known = calibration(system.device)[0].kernel if fidelity == "calibrated" else ()
        allowed = [f"{k.kind}.{k.format}={k.name}" for k in known if (k.kind, k.format) in _pairs(formats)]
        if f"{kind}.{fmt}={name.strip()}" not in allowed:
            raise InputError("no such kernel of this run", field="kernels", value=part, allowed=allowed)
        found[kind, fmt] = name.strip()
    return found


def _said_kernels(
    model: ModelSpec, system: System, formats: Formats, named: dict[tuple[str, str], str]
) -> tuple[str, ...]:
    experts = any(block.ffn.num_expert for block in model.block)
    profile = calibration(system.device)[0]
    return tuple(chosen(profile, kind, fmt, named) for kind, fmt in _pairs(formats) if kind != "moe" or experts)


def _draft(scenario: Scenario, model: ModelSpec, placed: Placement, system: System, fidelity: str) -> DraftModel:
    """The draft model on `draft_tp` devices of the first stage; an `InputError` where it cannot draft for `model`."""
    draft = models.load(scenario.draft_model, "draft_model")
    if placed.attn_dp > 1:
        raise InputError("attention groups have no draft model", field="draft_model", value=scenario.draft_model,
                         allowed="empty; or attn_dp = 1")  # fmt: skip
    longest = scenario.max_model_len or model.max_context
    if draft.max_context < longest:
        raise InputError(f"{draft.name} drafts for contexts of {draft.max_context} tokens", field="max_model_len",
                         value=longest, allowed=f"2 to {draft.max_context}")  # fmt: skip
    formats = number_formats.of(draft, scenario.weight_format, scenario.kv_format)
    _check_pipes(system, {formats.attention, formats.mixer, formats.ffn, formats.expert, formats.head})
    tp = scenario.draft_tp
    try:
        where = placement.make(draft, tp, 1, 1, 1, None, False, system.node.num_device)
    except InputError as error:
        raise InputError(f"of the draft model, {error}", field="draft_tp", value=tp) from None
    return DraftModel(draft, formats, where, machine(system, fidelity, group_size=tp if tp > 1 else None))


def with_machine(setup: Setup, arrays: Machine) -> Setup:
    """The set-up on other machine arrays; a draft model's kernels take their constants."""
    draft = setup.draft
    if setup.ffn is not None:
        raise InputError("constants of one machine stand for no two", field="ffn_system",
                         value=setup.scenario.ffn_system, allowed="empty")  # fmt: skip
    if draft is not None:
        draft = dataclasses.replace(draft, machine=draft.machine._replace(fit=arrays.fit))
    return dataclasses.replace(setup, machine=arrays, draft=draft)


def _check_pipes(system: System, names: set[str]) -> None:
    """A format that the machine has no rate for is refused before anything is built."""
    from kernels.formats import FORMAT_CODE, FORMATS

    for name in sorted(names):
        form = FORMATS[FORMAT_CODE[name]]
        if system.device.peak(form.pipe) <= 0:
            allowed = [f.name for f in FORMATS if system.device.peak(f.pipe) > 0]
            raise InputError(
                f"{system.device.name} has no {form.pipe} rate", field="weight_format", value=name, allowed=allowed
            )
