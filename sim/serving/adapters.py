"""Adapters (LoRA) of a scenario: what each rank takes of the store and of the host's link, and what a layer computes.

An adapter has two factors beside each projection of attention (queries, keys, values, output), in the activations'
format: `rank x (in + out)` values. Its blocks are those of the KV store, filled by the layers of the fullest stage;
each device fetches its own part over the link to the host, at the same time as those that share its switch.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hw_models.spec import System
from kernels import optable as op
from kernels.engine.price import StepPrice
from kernels.errors import InputError
from kernels.formats import FORMAT_CODE
from kernels.machine import LINK_HOST, LINK_LATENCY_S, Machine
from kernels.units import to_ps
from sim.serving.host_link import host_byte_per_s
from sim.serving.rules import Rank
from workloads.formats import Formats
from workloads.models.spec import Attention, ModelSpec
from workloads.placement import Placement
from workloads.rows import ceil_div

if TYPE_CHECKING:
    from sim.serving.step_price import Lowered

MAX_RANK = 1024
Projection = tuple[int, int, int, int]  # of `kernels.engine.price.PROJECTION_FIELDS`
NUM_GATHER = 3  # of queries, keys and values: their low products, each gathered from the devices that divide the rank


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


def projections(model: ModelSpec, tp: int = 1) -> tuple[Projection, ...]:
    """Projections of a layer's attention that have an adapter, on one of `tp` devices, equal ones together. Queries,
    keys and values divide the rank of their first factor and the output of their second; the output projection divides
    its input and its output (S-LoRA). An `InputError` where layers differ or have others.

    >>> from workloads import models
    >>> projections(models.load("llama-2-7b"))
    ((4, 4096, 4096, 1),)
    >>> projections(models.load("llama-3-8b"), 2)
    ((1, 4096, 2048, 2), (2, 4096, 512, 2), (1, 2048, 2048, 1))
    """
    found = {_projections(model.hidden, block.attention, tp) for block in model.block}
    if len(found) != 1 or () in found:
        raise InputError(
            f"adapters of {model.name}: its layers do not all have one plain attention", field="model",
            value=model.name, allowed="a model with the same attention in every layer",
        )  # fmt: skip
    return found.pop()


def _projections(hidden: int, a: Attention, tp: int) -> tuple[Projection, ...]:
    if not a.num_head or a.latent or a.shared_kv or a.key_is_value:
        return ()
    head, kv_head = ceil_div(a.num_head, tp), ceil_div(a.num_kv_head, tp)
    widths = [
        (hidden, head * a.head_dim, tp), (hidden, kv_head * a.head_dim, tp), (hidden, kv_head * a.v_head_dim, tp),
        (head * a.v_head_dim, ceil_div(hidden, tp), 1),
    ]  # fmt: skip
    return tuple((widths.count(wide), *wide) for wide in dict.fromkeys(widths))


def ranks_of(
    text: str, model: ModelSpec, formats: Formats, placement: Placement, system: System, machine: Machine,
    block_byte: float,
) -> tuple[Rank, ...]:  # fmt: skip
    """What adapters of each rank take. Raises `InputError` for attention groups, and for a machine without a link to
    its host."""
    sizes = parse_ranks(text)
    if not sizes:
        return ()
    if placement.attn_dp > 1:
        raise InputError("attention groups hold their adapters apart", field="attn_dp", value=placement.attn_dp,
                         allowed="1 with lora_rank")  # fmt: skip
    link_byte_per_s, latency_s = host_byte_per_s(machine, placement), machine.link[LINK_HOST, LINK_LATENCY_S]
    if link_byte_per_s <= 0:
        raise InputError(f"{system.device.name} has no link to a host", field="lora_rank", value=text, allowed="empty")
    layers = max(stop - start for start, stop in placement.stages(model.num_layer))
    found = projections(model, placement.tp)
    width = sum(count * (wide_in / split + wide_out) for count, wide_in, wide_out, split in found)
    rank_byte = layers * width * formats.act_byte("activation")
    return tuple(
        Rank(size, math.ceil(size * rank_byte / block_byte), to_ps(size * rank_byte / link_byte_per_s + latency_s))
        for size in sizes
    )


def with_adapters(price: StepPrice, lowered: "Lowered", ranks: tuple[Rank, ...]) -> StepPrice:
    """The same prices with those of `kernels.engine.price.adapter_cost`; devices exchange for the largest rank."""
    fmt = FORMAT_CODE[lowered.formats.activation]
    found = projections(lowered.model, lowered.placement.tp)
    head = [len(found), lowered.formats.act_byte("activation"), float(lowered.machine.peak_flop_per_s[fmt])]
    link = price.adapter_link.copy()
    if lowered.placement.tp > 1:
        token = np.arange(1, link.shape[1])
        ops = exchange(lowered, token[:, None], max(rank.size for rank in ranks), 1)
        cost = lowered.price(ops, np.zeros(0, op.WORK_DTYPE))
        link[0, 1:] = cost["time_ps"].sum(axis=1)
        link[1, 1:] = cost["energy_nj"].sum(axis=1) * price.num_device
    vector = np.concatenate([head, lowered.machine.fit[op.GEMM, fmt], np.ravel(found)])
    return price._replace(adapter=vector, adapter_link=link)


def exchange(lowered: "Lowered", num_token: npt.ArrayLike, rank: int, num_layer: int) -> op.OpTable:
    """What devices exchange of the low products of `num_layer` layers, shape `[*num_token.shape[:-1], 2]`; the last
    product's outputs are gathered with the base model's own sum."""
    token = np.asarray(num_token, np.int64)
    ops = np.broadcast_to(op.empty(2)[0], (*token.shape[:-1], 2)).copy()
    ops["name"], ops["kind"] = ("adapter_gather", "adapter_reduce"), (op.ALL_GATHER, op.ALL_REDUCE)
    ops["fmt"], ops["count"] = FORMAT_CODE[lowered.formats.activation], (NUM_GATHER * num_layer, num_layer)
    ops["link_byte"] = token * rank * lowered.formats.act_byte("activation")
    ops["group_size"], ops["group_node"] = lowered.placement.tp, lowered.placement.group_node("tp")
    return ops


def num_product(lowered: "Lowered") -> int:
    """Products that a layer computes for adapters, and what it exchanges."""
    exchanged = NUM_GATHER + 1 if lowered.placement.tp > 1 else 0
    return 2 * sum(count for count, *_ in projections(lowered.model, lowered.placement.tp)) + exchanged


def operators(lowered: "Lowered", stage: int, sums: tuple[int, int, int], most_rank: int) -> op.OpTable:
    """Products of a stage for the adapters of a step, of the `sums` that `kernels.engine.price.adapter_cost` takes."""
    start, stop = lowered.placement.stages(lowered.model.num_layer)[stage]
    found = projections(lowered.model, lowered.placement.tp)
    num_token, token_rank, rank_sum = sums
    ops, _ = op.empty(2 * len(found))
    rank, byte = -(-token_rank // num_token), lowered.formats.act_byte("activation")
    ops["kind"], ops["fmt"], ops["m"] = op.GEMM, FORMAT_CODE[lowered.formats.activation], num_token
    for row, (count, wide_in, wide_out, split) in enumerate(found):
        part = -(-rank // split)
        low, act_out = num_token * rank * byte, num_token * wide_out * byte
        for one, name, n, k, weight, act, write in (
            (ops[2 * row], "adapter_down", part, wide_in, wide_in / split, num_token * wide_in * byte,
             num_token * part * byte),
            (ops[2 * row + 1], "adapter_up", wide_out, rank, wide_out, low + act_out, act_out),
        ):  # fmt: skip
            one["name"], one["count"], one["n"], one["k"] = name, count * (stop - start), n, k
            one["weight_byte"], one["act_byte"], one["write_byte"] = rank_sum * weight * byte, act, write
            one["flop"] = 2.0 * token_rank * weight
    if lowered.placement.tp == 1:
        return ops
    return np.concatenate([ops, exchange(lowered, num_token, most_rank, stop - start)])
