"""Hybrid data parallelism: every sequence takes the ranks that it needs, and every rank as much work as the others.

A static mesh cuts packs of a whole context over as many ranks as the longest sequence needs: short ones send their keys
and values round the same ring, and a pack of short ones waits at the end of the step for a pack of one long one. Here a
sequence is cut over the fewest ranks whose memory holds it (fewer where part of its activations goes to the host under
its own compute), short ones are packed on one rank, and a scheduler gives the longest work first to the ranks that are
done soonest (Ge et al. 2025, ByteScale). Ranks meet at the end of a step only.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kernels.errors import InputError
from kernels.train_plan import Floats
from sim.training.assign_sequences import Ints
from sim.training.group_cost import GroupCost, group_seconds

# of the seven products of attention with recomputed scores two are the forward pass; of the six of a matrix two
FORWARD_SHARE = 2 / 7


class Piece(NamedTuple):
    """Sequences (by index) that share ranks for one microbatch: which degree, how long, how much goes to the host."""

    at: int
    sequence: tuple[int, ...]
    seconds: float
    offload: float = 0.0


class RankPlan(NamedTuple):
    """What a step takes: pieces, the first of each one's ranks, and when every rank is done."""

    piece: tuple[Piece, ...]
    first_rank: tuple[int, ...]
    rank_s: Floats

    @property
    def seconds(self) -> float:
        return float(self.rank_s.max())

    @property
    def idle(self) -> float:
        """Share of the ranks' time that nothing fills."""
        return float(1 - self.rank_s.mean() / self.rank_s.max())


def pack(length: Ints, member: Sequence[int], room: float) -> list[list[int]]:
    """Sequences into as few packs of `room` tokens as first-fit, longest first, makes.

    >>> pack(np.array([5, 4, 3, 2]), range(4), 7.0)
    [[0, 3], [1, 2]]
    """
    packs: list[list[int]] = []
    left = np.zeros(len(member))
    for index in sorted(member, key=lambda i: -length[i]):
        fits = np.flatnonzero(left[: len(packs)] >= length[index])
        if len(fits):
            place = int(fits[0])
        else:
            place = len(packs)
            packs.append([])
            left[place] = room
        packs[place].append(index)
        left[place] -= length[index]
    return packs


def fewest(cost: GroupCost, length: int) -> int:
    """Index of the fewest ranks whose memory holds a sequence."""
    for at, room in enumerate(cost.capacity):
        if length <= room:
            return at
    raise InputError("a sequence fits nowhere", field="length", value=length, allowed=f"<= {cost.capacity.max():.0f}")


def offloaded(cost: GroupCost, at: int, length: int, host_byte_per_s: float) -> float | None:
    """Share of the activations that must go to the host for a sequence on `cost.degree[at]` ranks; None where that
    takes longer than its forward pass, under which it must hide."""
    share = max(0.0, 1 - float(cost.capacity[at]) / length)
    out_s = share * float(cost.token_byte[at]) * length / host_byte_per_s
    return share if out_s <= FORWARD_SHARE * group_seconds(cost, at, [length]) else None


def hybrid_step(
    cost: GroupCost, length: Sequence[int] | Ints, num_rank: int, *, host_byte_per_s: float = 0.0, balance: bool = True
) -> RankPlan:  # fmt: skip
    """A step of hybrid data parallelism. Without `balance` pieces go to the ranks in the order that they come, as a
    data loader deals them out; with it the longest go first, to the ranks that are done soonest, and a sequence that
    would outlast the mean takes more ranks. With a host, activations go there where fewer ranks then do the same
    sooner in all: never slower than without."""
    lengths = np.asarray(length, np.int64)
    ranks = [fewest(cost, value) for value in lengths.tolist()]
    plan = _with_ranks(cost, lengths, ranks, num_rank, balance)
    if host_byte_per_s <= 0:
        return plan
    shares = dict.fromkeys(range(len(ranks)), 0.0)
    for index in np.flatnonzero(ranks).tolist():
        for at in range(ranks[index]):
            share = offloaded(cost, at, int(lengths[index]), host_byte_per_s)
            if share is not None and group_seconds(cost, at, [lengths[index]]) <= plan.seconds:
                ranks[index], shares[index] = at, share
                break
    return min(plan, _with_ranks(cost, lengths, ranks, num_rank, balance, shares), key=lambda one: one.seconds)


