"""A request reaches a replica: it is refused for good, or joins the waiting queue."""

from kernels.jit import njit
from kernels.serving.buddy import ceil_pow2
from kernels.serving.kvstore import ceil_div
from kernels.serving.layout import (
    ARRIVAL,
    ASLEEP,
    BLOCK_TOKEN,
    END,
    EPOCH,
    HIDDEN,
    KEY,
    LOAD_TOKEN,
    MAX_CONTEXT,
    MAX_STEP_TOKEN,
    NO_REASON,
    NOW,
    NUM_BLOCK,
    NUM_LANE,
    NUM_PLAN,
    NUM_REFUSED,
    OUTPUT,
    OUTSTANDING,
    PAGED,
    PLAN_AHEAD,
    PROMPT,
    REASON,
    REASON_CONTEXT,
    REASON_KV,
    REASON_STEP,
    REFUSED,
    REPLICA,
    RESERVE,
    SEEN,
    STATUS,
    TARGET,
    WAITING,
    WATERMARK_BLOCK,
    WHOLE_PROMPT,
    Replica,
)
from kernels.serving.release import release_children
from kernels.serving.verbs import lane_at, reserved_token
from kernels.serving.waiting import push


@njit
def refusal(r: Replica, i: int) -> int:
    """Why request i can never be served, as a code of `REASONS`; 0: it can."""
    reg, seq = r.reg, r.seq
    total = seq[i, PROMPT] + seq[i, OUTPUT]
    if total > reg[MAX_CONTEXT]:
        return REASON_CONTEXT
    if reg[RESERVE] == PAGED:
        if ceil_div(total - 1, reg[BLOCK_TOKEN]) + reg[WATERMARK_BLOCK] > reg[NUM_BLOCK]:
            return REASON_KV
    elif ceil_pow2(ceil_div(reserved_token(r, i), reg[BLOCK_TOKEN])) > ceil_pow2(reg[NUM_BLOCK] + 1) // 2:
        return REASON_KV  # the largest chunk is the largest power of two within the memory
    if reg[WHOLE_PROMPT] == 1 and (total - 1 if reg[RESERVE] == PAGED else seq[i, PROMPT]) > reg[MAX_STEP_TOKEN]:
        return REASON_STEP  # paged sequences may have to compute again what they produced
    return NO_REASON


@njit
def deliver(r: Replica, i: int, replica: int, time_ps: int) -> None:
    """Request i reaches this replica's queue, or is refused for good. Its key is its arrival, or its rank (below
    2^25) and then its arrival to a tenth of a millisecond."""
    reg, seq = r.reg, r.seq
    seq[i, REPLICA] = replica
    seq[i, REASON] = refusal(r, i)
    if seq[i, REASON] != NO_REASON:
        seq[i, STATUS] = REFUSED
        seq[i, END] = time_ps
        reg[NUM_REFUSED] += 1
        release_children(r, i, time_ps)
        return
    seq[i, STATUS] = WAITING
    seq[i, TARGET] = seq[i, PROMPT]
    seq[i, KEY] = seq[i, ARRIVAL] if seq[i, KEY] < 0 else (seq[i, KEY] << 37) + seq[i, ARRIVAL] // 100_000_000
    seq[i, SEEN] = reg[NUM_PLAN] + 1 + reg[PLAN_AHEAD]
    reg[HIDDEN] = seq[i, SEEN]
    push(r, i)
    reg[OUTSTANDING] += 1
    reg[LOAD_TOKEN] += seq[i, PROMPT]
    reg[EPOCH] += 1
    reg[NOW] = max(reg[NOW], time_ps)
    for k in range(reg[NUM_LANE]):
        reg[lane_at(reg, k) + ASLEEP] = 0
