"""A policy's block schedule, unit by unit, on the engines of the machine (`kernels.block_schedule`)."""

import dataclasses

import numpy as np
import numpy.typing as npt

from kernels import block_schedule as at
from kernels.units import PS_PER_S
from sim.offload.cost import CACHE, COMPUTE, DOWN, ENGINES, HIDDEN, READ, UP, WEIGHT, WRITE, Shape, engine_forms
from sim.offload.policy import SCHEDULES, BlockPolicy
from sim.offload.rates import TierRates
from sim.offload.work import Layer

Ints = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Replayed:
    """What came of a run."""

    total_ps: int
    token_end_ps: tuple[int, ...]  # when each token of the answer was there, for the whole block
    busy_ps: tuple[int, ...]  # of ENGINES
    token_per_s: float

    @property
    def total_s(self) -> float:
        return self.total_ps / PS_PER_S

    def projected_s(self, output: int) -> float:
        """Seconds of `output` tokens where each but the first took as long as the second: so FlexGen's scripts count a
        run that they cut after its first steps (`fewer_batch`)."""
        first, second = self.token_end_ps[:2]
        return (first + (second - first) * (output - 1)) / PS_PER_S


def unit_times(held: tuple[Layer, ...], policy: BlockPolicy, tier: TierRates, shape: Shape) -> Ints:
    """`[token, layer, FIELDS]` picoseconds: transfers and computation of a batch, weights of the block.

    A layer's hidden states come in from where the layer before has left them."""
    each = [layer for layer in held for _ in range(layer.count)]
    share = np.array(policy.shares)
    found = np.zeros((shape.output, len(each), len(at.FIELDS)), np.int64)
    for step in range(shape.output):
        known: dict[int, list[int]] = {}
        for j, layer in enumerate(each):
            if id(layer) not in known:
                known[id(layer)] = _fields(engine_forms(layer, policy, tier, shape, step), share, policy.num_batch)
            found[step, j] = known[id(layer)]
    for field in (at.HIDDEN_READ, at.HIDDEN_UP):
        found[:, 1:, field] = found[:, :-1, field].copy()
        found[:, 0, field] = 0
    return found


def _fields(engines: npt.NDArray[np.float64], share: npt.NDArray[np.float64], num: int) -> list[int]:
    def ps(engine: int, first: int, by: int) -> int:
        part, own = engines[engine, first : first + 3], share[first - 1 : first + 2]
        used = own > 0  # a tier that is not there takes for ever
        return round(float((part[used] * own[used]).sum()) * PS_PER_S / by)

    held = (engines[COMPUTE, 1:][share > 0] * share[share > 0]).sum()
    value = {
        at.WEIGHT_READ: ps(READ, WEIGHT, 1), at.WEIGHT_UP: ps(UP, WEIGHT, 1),
        at.CACHE_READ: ps(READ, CACHE, num), at.CACHE_UP: ps(UP, CACHE, num),
        at.HIDDEN_READ: ps(READ, HIDDEN, num), at.HIDDEN_UP: ps(UP, HIDDEN, num),
        at.COMPUTE: round(float(engines[COMPUTE, 0] + held) * PS_PER_S / num),
        at.HIDDEN_DOWN: ps(DOWN, HIDDEN, num), at.HIDDEN_WRITE: ps(WRITE, HIDDEN, num),
        at.CACHE_DOWN: ps(DOWN, CACHE, num), at.CACHE_WRITE: ps(WRITE, CACHE, num),
    }  # fmt: skip
    return [value[field] for field in range(len(at.FIELDS))]


def replay(held: tuple[Layer, ...], policy: BlockPolicy, tier: TierRates, shape: Shape) -> Replayed:
    """Runs the schedule of the whole block, from its first weights to its last store."""
    times = unit_times(held, policy, tier, shape)
    end, busy = np.zeros(shape.output, np.int64), np.zeros(len(ENGINES), np.int64)
    total = int(at.replay(times, policy.num_batch, SCHEDULES.index(policy.schedule), end, busy))
    return Replayed(total, tuple(end.tolist()), tuple(busy.tolist()), policy.block * shape.output / (total / PS_PER_S))
