"""Which sequences train together on how many devices: groups of different sizes, chosen for every batch.

A long sequence needs a large group for its memory; a short one is quickest on few devices, inside a node. Exactly, this
is a mixed-integer program over slots of every degree (Wang et al. 2025, FlexSP). For whole batches a smaller one pools
the groups of a degree: for a time T, the fewest devices that do all sequences in T; halving finds the least T that the
devices there are can keep, and the pools are then split, longest first.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp

from kernels.errors import InputError
from kernels.train_plan import Floats
from sim.training.group_cost import GroupCost, group_seconds

Ints = npt.NDArray[np.int64]
MAX_BUCKET = 12  # lengths that the pooled program tells apart
HALVINGS = 7


class Assignment(NamedTuple):
    """Groups of one microbatch: which degree (index into `cost.degree`), which sequences, the slowest one's time."""

    degree: tuple[int, ...]
    sequence: tuple[tuple[int, ...], ...]
    seconds: float


def spread(cost: GroupCost, length: Ints, member: Sequence[int], at: int, num_group: int) -> list[list[int]] | None:
    """The sequences `member` over `num_group` groups of one degree, longest first to the group that is then done
    soonest and has room; None where one finds no room."""
    token, square = np.zeros(num_group), np.zeros(num_group)
    groups: list[list[int]] = [[] for _ in range(num_group)]
    for index in sorted(member, key=lambda i: -length[i]):
        value = float(length[index])
        room = token + value <= cost.capacity[at]
        if not room.any():
            return None
        work = cost.token_s[at] * token + cost.square_s[at] * square
        group = int(np.argmin(np.where(room, work, np.inf)))
        token[group] += value
        square[group] += value**2
        groups[group].append(index)
    return groups


def build(cost: GroupCost, length: Ints, groups: Sequence[tuple[int, Sequence[int]]]) -> Assignment:
    """An assignment of (degree index, sequences) pairs; empty groups are left out."""
    kept = [(at, tuple(member)) for at, member in groups if member]
    slowest = max(group_seconds(cost, at, length[list(member)]) for at, member in kept)
    return Assignment(tuple(at for at, _ in kept), tuple(member for _, member in kept), slowest)


