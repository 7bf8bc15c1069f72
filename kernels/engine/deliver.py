"""A request reaches an engine: it is refused (it can never run, or the queue is full), or joins the waiting queue."""

from kernels.engine.commit import release_children, tell
from kernels.engine.heap import push
from kernels.engine.records import NO_REASON, REASON_QUEUE, REFUSED, WAITING, Engine
from kernels.engine.refusal import refusal
from kernels.jit import njit

KEY_BIT = 37  # of a key, below a rank: the arrival


@njit
def deliver(e: Engine, i: int, time_ps: int) -> None:
    """Request i reaches this engine's queue, or is refused for good. Its key is its arrival, or its rank (below
    2^25) and then its arrival to a tenth of a millisecond."""
    me, s = e.me, e.seq[i]
    s.replica = me.index
    s.reason = refusal(e, i)
    if s.reason == NO_REASON and s.produced == 0 and _is_full(e):
        s.reason = REASON_QUEUE  # what came with tokens of its own, from another engine, is never turned away
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


@njit
def _is_full(e: Engine) -> bool:
    """Whether as many wait, or are here, as may."""
    me = e.me
    return 0 < me.max_queue <= me.num_waiting or 0 < me.max_in_flight <= me.outstanding
