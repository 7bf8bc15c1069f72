"""A request reaches an engine: it is refused for good, or joins the waiting queue."""

from kernels.engine.adapter import rank_of
from kernels.engine.buddy import ceil_pow2
from kernels.engine.commit import release_children, tell
from kernels.engine.heap import push
from kernels.engine.lanes import reserved_token
from kernels.engine.records import (
    NO_REASON,
    PAGED,
    RANK_BLOCK,
    REASON_CONTEXT,
    REASON_KV,
    REASON_STEP,
    REFUSED,
    WAITING,
    Engine,
)
from kernels.engine.store import block_for, step_block
from kernels.jit import njit

KEY_BIT = 37  # of a key, below a rank: the arrival


@njit
def refusal(e: Engine, i: int) -> int:
    """Why request i can never be served, as a code of `REASONS`; 0: it can."""
    me, s = e.me, e.seq[i]
    total = s.prompt + s.output
    if total > me.max_context_token:
        return REASON_CONTEXT
    if me.reserve == PAGED:
        # the most that it holds at once: with what is drafted beyond its last token, or where it is preempted before
        # and a step computes again as much as it can of all but that token: its windows have not left that behind
        last = min(total - 1 + me.lookahead, me.max_context_token)
        most = max(block_for(e, total - 2, last), step_block(e, 0, s.prompt), step_block(e, 0, total - 1))
        most += rank_of(e, i, RANK_BLOCK) if s.adapter > 0 else 0
        if most + (me.watermark_block if me.by_admission == 0 else 0) > me.num_block:
            return REASON_KV
    elif ceil_pow2(block_for(e, 0, reserved_token(e, i))) > ceil_pow2(me.num_block + 1) // 2:
        return REASON_KV  # the largest chunk is the largest power of two within the memory
    if me.whole_prompt == 1 and (total - 1 if me.reserve == PAGED else s.prompt) > me.max_step_token:
        return REASON_STEP  # paged sequences may have to compute again what they produced
    return NO_REASON


@njit
def deliver(e: Engine, i: int, time_ps: int) -> None:
    """Request i reaches this engine's queue, or is refused for good. Its key is its arrival, or its rank (below
    2^25) and then its arrival to a tenth of a millisecond."""
    me, s = e.me, e.seq[i]
    s.replica = me.index
    s.reason = refusal(e, i)
    if s.reason != NO_REASON:
        s.status = REFUSED
        s.end_ps = time_ps
        me.num_refused += 1
        release_children(e, i, time_ps)
        tell(e, i)
        return
    s.status = WAITING
    s.target = s.prompt
    s.key = s.arrival_ps if s.key < 0 else (s.key << KEY_BIT) + s.arrival_ps // 100_000_000
    s.seen = me.num_plan + 1 + me.plan_ahead
    me.hidden = s.seen
    push(e, i)
    me.outstanding += 1
    me.load_token += s.prompt
    me.epoch += 1
    if me.pooled == 1 and me.num_flight > 0:
        return  # the engine waits for a step to end, and looks at its queue then
    me.now_ps = max(me.now_ps, time_ps)
    for k in range(me.num_lane):
        e.lane[k].asleep = 0
