"""The serving engine's own time: what its host spends a step, a sequence, a token and a request.

One TOML a profile in `sim/serving/engines/`, or a user's file. Captured batch sizes are those of its CUDA graphs: a
step of fewer tokens is computed at the next captured size.
"""

import dataclasses
import math
import pathlib
from typing import TYPE_CHECKING

from kernels.errors import InputError, from_validation
from sim.serving.engine_defaults import Memory, StepLimit
from sim.serving.rules import Rules

if TYPE_CHECKING:
    from sim.serving.step_price import HostTime
    from workloads.models.spec import ModelSpec

FOLDER = pathlib.Path(__file__).parent / "engines"


@dataclasses.dataclass(frozen=True)
class Fit:
    """Where constants come from. Errors are mean absolute fractions by metric, of what was fitted and of what was
    left out (`left_out`: how)."""

    data: str
    command: str
    date: str
    num_run: int
    error: dict[str, float]
    left_out_error: dict[str, float]
    left_out: str = "a model at a time"


@dataclasses.dataclass(frozen=True)
class EngineProfile:
    """Seconds of host time that a step's device time is lengthened by, and what a request meets outside steps."""

    title: str
    source: str
    step_s: float  # an iteration: scheduling, input preparation, launch, output handling
    seq_s: float  # a sequence in the step: sampling, detokenisation, streaming
    token_s: float  # a token computed
    request_s: float  # from the client to the queue: API entry, tokenisation
    stream_s: float  # from the engine to the client, on the first token and on the last
    prefill_s: float = 0.0  # an iteration that holds a prompt, beside `step_s`: it runs outside the full CUDA graph
    layer_s: float = 0.0  # a layer in an iteration: gaps between its kernels, and those that nobody prices
    dispatch_layer_s: float = 0.0  # launches of a layer without CUDA graphs, while the device computes: an iteration
    # lasts as long as its kernels or as its layers' launches, whichever is longer
    eager_layer_s: float = 0.0  # those of a scenario that asks for no graphs (`eager`); 0: nobody knows them
    device_s: float = 0.0  # an iteration, each of several devices of a replica: they wait for each other
    kernel_factor: float = 1.0  # times of the stack's kernels (not collectives) over those of the calibration
    decode_factor: float = 1.0  # of its decode attention, over that
    prefill_factor: float = 1.0  # of its prompts' attention, likewise
    unshared: bool = False  # its decode attention reads keys and values once for each query head, not for each group
    fused: tuple[str, ...] = ()  # kinds of operators that it has no kernel for: their bytes move within a neighbour's
    fused_group: tuple[str, ...] = ()  # those that are part of the all-reduces, where there are any
    all_reduce: str = ""  # its own all-reduce, where the machine's calibration has it by this name ...
    all_reduce_group: int = 0  # ... among up to so many devices (those that were measured); the default's beyond
    reduce_byte: float = math.inf  # all-reduces of larger messages inside a node ...
    reduce_byte_per_s: float = math.inf  # ... send no faster than this from a device
    block_expert_s: float = 0.0  # a layer of block-scaled experts: rows aligned, quantised and gathered beside products
    busy: bool = False  # what it adds to a step is mostly kernels that nobody prices: devices draw as if they compute
    plan_ahead: bool = False  # a step is planned while the one before runs: an arrival waits for one more
    expert_skew: float = 0.0  # exponent of the load law of experts (`kernels.moe_load`), where nobody says another
    captured: tuple[int, ...] = ()  # token counts that have a CUDA graph, ascending
    stack: str = ""  # profiles of one software stack on several hosts share this name
    device: str = ""  # of the host that was measured
    note: str = ""
    policy: str = "vllm_v1"  # that it schedules by, where nobody names another
    scheduler: Rules = dataclasses.field(default_factory=Rules)  # what it decides beside the policy
    memory: Memory = dataclasses.field(default_factory=Memory)  # what it leaves for KV
    step_limit: tuple[StepLimit, ...] = ()  # tokens and sequences a step that it takes by itself
    fit: Fit | None = None  # how the constants were found, and how wrong they are

    def all_reduce_among(self, tp: int) -> str:
        """The name of its own all-reduce among `tp` devices, "" for the machine's default.

        >>> [load("trtllm").all_reduce_among(tp) for tp in (4, 8)]
        ['TRTLLM', '']
        """
        return self.all_reduce if tp <= self.all_reduce_group else ""

    def skew_of(self, model: "ModelSpec") -> float:
        """The exponent of the load law of a model's experts. Of few, a quarter or more of which a token takes, eight
        tokens that choose independently wake nearly all (8 (1 - (3/4)^8) = 7.2 of Mixtral's 8): even. Of many some
        sleep and some are crowded. Chosen on Mixtral's load tests, whose end-to-end error in the fit of `vllm_0.15`
        it took from 3.9 to 2.8 %, and checked on no other model of few experts.

        >>> from workloads import models
        >>> [load("vllm_0.15").skew_of(models.load(name)) for name in ("mixtral-8x7b", "olmoe-1b-7b")]
        [0.0, 0.6]
        """
        layers = [block.ffn for block in model.block if block.ffn.num_expert]
        return 0.0 if all(ffn.num_expert <= FEW * ffn.topk for ffn in layers) else self.expert_skew

    def host_time(self) -> "HostTime":
        """What lengthens steps, as prices take it."""
        from sim.serving.step_price import HostTime

        own = {field.name for field in dataclasses.fields(self)}
        names = own & {field.name for field in dataclasses.fields(HostTime)}
        return HostTime(graph_token=self.captured, **{name: getattr(self, name) for name in names})


