"""Steps whose layers are computed on two machines: the tables of both sides, each priced on its own.

A step of n tokens runs in as many equal microbatches as there are tokens for, each operator once for each of them;
`kernels.engine.apart` says what of that runs at the same time.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernels import optable as op
from kernels.engine.price import StepPrice
from kernels.engine.records import Ints
from kernels.machine import Machine
from workloads import apart
from workloads.formats import Formats
from workloads.models.spec import ModelSpec
from workloads.placement import Placement

FFN = "ffn "  # begins the names of what the feed-forward side does


@dataclass(frozen=True)
class FfnSide:
    """The machine that computes the feed-forward parts of a replica's layers: one device of `placement`."""

    machine: Machine
    placement: Placement
    num_microbatch: int = 1

    def microbatch(self, num_token: npt.ArrayLike) -> tuple[Ints, Ints]:
        """Microbatches of a step of so many tokens, and tokens of the largest."""
        token = np.asarray(num_token, np.int64)
        num = np.clip(token, 1, self.num_microbatch)
        return num, -(-token // num)


@dataclass(frozen=True)
class SideTable:
    """Operators `[count, rows]` of one side, all microbatches and layers, with their costs on one of `num_device`."""

    ops: op.OpTable
    cost: op.CostTable
    num_device: int
    machine: Machine


Pricer = Callable[[op.OpTable, Machine], op.CostTable]


def side_tables(
    model: ModelSpec, formats: Formats, placement: Placement, machine: Machine, skew: float, ffn: FfnSide,
    num_token: npt.ArrayLike, padded: Callable[[Ints], Ints], price: Pricer,
) -> tuple[SideTable, SideTable, SideTable]:  # fmt: skip
    """Once a step (embedding, last norm), the layers of the attention side, and those of the feed-forward side, for
    each token count. A hand-over takes as long as the side whose devices need longer for it; that time stands in the
    attention side's row, the joules in those of both."""
    num, part = ffn.microbatch(num_token)
    group = padded(-(-part // placement.attn_dp))
    ends, near = apart.lower_attention_side(model, formats, placement, ffn.placement, group, skew)
    far = apart.lower_ffn_side(model, formats, ffn.placement, group * placement.attn_dp, skew)
    for ops in (ends, near, far):
        ops["count"] *= num[..., None]
    near_cost, far_cost = price(near, machine), price(far, ffn.machine)
    here, there = (table[0]["kind"] == op.P2P for table in (near, far))
    near_cost["time_ps"][:, here] = np.maximum(near_cost["time_ps"][:, here], far_cost["time_ps"][:, there])
    far_cost["time_ps"][:, there] = 0
    far["link_byte"][:, there] = 0.0  # received: they are counted where they are sent
    for column in range(far.shape[1]):
        far["name"][:, column] = FFN.encode() + far["name"][0, column]
    own, other = placement.stage_device, ffn.placement.stage_device
    return (
        SideTable(ends, price(ends, machine), own, machine),
        SideTable(near, near_cost, own, machine),
        SideTable(far, far_cost, other, ffn.machine),
    )


def fill(price: StepPrice, token: Ints, tables: tuple[SideTable, ...], num: Ints) -> None:
    """Writes the prices of steps of `token` tokens, which run in `num` microbatches: all of it one after another, and
    what one microbatch takes of each side and way."""
    _, near, far = tables
    for table in tables:
        price.dense_ps[0, token] += table.cost["time_ps"].sum(axis=1)
        price.dense_nj[0, token] += table.cost["energy_nj"].sum(axis=1) * table.num_device
    names = near.ops["name"][0]
    ways = [names == name.encode() for name in (apart.THERE, apart.BACK)]
    took = near.cost["time_ps"]
    parts = (
        took[:, ~(ways[0] | ways[1])].sum(axis=1), far.cost["time_ps"].sum(axis=1), took[:, ways[0]].sum(axis=1),
        took[:, ways[1]].sum(axis=1),
    )  # fmt: skip
    price.apart[0, token] = num
    for row, all_ps in enumerate(parts, 1):
        price.apart[row, token] = all_ps // num
