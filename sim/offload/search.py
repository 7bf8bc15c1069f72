"""The policy search: a linear programme over the nine shares for each size of batch and block, and the best of them."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from kernels.errors import InputError
from sim.offload.cost import (
    MEAN,
    NUM_FORM,
    PROMPT,
    Floats,
    Predicted,
    Shape,
    bounds,
    engine_forms,
    memory_forms,
    predict,
)
from sim.offload.policy import TENSORS, TIERS, BlockPolicy
from sim.offload.rates import TierRates
from sim.offload.work import Layer

NUM_SHARE = NUM_FORM - 1
TIE = 1e-6  # of what all engines do, in the objective: of policies that are as fast, the one that moves least
BATCHES = (1, 2, 4, 8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256)
SIZES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64)  # batches a block
Worked = Callable[[BlockPolicy], tuple[tuple[Layer, ...], float]]  # layers of a policy, and the working memory


@dataclasses.dataclass(frozen=True)
class Found:
    """The best policy and what the cost model says of it."""

    policy: BlockPolicy
    predicted: Predicted
    num_programme: int


def best_shares(
    held: tuple[Layer, ...],
    policy: BlockPolicy,
    tier: TierRates,
    shape: Shape,
    working: float,
    limit: Floats,
    hidden_disk: bool = True,
) -> BlockPolicy | None:
    """The shares that make the block fastest within `limit` bytes of each tier; None where none fits."""
    from scipy.optimize import linprog

    kinds = [(layer, answer) for layer in held for answer in (False, True)]
    num = NUM_SHARE + len(kinds)
    price = np.zeros(num)
    rows: list[Floats] = []
    most: list[float] = []
    disk = tier.read_byte_per_s > 0
    upper = [1.0] * NUM_SHARE
    for i, name in enumerate(TENSORS):
        if not disk or (name == "hidden" and not hidden_disk):
            upper[3 * i + TIERS.index("disk")] = 0.0
    usable = np.array([1.0, *upper])
    for at, (layer, answer) in enumerate(kinds):
        price[NUM_SHARE + at] = layer.count * (shape.output - 1 if answer else 1)
        engines = engine_forms(layer, policy, tier, shape, MEAN if answer else PROMPT)
        price[:NUM_SHARE] += TIE * price[NUM_SHARE + at] * np.where(usable > 0, engines, 0.0).sum(axis=0)[1:]
        for one in bounds(engines, policy.schedule, answer):
            clean = np.where(usable > 0, one, 0.0)
            row = np.zeros(num)
            row[:NUM_SHARE], row[NUM_SHARE + at] = clean[1:], -1.0
            rows.append(row)
            most.append(-float(clean[0]))
    for one, byte in zip(memory_forms(held, policy, shape, working), limit, strict=True):
        scale = max(float(byte), 1.0)
        rows.append(np.concatenate([one[1:], np.zeros(len(kinds))]) / scale)
        most.append(float(byte - one[0]) / scale)
    equal = np.zeros((len(TENSORS), num))
    for i in range(len(TENSORS)):
        equal[i, 3 * i : 3 * i + 3] = 1.0
    bound = [(0.0, top) for top in upper] + [(0.0, None)] * len(kinds)
    done = linprog(price, np.array(rows), most, equal, np.ones(len(TENSORS)), bound, method="highs")
    return policy.with_shares(done.x[:NUM_SHARE]) if done.status == 0 and done.x is not None else None


def search(
    start: BlockPolicy, worked: Worked, tier: TierRates, shape: Shape, limit: Floats, *,
    batches: Sequence[int] = BATCHES, num_batches: Sequence[int] = (), hidden_disk: bool = True,
) -> Found:  # fmt: skip
    """The fastest policy over sizes of batch and block; the rest of `start` (schedule, packing) stays.

    Without `num_batches` blocks grow until they fit no more. `host_attention` is tried both ways where `start` has it.
    Raises `InputError` where nothing fits.
    """
    best: Found | None = None
    count = 0
    off_device = dataclasses.replace(start, cache=(0.0, 1.0, 0.0))  # a place to start from, for the host to attend over
    for batch, host in itertools.product(batches, sorted({False, start.host_attention})):
        one = dataclasses.replace(off_device, batch=batch, host_attention=host)
        held, working = worked(one)
        for size in num_batches or SIZES:
            policy = dataclasses.replace(one, num_batch=size)
            shared = best_shares(held, policy, tier, shape, working, limit, hidden_disk)
            count += 1
            if shared is None:
                if num_batches:
                    continue
                break
            found = predict(held, shared, tier, shape, working)
            if best is None or found.token_per_s > best.predicted.token_per_s * (1 + 1e-9):
                best = Found(shared, found, count)
    if best is None:
        raise InputError("no policy fits this machine", field="offload", value=start.batch,
                         allowed="more memory, a disk, packed tensors or smaller batches")  # fmt: skip
    return dataclasses.replace(best, num_programme=count)