FEW = 4  # experts for each that a token takes


def names() -> list[str]:
    """The profiles that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def of_stack(name: str, device: str) -> str:
    """Name of the profile `name`, or, where that names a stack, of its profile on the host of `device`.

    >>> of_stack("vllm_0.15", "h100_sxm"), of_stack("vllm_2023", "h100_sxm")
    ('vllm_0.15', 'vllm_2023_h100')
    """
    if name.endswith(".toml") or name in names():
        return name
    members = {profile.device: stem for stem in names() if (profile := load(stem)).stack == name}
    if not members:
        stacks = {load(stem).stack for stem in names()} - {""}
        raise InputError("no such engine profile", field="engine", value=name, allowed=[*names(), *sorted(stacks)])
    if device not in members:
        raise InputError(f"{name} was not measured on this host", field="system", value=device, allowed=list(members))
    return members[device]


def load(name: str) -> EngineProfile:
    """A profile by name or by the path of its TOML; an `InputError` names what is wrong."""
    import pydantic

    from sim.run.scenario import read_toml
    from sim.serving.slower import FUSIBLE

    path = pathlib.Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not name.endswith(".toml") and name not in names():
        raise InputError(
            "no such engine profile", field="engine", value=name, allowed=[*names(), "a path of a .toml file"]
        )
    known = [field.name for field in dataclasses.fields(EngineProfile)]
    values = read_toml(path)
    if values.get("kind") == "device" and values.get("engine"):  # of the loop that calibrated the machine
        values = values["engine"]
    for key in values:
        if key not in known:
            raise InputError("unknown field", file=path, field=key, value=values[key], allowed=known)
    try:
        profile = pydantic.TypeAdapter(EngineProfile).validate_python(values)
    except pydantic.ValidationError as error:
        raise from_validation(error, path) from None
    for key in ("kernel_factor", "decode_factor", "prefill_factor", "reduce_byte", "reduce_byte_per_s"):
        if not getattr(profile, key) > 0:
            raise InputError("not positive", file=path, field=key, value=getattr(profile, key), allowed="above 0")
    for key in (name for name in known if name.endswith("_s") and name != "reduce_byte_per_s"):
        if not 0 <= getattr(profile, key) < 10:
            raise InputError("not a time", file=path, field=key, value=getattr(profile, key), allowed="0 to 10 seconds")
    for key in ("fused", "fused_group"):
        for kind in getattr(profile, key):
            if kind not in FUSIBLE:
                raise InputError("no kind of operator that others take in", file=path, field=key, value=kind,
                                 allowed=FUSIBLE)  # fmt: skip
    if list(profile.captured) != sorted(set(profile.captured)) or any(size < 1 for size in profile.captured):
        raise InputError("not ascending sizes", file=path, field="captured", value=profile.captured)
    return profile
