"""Many steps of one plan at once: the inner loop of a run, for a replica without pipeline stages.

While a plan of decodes stands, a step differs from the one before only in its KV lengths and in the blocks it
takes. What is the same in each step is added up afterwards; what differs is kept in a few numbers. The result is
what `begin_repeat` and `commit` give one step at a time, to the last bit.
"""

from kernels.jit import njit
from kernels.serving.gap import bucket, bucket_edges
from kernels.serving.kvstore import allocate
from kernels.serving.layout import (
    ASKED_TOKEN,
    AT_FLIGHT,
    AT_LANE,
    AT_STAGE,
    ATTN_NJ,
    BESIDE_PS,
    BLOCK_TOKEN,
    BOOK_ATTN,
    BOOK_GAP,
    BOOK_HEAD,
    DEFERRED,
    EVICTABLE_BLOCK,
    FINAL_TOKEN,
    FLIGHT_HEAD,
    FREE_BLOCK,
    IN_FLIGHT,
    IN_KV,
    IN_RESIDUE,
    INTEGRATED,
    KV_GROW,
    KV_MAX_GROW,
    KV_MAX_STILL,
    KV_SUM,
    KV_TOKEN,
    LANE_END,
    LANE_NUM,
    LAST_END,
    LOAD_TOKEN,
    NOW,
    NUM_ACCOUNT_FIELD,
    NUM_BLOCK,
    NUM_DECODE_STEP,
    NUM_FLIGHT,
    NUM_GROW,
    NUM_KV_FIELD,
    NUM_OUTPUT_TOKEN,
    NUM_PAD_TOKEN,
    NUM_ROW,
    NUM_SAMPLED,
    NUM_STEP,
    NUM_TOKEN,
    PAGED,
    PEAK_BLOCK,
    REPEAT,
    REPEATING,
    RESERVE,
    RESIDUE,
    STAGE_BUSY,
    STAGE_FREE,
    Replica,
)
from kernels.serving.price import (
    ATTN_LAYER,
    DENSE_PS,
    HEAD_PS,
    NUM_CLASS,
    SEQ_PS,
    STEP_PS,
    TOKEN_PS,
    PackedPrice,
    decode_cost,
    dispatch_ps,
)
from kernels.serving.step import ATTN_SIZE, NUM_BOUND
from kernels.serving.sub_batch import interleaves, saved_ps
from kernels.serving.waiting import head


