"""What came of a run: one row a request, one a step where asked for, and the accounts of every replica."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernels.optable import BOUNDS
from kernels.serving import layout as at
from kernels.serving.price import StepPrice

Ints = npt.NDArray[np.int64]
COUNTERS: tuple[str, ...] = at.REGISTERS[at.NUM_STEP : at.ATTN_NJ]


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
    token_count: Ints  # [replica, token] steps of so many computed tokens
    head_count: Ints  # [replica, sampled]
    attn_ps: Ints  # [replica, class, 2 (prefill, decode), bound], all layers
    attn_nj: Ints
    attn_kb: Ints  # kilobytes of device memory
    attn_mflop: Ints
    gap_count: Ints  # [bucket] times between two tokens of a sequence; edges: kernels.serving.gap.edges_s
    kv_token_ps: npt.NDArray[np.float64]  # [replica, 4] token, final, asked, allocated tokens over time
    num_block: int  # a replica
    block_token: int
    price: StepPrice


REQUEST_COLUMNS: dict[str, int] = {
    "arrival_ps": at.ARRIVAL, "start_ps": at.START, "first_token_ps": at.FIRST, "last_token_ps": at.LAST,
    "end_ps": at.END, "prompt_token": at.PROMPT, "output_token": at.OUTPUT, "produced_token": at.PRODUCED,
    "cached_token": at.CACHED, "num_preempted": at.PREEMPTED, "replica": at.REPLICA, "status": at.STATUS,
    "reason": at.REASON,
}  # fmt: skip


def collect(
    s: at.Stack, p: StepPrice, engine: str, complete: bool, policy: str, router: str, logs: list[Ints], recorded: bool
) -> ServeResult:
    """Reads a `ServeResult` out of a fleet's arrays; request columns are views of them."""
    step = None
    if recorded:
        step = np.concatenate([np.zeros((0, at.NUM_LOG_COLUMN), np.int64), *logs])
        step = step[np.lexsort((step[:, 1], step[:, 0], step[:, 2]))]
    if not complete:
        _settle_all(s)
    reg = s.reg[0]
    num = len(s.reg)
    num_class, num_stage = len(p.decode_shape), len(p.dense_ps)
    head, gap, attn, log = (int(reg[k]) for k in (at.BOOK_HEAD, at.BOOK_GAP, at.BOOK_ATTN, at.BOOK_LOG))
    accounts = s.book[:, attn:log].reshape(num, num_class, 2, len(BOUNDS), at.NUM_ACCOUNT_FIELD)
    stages = s.reg[:, at.AT_STAGE : at.AT_STAGE + at.NUM_STAGE_FIELD * num_stage].reshape(num, num_stage, -1)
    return ServeResult(
        engine=engine,
        complete=complete,
        policy=policy,
        router=router,
        request={name: s.seq[:, column] for name, column in REQUEST_COLUMNS.items()},
        step=step,
        counter={name: s.reg[:, at.REGISTERS.index(name)].copy() for name in COUNTERS},
        span_ps=int(stages[:, :, at.STAGE_FREE].max()),
        stage_busy_ps=stages[:, :, at.STAGE_BUSY].copy(),
        token_count=s.book[:, :head],
        head_count=s.book[:, head:gap],
        attn_ps=accounts[..., 0],
        attn_nj=accounts[..., 1],
        attn_kb=accounts[..., 2],
        attn_mflop=accounts[..., 3],
        gap_count=s.book[:, gap:attn].sum(axis=0),
        kv_token_ps=s.real[:, : len(at.INTEGRALS)].copy(),
        num_block=int(reg[at.NUM_BLOCK]),
        block_token=int(reg[at.BLOCK_TOKEN]),
        price=p,
    )


def _settle_all(s: at.Stack) -> None:
    """Writes what an interrupted run has deferred."""
    from kernels.serving.types import view_of
    from kernels.serving.verbs import settle

    for k in range(len(s.reg)):
        for lane in range(int(s.reg[k, at.NUM_LANE])):
            settle(view_of(s, k), lane)