def _with_ranks(
    cost: GroupCost, lengths: Ints, ranks: Sequence[int], num_rank: int, balance: bool,
    shares: Mapping[int, float] | None = None,
) -> RankPlan:  # fmt: skip
    """Long sequences on the ranks given for them, short ones packed on one rank each."""
    share = shares or {}
    alone = cost.degree.index(1)
    long = [index for index, at in enumerate(ranks) if at != alone or share.get(index)]
    short = [index for index, at in enumerate(ranks) if at == alone and not share.get(index)]
    pieces = [
        Piece(ranks[index], (index,), group_seconds(cost, ranks[index], [lengths[index]]), share.get(index, 0.0))
        for index in long
    ]
    packs = pack(lengths, short, float(cost.capacity[alone]))
    pieces += [Piece(alone, tuple(one), group_seconds(cost, alone, lengths[one])) for one in packs]
    if not balance:
        return _deal(cost, sorted(pieces, key=lambda piece: piece.sequence[0]), num_rank, False)
    mean = sum(piece.seconds * cost.degree[piece.at] for piece in pieces) / num_rank
    plans = []
    for limit in (mean, 2 * mean, np.inf):
        wide = [_widen(cost, lengths, piece, limit, num_rank) for piece in pieces]
        plans.append(_deal(cost, sorted(wide, key=lambda piece: -piece.seconds), num_rank, True))
    return min(plans, key=lambda plan: plan.seconds)


def _widen(cost: GroupCost, lengths: Ints, piece: Piece, limit: float, num_rank: int) -> Piece:
    """The piece on more ranks, while it takes longer than `limit` and they help."""
    at, now = piece.at, piece.seconds
    while now > limit and at + 1 < len(cost.degree) and cost.degree[at + 1] <= num_rank:
        wider = group_seconds(cost, at + 1, lengths[list(piece.sequence)])
        if wider >= now:
            break
        at, now = at + 1, wider
    return piece if at == piece.at else Piece(at, piece.sequence, now)


def static_step(cost: GroupCost, length: Sequence[int] | Ints, num_rank: int, context: int) -> RankPlan:
    """A step of a static mesh: packs of `context` tokens, each over as many ranks as that takes, dealt out in turn."""
    lengths = np.asarray(length, np.int64)
    holds = [at for at, room in enumerate(cost.capacity) if room >= context]
    if not holds or lengths.max() > context:
        raise InputError(
            "does not fit the mesh", field="context", value=context, allowed=f"<= {cost.capacity.max():.0f}"
        )
    packs = pack(lengths, range(len(lengths)), float(context))
    pieces = [Piece(holds[0], tuple(one), group_seconds(cost, holds[0], lengths[one])) for one in packs]
    return _deal(cost, sorted(pieces, key=lambda piece: min(piece.sequence)), num_rank, False)


def _deal(cost: GroupCost, pieces: Sequence[Piece], num_rank: int, balance: bool) -> RankPlan:
    """Pieces in order to aligned runs of ranks: the run that is free soonest, or each in its turn."""
    done, first, turn = np.zeros(num_rank), [], 0
    for piece in pieces:
        degree = cost.degree[piece.at]
        if degree > num_rank:
            raise InputError("more ranks than there are", field="degree", value=degree, allowed=f"<= {num_rank}")
        count = num_rank // degree
        if balance:
            chosen = int(np.argmin(done[: count * degree].reshape(count, degree).max(axis=1)))
        else:
            chosen = -(-turn // degree) % count
            turn = (chosen + 1) * degree % num_rank
        ranks = slice(chosen * degree, (chosen + 1) * degree)
        done[ranks] = done[ranks].max() + piece.seconds
        first.append(chosen * degree)
    return RankPlan(tuple(pieces), tuple(first), done)
