"""What a step of a scenario costs, as the tables that the serving engine looks up; and back to operators.

Operators outside attention depend on how many tokens a step computes, the head on how many it samples: both are
lowered for every count and priced once. The engine counts how often each count occurred, so that time by
operator and bound comes out exactly, as integers.
"""

import dataclasses

import numpy as np
import numpy.typing as npt
import pandas as pd

from hw_models.device import cost
from kernels import optable as op
from kernels.formats import FORMATS
from kernels.machine import LINK_BYTE_PER_S, LINK_HOST
from kernels.serving.price import HOST_BLOCK, HOST_REQUEST, HOST_SEQ, HOST_STEP, HOST_TOKEN, StepPrice, blank
from kernels.units import to_ps
from sim.engine_profile import EngineProfile
from sim.records import operator_frame
from sim.setup import Setup
from workloads.lowering import attention_row, lower_dense, lower_head, work_rows
from workloads.models.spec import Attention
from workloads.rows import Rows as OperatorRows

Ints = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Priced operators of one part of a step for every count of tokens (or of sampled rows)."""

    name: list[str]
    kind: npt.NDArray[np.int8]  # [row]
    time_ps: Ints  # [count, row] all layers
    energy_nj: Ints  # [count, row] of one device
    bound: npt.NDArray[np.int8]  # [count, row]


@dataclasses.dataclass(frozen=True, eq=False)
class Pricing:
    """Step prices, and the operators they were summed from: `dense[stage]`, then the head."""

    step: StepPrice
    dense: list[Rows]
    head: Rows
    num_device: int  # of a replica
    attention: list[Attention]  # classes, in the engine's order


def _priced(ops: op.OpTable, setup: Setup) -> Rows:
    """Price a table of shape [count, row] whose first row (count 0) is empty."""
    flat = ops.reshape(-1)
    price = cost(flat, op.empty(0)[1], setup.machine).reshape(ops.shape)
    names = [name.decode() for name in ops[-1]["name"]]
    price["time_ps"][ops["count"] == 0] = 0
    price["energy_nj"][ops["count"] == 0] = 0
    return Rows(
        names,
        ops[-1]["kind"].copy(),
        price["time_ps"].astype(np.int64),
        price["energy_nj"].astype(np.int64),
        price["bound"].copy(),
    )


def build(setup: Setup, max_token: int, max_sampled: int, profile: EngineProfile) -> Pricing:
    """Prices for steps of up to `max_token` tokens and `max_sampled` sampled rows, computed at the engine's captured
    sizes, with its host time."""
    model, formats, placed = setup.model, setup.formats, setup.placement
    token, sampled = profile.padded(max_token), np.arange(max_sampled + 1)
    dense = [
        _priced(lower_dense(model, formats, placed, stage, token, setup.scenario.expert_skew), setup)
        for stage in range(placed.pp)
    ]
    head = _priced(lower_head(model, formats, placed, placed.pp - 1, sampled), setup)
    splits = placed.stages(model.num_layer)
    classes = list(model.attention_class())
    price = blank(placed.pp, len(classes), max_token, max_sampled)
    for stage, rows in enumerate(dense):
        sent = np.array([name == "pp_send" for name in rows.name])
        price.dense_ps[stage] = rows.time_ps[:, ~sent].sum(axis=1)
        price.dense_nj[stage] = rows.energy_nj[:, ~sent].sum(axis=1) * placed.stage_device
        if sent.any():
            price.send_ps[stage] = rows.time_ps[:, sent].sum(axis=1)
            price.send_nj[stage] = rows.energy_nj[:, sent].sum(axis=1) * placed.stage_device
        held = model.attention_class(*splits[stage])
        price.attn_layer[stage] = [held.get(attention, 0) for attention in classes]
    price.head_ps[:] = head.time_ps.sum(axis=1)
    price.head_nj[:] = head.energy_nj.sum(axis=1) * placed.stage_device
    _attention(price, setup, classes)
    for field, seconds in ((HOST_STEP, profile.step_s), (HOST_SEQ, profile.seq_s), (HOST_TOKEN, profile.token_s),
                           (HOST_REQUEST, profile.request_s), (HOST_BLOCK, _block_s(setup))):  # fmt: skip
        price.host_ps[field] = to_ps(seconds)
    return Pricing(price._replace(num_device=placed.stage_device), dense, head, placed.replica_device, classes)


def _attention(price: StepPrice, setup: Setup, classes: list[Attention]) -> None:
    """Shapes and constants of each attention class on one device, read off its operator row: latent attention
    prefills and decodes in different shapes and formats."""
    machine, work = setup.machine, work_rows([1], [1])
    price.rate[:] = machine.rate
    for phase, shape, fit in (
        ("prefill", price.prefill_shape, price.prefill_fit), ("decode", price.decode_shape, price.decode_fit),
    ):  # fmt: skip
        for index, attention in enumerate(classes):
            rows = OperatorRows(setup.formats, setup.placement, 1)
            attention_row(rows, attention, work, phase)
            row = rows.table()[0]
            columns = ("num_head", "num_kv_head", "head_dim", "v_head_dim", "window")
            shape[index] = [*(row[name] for name in columns), FORMATS[row["kv_fmt"]].weight_bit / 8]
            fit[index] = machine.fit[row["kind"], row["kv_fmt"]]
            price.peak_flop_per_s[index] = machine.peak_flop_per_s[row["fmt"]]


def _block_s(setup: Setup) -> float:
    """Seconds to move one KV block of a device over its host link."""
    host = setup.machine.link[LINK_HOST]
    byte = setup.budget.kv_per_token * setup.scenario.block_token
    return float(byte / host[LINK_BYTE_PER_S]) if host[LINK_BYTE_PER_S] > 0 else 0.0


def by_operator(
    pricing: Pricing, token_count: Ints, head_count: Ints, attn_ps: Ints, attn_nj: Ints, host_ps: int
) -> pd.DataFrame:
    """Time and energy by operator and bound of a whole run.

    `token_count` [token], `head_count` [sampled]: steps of so many; `attn_ps` [class, 2, bound]: prefill and
    decode attention; `host_ps`: the engine's own time.
    """
    parts: list[tuple[str, int, int, int, int]] = []
    sources = [(rows, token_count) for rows in pricing.dense] + [(pricing.head, head_count)]
    for rows, counts in sources:
        used = np.flatnonzero(counts)
        for row, name in enumerate(rows.name):
            for bound in np.unique(rows.bound[used, row]):
                chosen = used[rows.bound[used, row] == bound]
                time_ps = int(counts[chosen] @ rows.time_ps[chosen, row])
                energy_nj = int(counts[chosen] @ rows.energy_nj[chosen, row]) * pricing.num_device
                parts.append((name, int(rows.kind[row]), int(bound), time_ps, energy_nj // len(pricing.dense)))
    for phase, name, kind in ((0, "attention_prefill", op.ATTN_PREFILL), (1, "attention_decode", op.ATTN_DECODE)):
        for bound in range(attn_ps.shape[2]):
            time_ps, energy_nj = int(attn_ps[:, phase, bound].sum()), int(attn_nj[:, phase, bound].sum())
            parts.append((name, kind, bound, time_ps, energy_nj))
    parts.append(("host", -1, op.BOUND_HOST, host_ps, 0))
    names, kinds, bounds, times, energies = zip(*parts, strict=True)
    return operator_frame(names, np.array(kinds), np.array(bounds), np.array(times), np.array(energies))
