"""Many steps of one plan at once: the inner loop of a run, for a replica without pipeline stages.

While a plan of decodes stands, a step differs from the one before only in its KV lengths and in the blocks it
takes. What is the same in each step is added up afterwards; what differs is kept in a few numbers. The result is
what `begin_repeat` and `commit` give one step at a time, to the last bit.
"""

from kernels.engine.adapter_price import book_adapters
from kernels.engine.begin import ATTN_SIZE, NUM_BOUND
from kernels.engine.cache import evicts_unseen
from kernels.engine.gap import bucket, bucket_edges
from kernels.engine.heap import head
from kernels.engine.price import (
    ATTN_LAYER,
    DENSE_PS,
    HEAD_PS,
    NUM_CLASS,
    NUM_SCAN,
    SEQ_PS,
    STEP_PS,
    TOKEN_PS,
    PackedPrice,
    decode_cost,
    dispatch_ps,
    layer_of,
    layers_of,
)
from kernels.engine.records import (
    IN_FLIGHT_RING,
    IN_TOKEN,
    KV_GROW,
    KV_MAX_GROW,
    KV_MAX_STILL,
    KV_SUM,
    NUM_ACCOUNT_FIELD,
    NUM_KV_FIELD,
    PAGED,
    Engine,
)
from kernels.engine.scan import scan_cost
from kernels.engine.span import kept_span
from kernels.engine.store import allocate, used_block
from kernels.engine.sub_batch import interleaves, saved_ps
from kernels.jit import njit
from kernels.units import FOREVER_PS, LONGEST_PS


