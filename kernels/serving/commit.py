"""A step ends: what it computed is committed, and sequences that are done leave."""

from kernels.jit import njit
from kernels.serving.gap import bucket
from kernels.serving.kvstore import share
from kernels.serving.layout import (
    ASKED_TOKEN,
    ASLEEP,
    AT_FLIGHT,
    BLOCK_TOKEN,
    BOOK_GAP,
    DEFERRED,
    DONE,
    END,
    EPOCH,
    EVICTABLE_BLOCK,
    FINAL_TOKEN,
    FINISHED,
    FIRST,
    FLIGHT_HEAD,
    FREE_BLOCK,
    HOLD,
    IDLE,
    IN_FLIGHT,
    IN_KV,
    IN_PLAN,
    IN_RUNNING,
    INTEGRATED,
    KV,
    KV_GROW,
    KV_MAX_GROW,
    KV_SUM,
    KV_TOKEN,
    LANE_END,
    LANE_NUM,
    LANE_NUM_PLAN,
    LAST,
    LAST_END,
    LOAD_TOKEN,
    NUM_BLOCK,
    NUM_CLASS,
    NUM_FINISHED,
    NUM_FLIGHT,
    NUM_GROW,
    NUM_KV_FIELD,
    NUM_LANE,
    NUM_OUTPUT_TOKEN,
    OUTPUT,
    OUTSTANDING,
    PREFILL,
    PRODUCED,
    PROMPT,
    REPEAT,
    REPEATING,
    ROLE,
    SEQ,
    STATUS,
    TARGET,
    TOKEN,
    Replica,
)
from kernels.serving.release import release_children
from kernels.serving.verbs import drop, end_kv, lane_at


@njit
def integrate(r: Replica, time_ps: int) -> None:
    """Carries the integrals of KV use over time to `time_ps`."""
    reg = r.reg
    span = time_ps - reg[INTEGRATED]
    if span > 0:
        reg[INTEGRATED] = time_ps
        real = r.real
        used = reg[NUM_BLOCK] - reg[FREE_BLOCK] - reg[EVICTABLE_BLOCK]
        real[0] += float(reg[KV_TOKEN]) * span
        real[1] += float(reg[FINAL_TOKEN]) * span
        real[2] += float(reg[ASKED_TOKEN]) * span
        real[3] += float(used * reg[BLOCK_TOKEN]) * span


@njit
def commit(r: Replica) -> int:
    """Commits the oldest step in flight at its end and returns that time."""
    reg = r.reg
    lane = reg[reg[AT_FLIGHT] + reg[FLIGHT_HEAD]]
    reg[FLIGHT_HEAD] = (reg[FLIGHT_HEAD] + 1) % reg[NUM_LANE]
    reg[NUM_FLIGHT] -= 1
    at = lane_at(reg, lane)
    end = reg[at + LANE_END]
    integrate(r, end)
    reg[at + IN_FLIGHT] = 0
    if reg[at + REPEATING] == 1:
        num_grow = reg[at + NUM_GROW]
        reg[at + DEFERRED] += 1
        reg[at + REPEAT] -= 1
        r.book[reg[BOOK_GAP] + bucket(end - reg[at + LAST_END])] += num_grow
        reg[KV_TOKEN] += num_grow
        reg[NUM_OUTPUT_TOKEN] += num_grow
        reg[LOAD_TOKEN] += num_grow
    else:
        _commit_plan(r, at, end)
    for kv in range(at + IN_KV, at + IN_KV + reg[NUM_CLASS] * NUM_KV_FIELD, NUM_KV_FIELD):
        reg[kv + KV_SUM] += reg[kv + KV_GROW]
        reg[kv + KV_MAX_GROW] += 1 if reg[kv + KV_GROW] > 0 else 0
    reg[at + LAST_END] = end
    for k in range(reg[NUM_LANE]):
        reg[lane_at(reg, k) + ASLEEP] = 0
    return end


@njit
def _commit_plan(r: Replica, at: int, end: int) -> None:
    seq, reg = r.seq, r.reg
    num_end = num_token = num_output = 0
    gap = reg[BOOK_GAP]
    first = at + reg[IN_PLAN]
    for row in range(first, first + 4 * reg[at + LANE_NUM_PLAN], 4):
        i = reg[row + SEQ]
        role = reg[row + ROLE]
        if role == IDLE:
            continue
        num_token += reg[row + TOKEN]
        seq[i, KV] += reg[row + TOKEN]
        if role == PREFILL:
            share(r, i)
            if seq[i, KV] < seq[i, TARGET]:
                continue
        produced = seq[i, PRODUCED] + 1
        seq[i, PRODUCED] = produced
        num_output += 1
        if produced == 1:
            seq[i, FIRST] = end
        else:
            r.book[gap + bucket(end - seq[i, LAST])] += 1
        seq[i, LAST] = end
        if produced == seq[i, OUTPUT]:
            num_end += 1
            seq[i, STATUS] = DONE
    reg[KV_TOKEN] += num_token
    reg[NUM_OUTPUT_TOKEN] += num_output
    reg[LOAD_TOKEN] += num_output
    reg[at + LANE_NUM_PLAN] = 0
    if num_end > 0:
        reg[at + REPEAT] = 0
        end_done(r, at, end)


@njit
def end_done(r: Replica, at: int, end: int) -> None:
    """Ends the sequences that are done; where a batch is held together, once all of it is done."""
    seq, reg = r.seq, r.reg
    first = at + reg[IN_RUNNING]
    stop = first + reg[at + LANE_NUM]
    if reg[HOLD] == 1:
        for k in range(first, stop):
            if seq[reg[k], STATUS] != DONE:
                return
    kept = first
    for k in range(first, stop):
        i = reg[k]
        if seq[i, STATUS] == DONE:
            end_kv(r, i)
            drop(r, i)
            seq[i, STATUS] = FINISHED
            seq[i, END] = end
            reg[OUTSTANDING] -= 1
            reg[LOAD_TOKEN] -= seq[i, PROMPT] + seq[i, OUTPUT]
            reg[NUM_FINISHED] += 1
            release_children(r, i, end)
        else:
            reg[kept] = i
            kept += 1
    reg[at + LANE_NUM] = kept - first
    reg[EPOCH] += 1
