"""A whole batch of sequences of all lengths: cut into microbatches, each on groups of one size or of many."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kernels.errors import InputError
from sim.training.assign_sequences import Assignment, Ints, assign, spread
from sim.training.group_cost import GroupCost, group_seconds

HEADROOM = 0.95  # of the devices' tokens that a microbatch is cut to: packing wastes some


class BatchPlan(NamedTuple):
    """Microbatches one after the other, sequences by their index in the batch; `seconds` of all, with weights gathered
    under each where they are split."""

    assignment: tuple[Assignment, ...]
    seconds: float


def microbatches(length: Sequence[int] | Ints, count: int) -> list[Ints]:
    """Indices by length, cut into `count` runs of like tokens: long sequences train with long ones.

    >>> [part.tolist() for part in microbatches([9, 1, 1, 1, 6], 2)]
    [[1, 2, 3, 4], [0]]
    """
    values = np.asarray(length, np.int64)
    order = np.argsort(values, kind="stable")
    middle = np.cumsum(values[order]) - values[order] / 2
    which = np.minimum((middle * count / values.sum()).astype(int), count - 1)
    return [order[which == part] for part in range(count) if (which == part).any()]


def heterogeneous_batch(
    cost: GroupCost, length: Sequence[int] | Ints, num_device: int, *, tries: int = 3
) -> BatchPlan:  # fmt: skip
    """Groups of many sizes, chosen for every microbatch: of the fewest microbatches that fit and the next few counts
    the quickest, and never slower than groups of one size. Raises `InputError` where a sequence fits nowhere."""
    lengths = np.asarray(length, np.int64)
    most = num_device * float((cost.capacity / cost.degree).max()) * HEADROOM
    usable = [at for at, degree in enumerate(cost.degree) if degree <= num_device]
    plans = [plan for at in usable if (plan := homogeneous_batch(cost, lengths, num_device, at))]
    if not plans:
        raise InputError("a sequence fits nowhere", field="length", value=int(lengths.max()))
    count, found = int(np.ceil(lengths.sum() / most)), 0
    while found < tries and count <= len(lengths):
        try:
            parts = []
            for index in microbatches(lengths, count):
                one = assign(cost, lengths[index], num_device)
                member = tuple(tuple(index[list(places)].tolist()) for places in one.sequence)
                parts.append(Assignment(one.degree, member, one.seconds))
        except InputError:  # packing wastes too much room: more microbatches
            count += 1
            continue
        plans.append(BatchPlan(tuple(parts), sum(max(one.seconds, cost.gather_s) for one in parts)))
        count, found = count + 1, found + 1
    return min(plans, key=lambda plan: plan.seconds)


def homogeneous_batch(cost: GroupCost, length: Sequence[int] | Ints, num_device: int, at: int) -> BatchPlan | None:
    """Groups of one size throughout: sequences packed into as few rounds of them as their memory takes, even in time,
    slow packs together. None where a sequence does not fit a group."""
    lengths = np.asarray(length, np.int64)
    width = num_device // cost.degree[at]
    if lengths.max() > cost.capacity[at]:
        return None
    rounds = int(np.ceil(lengths.sum() / (cost.capacity[at] * width)))
    while (packs := spread(cost, lengths, range(len(lengths)), at, rounds * width)) is None:
        rounds += 1
    packs = sorted((pack for pack in packs if pack), key=lambda pack: -group_seconds(cost, at, lengths[pack]))
    found = []
    for begin in range(0, len(packs), width):
        part = packs[begin : begin + width]
        slowest = max(group_seconds(cost, at, lengths[pack]) for pack in part)
        found.append(Assignment((at,) * len(part), tuple(tuple(pack) for pack in part), slowest))
    return BatchPlan(tuple(found), sum(max(one.seconds, cost.gather_s) for one in found))