def homogeneous(cost: GroupCost, length: Ints, num_device: int, at: int) -> Assignment | None:
    """All groups of one degree; None where a sequence finds no room."""
    groups = spread(cost, length, range(len(length)), at, num_device // cost.degree[at])
    return build(cost, length, [(at, member) for member in groups]) if groups else None


def assign(cost: GroupCost, length: Sequence[int] | Ints, num_device: int, *, exact: bool = False) -> Assignment:
    """The best groups found for sequences that are trained at once: never slower than the best groups of one size;
    with `exact` the proven best (small cases). Raises `InputError` where the sequences do not fit at once."""
    lengths = np.asarray(length, np.int64)
    if not len(lengths) or (lengths < 1).any():
        raise InputError("lengths of 1 or more", field="length", value=lengths.tolist()[:5])
    usable = [at for at, degree in enumerate(cost.degree) if degree <= num_device]
    known = [found for at in usable if (found := homogeneous(cost, lengths, num_device, at))]
    known += _pooled(cost, lengths, num_device, usable, min((one.seconds for one in known), default=np.inf))
    if exact:
        known += _slots(cost, lengths, num_device, usable)
    if not known:
        raise InputError("the sequences do not fit at once", field="length", value=int(lengths.sum()),
                         allowed=f"{num_device * float((cost.capacity / cost.degree).max()):.0f} tokens")  # fmt: skip
    return min(known, key=lambda one: one.seconds)


def _bucket(length: Ints) -> tuple[list[list[int]], Floats]:
    """Sequences of like length together, and the length that stands for them: their largest."""
    order = np.argsort(length, kind="stable")
    edge = np.geomspace(max(length.min(), 1), length.max() + 1, MAX_BUCKET + 1)
    which = np.clip(np.searchsorted(edge, length[order], side="right"), 1, MAX_BUCKET)
    members = [order[which == bucket].tolist() for bucket in np.unique(which)]
    return members, np.array([float(length[member].max()) for member in members])


def _pooled(cost: GroupCost, length: Ints, num_device: int, usable: list[int], upper: float) -> list[Assignment]:
    members, value = _bucket(length)
    count = np.array([len(member) for member in members])
    alone = np.array(
        [[group_seconds(cost, at, [v]) if v <= cost.capacity[at] else np.inf for v in value] for at in usable]
    )
    low = float(alone.min(axis=0).max())
    if not np.isfinite(low):
        return []
    found: list[Assignment] = []
    high = upper if np.isfinite(upper) else low * len(length)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        chosen = _fewest(cost, members, value, count, alone, num_device, usable, middle, length)
        if chosen is None:
            low = middle
        else:
            found.append(chosen)
            high = min(middle, chosen.seconds)
    return found


def _fewest(
    cost: GroupCost, members: list[list[int]], value: Floats, count: Ints, alone: Floats, num_device: int,
    usable: list[int], limit: float, length: Ints,
) -> Assignment | None:  # fmt: skip
    """Pools of every degree that do all within `limit` on the fewest devices, split into groups."""
    num, bucket = len(usable), len(value)
    size = num + num * bucket  # groups of a degree, then sequences of a bucket on a degree
    degree = np.array([cost.degree[at] for at in usable], np.float64)
    rows: list[Floats] = []
    low: list[float] = []
    high: list[float] = []
    for part in range(bucket):
        row = np.zeros(size)
        row[num + part :: bucket] = 1
        rows.append(row)
        low.append(float(count[part]))
        high.append(float(count[part]))
    for place, at in enumerate(usable):
        pool = slice(num + place * bucket, num + (place + 1) * bucket)
        work = cost.token_s[at] * value + cost.square_s[at] * value**2
        comm = cost.comm_token_s[at] * value - cost.hide_square_s[at] * value**2
        for per_item, fixed, room in (
            (work, cost.fixed_s[at], limit),
            (work + comm, cost.fixed_s[at] + cost.comm_fixed_s[at], limit),
            (value, 0.0, cost.capacity[at]),
        ):
            row = np.zeros(size)
            row[pool] = per_item / room
            row[place] = fixed / room - 1
            rows.append(row)
            low.append(-np.inf)
            high.append(0.0)
    most = np.concatenate([num_device // degree, np.where(alone <= limit, count, 0).ravel()])
    price = np.concatenate([degree, np.zeros(num * bucket)])
    rows.append(price)
    low.append(0.0)
    high.append(float(num_device))
    answer = milp(price, constraints=LinearConstraint(np.array(rows), low, high), bounds=Bounds(0, most),
                  integrality=np.ones(size, np.int64), options={"time_limit": 2.0, "mip_rel_gap": 0.02})  # fmt: skip
    if answer.x is None:
        return None
    whole = np.rint(answer.x).astype(int)
    queue = [list(member) for member in members]
    spare = num_device - int(whole[:num] @ degree)
    groups: list[tuple[int, list[int]]] = []
    for place, at in enumerate(usable):
        taken: list[int] = []
        for part in range(bucket):
            amount = whole[num + place * bucket + part]
            taken += queue[part][:amount]
            del queue[part][:amount]
        if not taken:
            continue
        number = int(whole[place])
        split = spread(cost, length, taken, at, number)
        while split is None and spare >= degree[place]:  # another group where packing wastes room
            number, spare = number + 1, spare - int(degree[place])
            split = spread(cost, length, taken, at, number)
        if split is None:
            return None
        groups += [(at, member) for member in split]
    return build(cost, length, groups)


def _slots(cost: GroupCost, length: Ints, num_device: int, usable: list[int]) -> list[Assignment]:
    """The exact program: a binary a slot, a binary a sequence and slot, and the time of the slowest slot."""
    slot = [at for at in usable for _ in range(min(num_device // cost.degree[at], len(length)))]
    num, many, value = len(slot), len(length), length.astype(np.float64)
    size = 1 + num + num * many
    rows: list[Floats] = []
    low: list[float] = []
    high: list[float] = []

    def add(row: Floats, least: float, most: float) -> None:
        rows.append(row)
        low.append(least)
        high.append(most)

    for index in range(many):
        row = np.zeros(size)
        row[1 + num + index :: many] = 1
        add(row, 1.0, 1.0)
    for place, at in enumerate(slot):
        pool = slice(1 + num + place * many, 1 + num + (place + 1) * many)
        work = cost.token_s[at] * value + cost.square_s[at] * value**2
        comm = cost.comm_token_s[at] * value - cost.hide_square_s[at] * value**2
        for per_item, fixed in (
            (work, cost.fixed_s[at]),
            (work + comm, cost.fixed_s[at] + cost.comm_fixed_s[at]),
            (0 * work, cost.floor_s),
            (comm, cost.floor_s + cost.comm_fixed_s[at]),
        ):
            row = np.zeros(size)
            row[0], row[1 + place], row[pool] = -1, fixed, per_item
            add(row, -np.inf, 0.0)
        row = np.zeros(size)
        row[1 + place], row[pool] = -1, value / cost.capacity[at]
        add(row, -np.inf, 0.0)
        for index in range(many):  # a sequence only where the slot is open
            row = np.zeros(size)
            row[1 + place], row[1 + num + place * many + index] = -1, 1
            add(row, -np.inf, 0.0)
        if place and slot[place - 1] == at:  # slots of a degree open in order
            row = np.zeros(size)
            row[1 + place], row[place] = 1, -1
            add(row, -np.inf, 0.0)
    row = np.zeros(size)
    row[1 : 1 + num] = [cost.degree[at] for at in slot]
    add(row, 0.0, float(num_device))
    aim = np.zeros(size)
    aim[0] = 1
    whole = np.ones(size, np.int64)
    whole[0] = 0
    most = np.ones(size)
    most[0] = np.inf
    answer = milp(aim, constraints=LinearConstraint(np.array(rows), low, high), bounds=Bounds(0, most),
                  integrality=whole, options={"time_limit": 60.0, "mip_rel_gap": 1e-6})  # fmt: skip
    if answer.x is None:
        return []
    held = np.rint(answer.x[1 + num :]).astype(int).reshape(num, many)
    return [build(cost, length, [(at, np.flatnonzero(row).tolist()) for at, row in zip(slot, held, strict=True)])]
