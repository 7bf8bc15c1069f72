"""One iteration of an engine: what a batch of prompts, or of tokens, takes on a machine under an engine profile.

The same operators, kernels and host terms as `sim.serving`, for one plan and no queue.
"""

import dataclasses
import functools

import numpy as np

from hw_models import catalog
from hw_models.device import all_reduce_of, machine
from kernels import optable as op
from kernels.errors import InputError
from kernels.machine import BUSY_W, IDLE_W
from kernels.units import NJ_PER_J, PS_PER_S
from sim.serving.engine_profile import EngineProfile
from sim.serving.step_price import HostTime, Lowered
from workloads import formats as number_formats
from workloads import lowering, memory, models, placement


@dataclasses.dataclass(frozen=True)
class Deployment:
    """A model placed on a machine."""

    model: str
    system: str
    tp: int = 1
    pp: int = 1
    ep: int = 1
    weight_format: str = "bf16"


@dataclasses.dataclass(frozen=True)
class Batch:
    """What an iteration computes: `num_prompt` prompts of `prompt_len` new tokens after `prefix_len` cached ones, and
    `num_decode` sequences whose next token sees `kv_len` keys (`prompt_len` of them a prompt's). `kv_held` tokens of KV
    in all must fit (0: not checked)."""

    num_prompt: int = 0
    prompt_len: int = 0
    num_decode: int = 0
    kv_len: int = 0
    kv_held: int = 0
    prefix_len: int = 0


def step_s(where: Deployment, profile: EngineProfile, batch: Batch, fidelity: str = "calibrated") -> float:
    """Seconds of `step`."""
    return step(where, profile, batch, fidelity)[0]


def step(where: Deployment, profile: EngineProfile, batch: Batch, fidelity: str = "calibrated") -> tuple[float, float]:
    """Seconds from the start of the iteration to its end (host terms, then each stage for as long as it computes or
    as its launches take, and the hand-overs), and joules of a mean device meanwhile. Raises `InputError` for what is
    unknown or does not fit."""
    lowered, room = lowered_for(where, profile, fidelity)
    if batch.kv_held > room:
        raise InputError(
            f"{where.model} at tp {where.tp} holds {room:,} tokens of KV", field="batch_size", value=batch.kv_held
        )
    return step_of(lowered, batch)


def step_of(lowered: Lowered, batch: Batch) -> tuple[float, float]:
    """`step` of a model that is placed and lowered already."""
    host = lowered.host
    plan = plan_of(batch)
    step_ps, seq_ps, token_ps, _, prefill_ps, _ = host.vector_ps(
        lowered.model.num_layer, 0.0, lowered.placement.num_device
    )
    total_ps = step_ps + seq_ps * len(plan.query_len) + token_ps * int(plan.query_len.sum())
    total_ps += prefill_ps if batch.num_prompt else 0
    rate = lowered.machine.rate
    joule = float(rate[BUSY_W]) * total_ps / PS_PER_S if host.busy else 0.0  # above idle
    num_stage = lowered.placement.pp
    for stage, (start, stop) in enumerate(lowered.placement.stages(lowered.model.num_layer)):
        ops, work = lowered.step(stage, plan)
        cost = lowered.price(ops, work)
        cost_ps = cost["time_ps"]
        above_nj = float(cost["energy_nj"].sum()) - float(rate[IDLE_W]) * float(cost_ps.sum()) * 1e-3
        joule += above_nj / NJ_PER_J / num_stage
        sends = ops["kind"] == op.P2P
        launch_ps = host.dispatch_ps(stop - start, int(plan.query_len.sum()), batch.num_prompt)
        total_ps += max(int(cost_ps[~sends].sum()), launch_ps) + int(cost_ps[sends].sum())
    seconds = float(total_ps / PS_PER_S)
    return seconds, joule + float(rate[IDLE_W]) * seconds


def plan_of(batch: Batch) -> lowering.Plan:
    """The rows of the iteration, prompts first."""
    prompts, tokens = np.full(batch.num_prompt, batch.prompt_len), np.full(batch.num_decode, batch.kv_len)
    is_decode = np.arange(batch.num_prompt + batch.num_decode) >= batch.num_prompt
    query = np.concatenate([prompts, np.ones_like(tokens)])
    return lowering.Plan(
        query, np.concatenate([prompts + batch.prefix_len, tokens]), is_decode, np.ones_like(is_decode)
    )


@functools.lru_cache(maxsize=256)
def _deployed(where: Deployment, all_reduce: str, fidelity: str) -> tuple[Lowered, int]:
    """What has no engine yet, and the tokens of KV that the devices hold."""
    model = models.load(where.model)
    device_per_node = catalog.system(where.system).node.num_device
    placed = placement.make(model, where.tp, where.pp, 1, where.ep, None, False, device_per_node)
    system = catalog.system(where.system, placed.num_device)
    formats = number_formats.of(model, where.weight_format)
    room = memory.budget(model, formats, placed, system.device.mem_byte - system.device.mem_reserved_byte)
    named = all_reduce_of(system.device, all_reduce) if fidelity == "calibrated" else {}
    arrays = machine(system, fidelity, group_size=placed.tp if placed.tp > 1 else None, named=named)
    return Lowered(model, formats, placed, arrays, 0.0, HostTime()), room.token_capacity


def lowered_for(where: Deployment, profile: EngineProfile, fidelity: str = "calibrated") -> tuple[Lowered, int]:
    """What prices a deployment's steps under an engine profile, and the tokens of KV that its devices hold."""
    skew = profile.skew_of(models.load(where.model))
    return _lowered(where, profile.host_time(), skew, profile.all_reduce_among(where.tp), fidelity)


@functools.lru_cache(maxsize=16)
def _lowered(where: Deployment, host: HostTime, skew: float, all_reduce: str, fidelity: str) -> tuple[Lowered, int]:
    bare, room = _deployed(where, all_reduce, fidelity)
    return dataclasses.replace(bare, host=host, machine=host.kernels(bare.machine, where.tp), skew=skew), room