@njit
def repeat_ahead(r: Replica, p: PackedPrice, start_ps: int, horizon_ps: int, most: int) -> int:
    """Repeats the lane's plan from `start_ps` on, at most `most` times and as long as steps begin before the
    horizon; a step that ends after it stays in flight. Returns how many steps were launched: 0 where the first
    lacks blocks."""
    reg, table, book, real = r.reg, p.table, r.book, r.real
    at = reg[AT_LANE]
    num_row, num_grow, block_token = reg[at + LANE_NUM], reg[at + NUM_GROW], reg[BLOCK_TOKEN]
    num_class = table[NUM_CLASS]
    paged = reg[RESERVE] == PAGED
    residue, turn = at + reg[IN_RESIDUE], reg[at + RESIDUE]
    host_ps = table[STEP_PS] + (table[SEQ_PS] + table[TOKEN_PS]) * num_row
    fixed_ps = table[table[DENSE_PS] + num_row] + table[table[HEAD_PS] + num_row]
    least_ps = dispatch_ps(p, 0, num_row, 0)
    final, asked = float(reg[FINAL_TOKEN]), float(reg[ASKED_TOKEN])
    most = min(most, reg[at + REPEAT])
    time_ps = start_ps
    low_ps = high_ps = slot = 0
    steps = ended = 0
    peak = reg[PEAK_BLOCK]
    attn_nj = 0
    splits = interleaves(p, num_row)
    while steps < most and time_ps < horizon_ps:
        if paged:
            need = reg[residue + turn]
            if need > reg[FREE_BLOCK]:
                if head(r) >= 0 or not allocate(r, need):  # an eviction may let the head of the queue in
                    break
            else:
                reg[FREE_BLOCK] -= need
        used = reg[NUM_BLOCK] - reg[FREE_BLOCK] - reg[EVICTABLE_BLOCK]
        peak = max(peak, used)
        turn = (turn if turn > 0 else block_token) - 1
        device_ps = fixed_ps
        for c in range(num_class):
            kv = at + IN_KV + c * NUM_KV_FIELD
            longest = max(reg[kv + KV_MAX_GROW], reg[kv + KV_MAX_STILL])
            cost_ps, cost_nj, bound, cost_kb, cost_mflop = decode_cost(p, c, num_row, reg[kv + KV_SUM], longest)
            num_layer = table[table[ATTN_LAYER] + c]
            account = reg[BOOK_ATTN] + c * ATTN_SIZE + (NUM_BOUND + bound) * NUM_ACCOUNT_FIELD
            book[account] += num_layer * cost_ps
            book[account + 1] += num_layer * cost_nj
            book[account + 2] += num_layer * cost_kb
            book[account + 3] += num_layer * cost_mflop
            device_ps += num_layer * cost_ps
            attn_nj += num_layer * cost_nj
        if splits:
            saved = saved_ps(p, 0, num_row, reg, at + IN_KV)
            device_ps -= saved
            reg[BESIDE_PS] += saved
        end = time_ps + host_ps + max(device_ps, least_ps)
        steps += 1
        if end > horizon_ps:
            reg[at + LANE_END] = end
            reg[at + IN_FLIGHT] = 1
            reg[at + REPEATING] = 1
            reg[reg[AT_FLIGHT] + reg[FLIGHT_HEAD]] = 0
            reg[NUM_FLIGHT] = 1
            reg[NOW] = time_ps
            reg[AT_STAGE + STAGE_FREE] = end
            reg[AT_STAGE + STAGE_BUSY] += end - time_ps
            break
        span = end - time_ps
        real[0] += float(reg[KV_TOKEN]) * span
        real[1] += final * span
        real[2] += asked * span
        real[3] += float(used * block_token) * span
        gap_ps = end - reg[at + LAST_END]
        if gap_ps < low_ps or gap_ps >= high_ps:
            slot = bucket(gap_ps)
            low_ps, high_ps = bucket_edges(slot)
        book[reg[BOOK_GAP] + slot] += num_grow
        for c in range(num_class):
            kv = at + IN_KV + c * NUM_KV_FIELD
            reg[kv + KV_SUM] += reg[kv + KV_GROW]
            reg[kv + KV_MAX_GROW] += 1 if reg[kv + KV_GROW] > 0 else 0
        reg[KV_TOKEN] += num_grow
        reg[at + LAST_END] = end
        reg[AT_STAGE + STAGE_BUSY] += span
        ended += 1
        time_ps = end
    reg[at + RESIDUE] = turn
    reg[PEAK_BLOCK] = peak
    reg[ATTN_NJ] += attn_nj
    reg[NUM_STEP] += steps
    reg[NUM_DECODE_STEP] += steps
    for register in (NUM_ROW, NUM_TOKEN, NUM_SAMPLED):
        reg[register] += steps * num_row
    reg[NUM_PAD_TOKEN] += steps * (num_row - num_grow)
    book[num_row] += steps
    book[reg[BOOK_HEAD] + num_row] += steps
    if ended > 0:
        reg[at + DEFERRED] += ended
        reg[at + REPEAT] -= ended
        reg[NUM_OUTPUT_TOKEN] += ended * num_grow
        reg[LOAD_TOKEN] += ended * num_grow
        reg[INTEGRATED] = reg[at + LAST_END]
        if steps == ended:
            reg[NOW] = time_ps
            reg[AT_STAGE + STAGE_FREE] = time_ps
    return steps
