"""Why an engine can never serve a request; or never again, once a preemption has lost its KV.

A request is refused at its arrival for what it needs in any case. Computing it again may need more: its windows have
not left behind then what they had while it decoded, and where a step holds whole prompts, the prompt has grown. Whether
it is preempted nobody knows beforehand, so that this is asked when it is.
"""

from kernels.engine.adapter import rank_of
from kernels.engine.buddy import ceil_pow2
from kernels.engine.lanes import reserved_token
from kernels.engine.records import (
    NO_REASON,
    PAGED,
    RANK_BLOCK,
    REASON_CONTEXT,
    REASON_KV,
    REASON_STEP,
    Engine,
)
from kernels.engine.store import block_for, step_block
from kernels.jit import njit


@njit
def refusal(e: Engine, i: int) -> int:
    """Why request i can never be served, as a code of `REASONS`; 0: it can, if it is not preempted."""
    me, s = e.me, e.seq[i]
    total = s.prompt + s.output
    if total > me.max_context_token:
        return REASON_CONTEXT
    if me.reserve == PAGED:
        # the most that it holds at once: while its prompt is computed, or with what is drafted beyond its last token
        last = min(total - 1 + me.lookahead, me.max_context_token)
        if _exceeds(e, i, max(block_for(e, total - 2, last), step_block(e, 0, s.prompt))):
            return REASON_KV
    elif ceil_pow2(block_for(e, 0, reserved_token(e, i))) > ceil_pow2(me.num_block + 1) // 2:
        return REASON_KV  # the largest chunk is the largest power of two within the memory
    return REASON_STEP if me.whole_prompt == 1 and s.prompt > me.max_step_token else NO_REASON


@njit
def lost_for_good(e: Engine, i: int) -> int:
    """Why the `target` tokens of sequence i, paged and without KV, can never be computed again; 0: they can."""
    me, target = e.me, e.seq[i].target
    if _exceeds(e, i, step_block(e, 0, target)):
        return REASON_KV
    return REASON_STEP if me.whole_prompt == 1 and target > me.max_step_token else NO_REASON


@njit
def _exceeds(e: Engine, i: int, num_block: int) -> bool:
    """Whether sequence i's blocks, and its adapter's, are more than it can be admitted with."""
    me = e.me
    if me.state_block > 0:  # where it is, where it was, what a step leaves between, and where steps in flight begin
        num_block += me.state_block * (2 + me.state_export + me.plan_ahead + me.pooled * (me.num_lane - 1))
    if e.seq[i].adapter > 0:
        num_block += rank_of(e, i, RANK_BLOCK)
    return num_block + (me.watermark_block if me.by_admission == 0 else 0) > me.num_block
