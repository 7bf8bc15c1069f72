"""What came of a run: one row a request, one a step where asked for, and the accounts of every replica."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernels.engine import records as at
from kernels.engine.price import StepPrice
from kernels.optable import BOUNDS
from sim.serving import tiers

Ints = npt.NDArray[np.int64]
COUNTERS = at.COUNTERS


@dataclass(frozen=True, eq=False)
class DraftWork:
    """What the draft model of a run did, all replicas."""

    time_ps: int
    token_count: Ints  # [1, token] passes of so many computed tokens
    head_count: Ints  # [1, sampled]
    attn: Ints  # [class, 2 (prefill, decode), bound, ACCOUNT_FIELDS], all layers


@dataclass(frozen=True, eq=False)
class ServeResult:
    """Arrays of a run. Times are picoseconds, -1 where there is none; energies nanojoules."""

    engine: str  # "run-ahead" or "stepping"
    complete: bool  # False: interrupted, what was done until then stands
    policy: str
    router: str
    request: dict[str, Ints]  # [request] columns of REQUEST_COLUMNS
    step: Ints | None  # [step, LOG_COLUMNS] in order of start, where recorded
    counter: dict[str, Ints]  # [replica], named COUNTERS
    span_ps: int  # from time 0 to the last end of a step
    stage_busy_ps: Ints  # [replica, stage] in steps, host overhead included
    token_count: Ints  # [1, token] steps of so many computed tokens, all replicas
    head_count: Ints  # [1, sampled]
    attn_ps: Ints  # [1, class (scan rows behind those of attention), 2 (prefill, decode), bound], all layers
    attn_nj: Ints
    attn_kb: Ints  # kilobytes of device memory
    attn_mflop: Ints
    gap_count: Ints  # [bucket] times between two tokens of a sequence; edges: kernels.engine.gap.edges_s
    kv_token_ps: npt.NDArray[np.float64]  # [replica, 4] token, final, asked, allocated tokens over time
    num_block: int  # a replica
    block_token: int
    price: StepPrice
    draft: DraftWork | None = None
    tier_unit: Ints | None = None  # [tier, 3] prefix units read from, written to and lost from each tier


REQUEST_COLUMNS: dict[str, str] = {
    "arrival_ps": "arrival_ps", "start_ps": "start_ps", "first_token_ps": "first_ps", "last_token_ps": "last_ps",
    "end_ps": "end_ps", "prompt_token": "prompt", "output_token": "output", "produced_token": "produced",
    "cached_token": "cached", "num_verify": "verified", "drafted_token": "drafted", "accepted_token": "accepted",
    "num_preempted": "preempted", "replica": "replica", "status": "status",
    "reason": "reason",
}  # fmt: skip


def collect(
    w: at.World, p: StepPrice, engine: str, complete: bool, policy: str, router: str, logs: list[Ints], recorded: bool
) -> ServeResult:
    """Reads a `ServeResult` out of a pool's records; request columns are views of them."""
    step = None
    if recorded:
        step = np.concatenate([np.zeros((0, at.NUM_LOG_COLUMN), np.int64), *logs])
        step = step[np.lexsort((step[:, 1], step[:, 0], step[:, 2]))]
    if not complete:
        _settle_all(w)
    me, book = w.engine[0], w.book
    head, gap, attn, stop = (int(me[name]) for name in ("book_head", "book_gap", "book_attn", "book_draft"))
    accounts = book[attn:stop].reshape(1, len(p.decode_shape) + len(p.scan), 2, len(BOUNDS), at.NUM_ACCOUNT_FIELD)
    return ServeResult(
        engine=engine,
        complete=complete,
        policy=policy,
        router=router,
        request={name: w.seq[field] for name, field in REQUEST_COLUMNS.items()},
        step=step,
        counter={name: w.engine[name].copy() for name in COUNTERS},
        span_ps=int(w.lane["free_ps"].max()),
        stage_busy_ps=w.lane["busy_ps"].copy(),
        token_count=book[None, at.IN_TOKEN : head],
        head_count=book[None, head:gap],
        attn_ps=accounts[..., 0],
        attn_nj=accounts[..., 1],
        attn_kb=accounts[..., 2],
        attn_mflop=accounts[..., 3],
        gap_count=book[gap:attn].copy(),
        kv_token_ps=np.stack([w.engine[name] for name in at.INTEGRALS], axis=1),
        num_block=int(me["num_block"]),
        block_token=int(me["block_token"]),
        price=p,
        draft=None if p.draft is None else _draft(w, p.draft),
        tier_unit=tiers.counts(w),
    )


def _draft(w: at.World, p: StepPrice) -> DraftWork:
    start, head, attn, stop = (
        int(w.engine[0][name]) for name in ("book_draft", "book_draft_head", "book_draft_attn", "book_log")
    )
    return DraftWork(
        int(w.engine["draft_ps"].sum()), w.book[None, start:head].copy(), w.book[None, head:attn].copy(),
        w.book[attn:stop].reshape(len(p.decode_shape), 2, len(BOUNDS), at.NUM_ACCOUNT_FIELD).copy(),
    )  # fmt: skip


def _settle_all(w: at.World) -> None:
    """Writes what an interrupted run has deferred."""
    from kernels.engine.lanes import settle_all
    from kernels.engine.types import engine_of

    for k in range(len(w.engine)):
        settle_all(engine_of(w, k))
