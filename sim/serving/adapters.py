"""Adapters (LoRA) of a scenario: what each rank takes of the store and of the host's link, and what a layer computes.

An adapter has two factors beside each projection of attention (queries, keys, values, output), in the activations'
format: `rank x (in + out)` values. Its blocks are those of the KV store, filled by the layers of the fullest stage;
each device fetches its own layers over its own link to the host.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from hw_models.spec import System
from kernels import optable as op
from kernels.engine.records import Floats
from kernels.errors import InputError
from kernels.formats import FORMAT_CODE
from kernels.machine import LINK_BYTE_PER_S, LINK_HOST, LINK_LATENCY_S, Machine
from kernels.units import to_ps
from sim.serving.rules import Rank
from workloads.formats import Formats
from workloads.models.spec import Attention, ModelSpec
from workloads.placement import Placement

if TYPE_CHECKING:
    from sim.serving.step_price import Lowered

MAX_RANK = 1024
Projection = tuple[int, int, int]  # equal ones of a layer, their width in and out


def parse_ranks(text: str) -> tuple[int, ...]:
    """Ranks of adapters, in turn.

    >>> parse_ranks("64+32"), parse_ranks("")
    ((64, 32), ())
    """
    if not text:
        return ()
    parts = text.split("+")
    if not all(part.isascii() and part.isdigit() and 1 <= int(part[:9]) <= MAX_RANK for part in parts):
        raise InputError("no ranks", field="lora_rank", value=text, allowed=f"8, or 64+32+16+8, each 1 to {MAX_RANK}")
    return tuple(int(part) for part in parts)


def projections(model: ModelSpec) -> tuple[Projection, ...]:
    """Projections of a layer's attention that have an adapter, equal ones together; an `InputError` where layers differ
    or have others.

    >>> from workloads import models
    >>> projections(models.load("llama-2-7b")), projections(models.load("llama-3-8b"))
    (((4, 4096, 4096),), ((2, 4096, 4096), (2, 4096, 1024)))
    """
    found = {_projections(model.hidden, block.attention) for block in model.block}
    if len(found) != 1 or () in found:
        raise InputError(
            f"adapters of {model.name}: its layers do not all have one plain attention", field="model",
            value=model.name, allowed="a model with the same attention in every layer",
        )  # fmt: skip
    return found.pop()


def _projections(hidden: int, a: Attention) -> tuple[Projection, ...]:
    if not a.num_head or a.latent or a.shared_kv or a.key_is_value:
        return ()
    widths = [
        (hidden, a.num_head * a.head_dim), (hidden, a.num_kv_head * a.head_dim), (hidden, a.num_kv_head * a.v_head_dim),
        (a.num_head * a.v_head_dim, hidden),
    ]  # fmt: skip
    return tuple((widths.count(wide), *wide) for wide in dict.fromkeys(widths))


def ranks_of(
    text: str, model: ModelSpec, formats: Formats, placement: Placement, system: System, machine: Machine,
    block_byte: float,
) -> tuple[Rank, ...]:  # fmt: skip
    """What adapters of each rank take. Raises `InputError` for placements whose exchange nobody has priced, and for a
    machine without a link to its host."""
    sizes = parse_ranks(text)
    if not sizes:
        return ()
    if placement.tp > 1 or placement.attn_dp > 1:
        raise InputError("the exchange of adapters' partial results is not priced", field="tp, attn_dp",
                         value=(placement.tp, placement.attn_dp), allowed="1; or pipeline stages")  # fmt: skip
    link_byte_per_s, latency_s = (machine.link[LINK_HOST, field] for field in (LINK_BYTE_PER_S, LINK_LATENCY_S))
    if link_byte_per_s <= 0:
        raise InputError(f"{system.device.name} has no link to a host", field="lora_rank", value=text, allowed="empty")
    layers = max(stop - start for start, stop in placement.stages(model.num_layer))
    width = sum(count * (wide_in + wide_out) for count, wide_in, wide_out in projections(model))
    rank_byte = layers * width * formats.act_byte("activation")
    return tuple(
        Rank(size, math.ceil(size * rank_byte / block_byte), to_ps(size * rank_byte / link_byte_per_s + latency_s))
        for size in sizes
    )


def price_vector(lowered: "Lowered") -> Floats:
    """The constants of `kernels.engine.price.adapter_cost`."""
    fmt = FORMAT_CODE[lowered.formats.activation]
    found = projections(lowered.model)
    head = [len(found), lowered.formats.act_byte("activation"), float(lowered.machine.peak_flop_per_s[fmt])]
    return np.concatenate([head, lowered.machine.fit[op.GEMM, fmt], np.ravel(found)])


def num_product(lowered: "Lowered") -> int:
    """Products that a layer computes for adapters."""
    return 2 * sum(count for count, _, _ in projections(lowered.model))


def operators(lowered: "Lowered", stage: int, num_token: int, token_rank: int, rank_sum: int) -> op.OpTable:
    """Products of a stage for the adapters of a step (`kernels.engine.price.adapter_cost` says of what sums)."""
    start, stop = lowered.placement.stages(lowered.model.num_layer)[stage]
    found = projections(lowered.model)
    ops, _ = op.empty(2 * len(found))
    rank, byte = -(-token_rank // num_token), lowered.formats.act_byte("activation")
    ops["kind"], ops["fmt"], ops["m"] = op.GEMM, FORMAT_CODE[lowered.formats.activation], num_token
    for row, (count, wide_in, wide_out) in enumerate(found):
        low, act_out = num_token * rank * byte, num_token * wide_out * byte
        for one, name, n, k, weight, act, write in (
            (ops[2 * row], "adapter_down", rank, wide_in, wide_in, num_token * wide_in * byte, low),
            (ops[2 * row + 1], "adapter_up", wide_out, rank, wide_out, low + act_out, act_out),
        ):
            one["name"], one["count"], one["n"], one["k"] = name, count * (stop - start), n, k
            one["weight_byte"], one["act_byte"], one["write_byte"] = rank_sum * weight * byte, act, write
            one["flop"] = 2.0 * token_rank * weight
    return ops