@njit
def repeat_ahead(e: Engine, p: PackedPrice, start_ps: int, horizon_ps: int, most: int) -> int:
    """Repeats the lane's plan from `start_ps` on, at most `most` times and as long as steps begin before the
    horizon; a step that ends after it stays in flight. Returns how many steps were launched: 0 where the first
    lacks blocks."""
    me, lane, table, book, work = e.me, e.lane[0], p.table, e.book, e.work
    at = me.at_lane
    num_row, num_grow, block_token = lane.num_still, lane.num_grow, me.block_token
    num_class, layer_at = table[NUM_CLASS], table[ATTN_LAYER]
    paged = me.reserve == PAGED
    need_at, give_at, phase = at + me.in_need, at + me.in_give, lane.phase
    host_ps = table[STEP_PS] + (table[SEQ_PS] + table[TOKEN_PS]) * num_row
    fixed_ps = table[table[DENSE_PS] + num_row] + table[table[HEAD_PS] + num_row]
    for row in range(table[NUM_SCAN]):  # recurrences cost the same whatever the context
        fixed_ps += table[layer_at + num_class + row] * scan_cost(p, row, 1, num_row, num_row)[0]
    least_ps = dispatch_ps(p, 0, num_row, 0)
    final, asked = float(me.final_token), float(me.asked_token)
    most = min(most, lane.stands)
    time_ps, last_ps = start_ps, lane.last_end_ps
    low_ps = high_ps = slot = 0
    steps = ended = 0
    book_attn, book_gap = me.book_attn, me.book_gap
    # what a step changes is kept beside the records until the end
    free, used, peak, kv_token = me.free_block, used_block(e), me.peak_block, me.kv_token
    token_ps, final_ps, asked_ps, allocated_ps = me.token_ps, me.final_ps, me.asked_ps, me.allocated_ps
    attn_nj = beside_ps = busy_ps = 0
    splits = interleaves(p, num_row)
    if me.num_rank > 0:
        fixed_ps += layer_of(p, 0) * lane.adapter_ps
    if lane.span_token > 0:
        for c in range(num_class):
            fixed_ps += layers_of(p.table, 0, c) * kept_span(e, at, c)[0]
    while steps < most and time_ps < horizon_ps:
        if paged:
            need, give = work[need_at + phase], work[give_at + phase]
            if free < lane.room and me.evictable_block > 0:
                break
            if need > free:
                me.free_block = free
                kept = (head(e) >= 0 or me.num_tier > 0) and not evicts_unseen(e, need)
                if give > 0 or kept or not allocate(e, need):
                    break  # who grows first decides, or an eviction may let the head of the queue in
                free = me.free_block
                used = used_block(e)
            else:
                free -= need
                used += need
            free += give
            used -= give
            peak = max(peak, used)
        phase = (phase if phase > 0 else block_token) - 1
        device_ps = fixed_ps
        for c in range(num_class):
            kv = at + c * NUM_KV_FIELD
            longest = max(work[kv + KV_MAX_GROW], work[kv + KV_MAX_STILL])
            cost_ps, cost_nj, bound, cost_kb, cost_mflop = decode_cost(p, c, num_row, work[kv + KV_SUM], longest)
            num_layer = table[layer_at + c]
            account = book_attn + c * ATTN_SIZE + (NUM_BOUND + bound) * NUM_ACCOUNT_FIELD
            book[account] += num_layer * cost_ps
            book[account + 1] += num_layer * cost_nj
            book[account + 2] += num_layer * cost_kb
            book[account + 3] += num_layer * cost_mflop
            device_ps += num_layer * cost_ps
            attn_nj += num_layer * cost_nj
        if splits:
            saved = saved_ps(p, 0, num_row, work, at)
            device_ps -= saved
            beside_ps += saved
        end = time_ps + host_ps + max(device_ps, least_ps)
        if end >= FOREVER_PS or device_ps - fixed_ps >= LONGEST_PS:
            end = FOREVER_PS  # it never ends
        steps += 1
        busy_ps += end - time_ps
        if end > horizon_ps:
            lane.end_ps = end
            lane.in_flight = 1
            lane.repeating = 1
            work[IN_FLIGHT_RING + me.flight_head] = 0
            me.num_flight = 1
            me.now_ps = time_ps
            lane.free_ps = end
            break
        span = float(end - time_ps)
        token_ps += float(kv_token) * span
        final_ps += final * span
        asked_ps += asked * span
        allocated_ps += float(used * block_token) * span
        gap_ps = end - last_ps
        if gap_ps < low_ps or gap_ps >= high_ps:
            slot = bucket(gap_ps)
            low_ps, high_ps = bucket_edges(slot)
        book[book_gap + slot] += num_grow
        for c in range(num_class):
            kv = at + c * NUM_KV_FIELD
            work[kv + KV_SUM] += work[kv + KV_GROW]
            work[kv + KV_MAX_GROW] += 1 if work[kv + KV_GROW] > 0 else 0
        kv_token += num_grow
        last_ps = time_ps = end
        ended += 1
    for row in range(table[NUM_SCAN]):
        cost_ps, cost_nj, bound, cost_kb, cost_mflop = scan_cost(p, row, 1, num_row, num_row)
        times = steps * table[layer_at + num_class + row]
        account = book_attn + (num_class + row) * ATTN_SIZE + (NUM_BOUND + bound) * NUM_ACCOUNT_FIELD
        book[account] += times * cost_ps
        book[account + 1] += times * cost_nj
        book[account + 2] += times * cost_kb
        book[account + 3] += times * cost_mflop
        attn_nj += times * cost_nj
    lane.phase = phase
    lane.busy_ps += busy_ps
    me.free_block, me.peak_block, me.kv_token = free, peak, kv_token
    me.token_ps, me.final_ps, me.asked_ps, me.allocated_ps = token_ps, final_ps, asked_ps, allocated_ps
    me.attn_nj += attn_nj
    me.beside_ps += beside_ps
    me.num_step += steps
    me.num_decode_step += steps
    me.num_row += steps * num_row
    me.num_token += steps * num_row
    me.num_sampled += steps * num_row
    me.num_pad_token += steps * (num_row - num_grow)
    if me.num_rank > 0:
        me.num_adapter_step += steps if lane.adapter_ps > 0 else 0
        book_adapters(e, 0, steps * layer_of(p, 0))
    if lane.span_token > 0:
        me.num_span_step += steps
        me.num_span_token += steps * lane.span_token
        for c in range(num_class):
            cost = kept_span(e, at, c)
            times = steps * layers_of(p.table, 0, c)
            account = book_attn + c * ATTN_SIZE + (NUM_BOUND + cost[2]) * NUM_ACCOUNT_FIELD
            book[account] += times * cost[0]
            book[account + 1] += times * cost[1]
            book[account + 2] += times * cost[3]
            book[account + 3] += times * cost[4]
            me.attn_nj += times * cost[1]
    book[IN_TOKEN + num_row] += steps
    book[me.book_head + num_row] += steps
    if ended > 0:
        lane.last_end_ps = last_ps
        lane.deferred += ended
        lane.stands -= ended
        me.num_output_token += ended * num_grow
        me.load_token += ended * num_grow
        me.integrated_ps = last_ps
        if steps == ended:
            me.now_ps = time_ps
            lane.free_ps = time_ps
    return steps
