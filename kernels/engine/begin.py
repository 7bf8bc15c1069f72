"""A step begins: its plan is priced and sent down the pipeline."""

from typing import Any

from kernels.attention import NUM_FEATURE
from kernels.attention_work import longest_span
from kernels.engine.abort import first_deadline
from kernels.engine.adapter import fetch_ahead
from kernels.engine.adapter_price import book_adapters, price_adapters
from kernels.engine.admission import read_ahead
from kernels.engine.apart import spread_saved_ps
from kernels.engine.beside import hidden_ps
from kernels.engine.brings import take_nj
from kernels.engine.cache import evicts_unseen
from kernels.engine.heap import head
from kernels.engine.lanes import lane_at, list_of
from kernels.engine.price import (
    APART,
    BLOCK_PS,
    DENSE_NJ,
    DENSE_PS,
    HEAD_NJ,
    HEAD_PS,
    NUM_CLASS,
    NUM_SCAN,
    NUM_STAGE,
    PREFILL_PS,
    SEND_NJ,
    SEND_PS,
    SEQ_PS,
    STEP_PS,
    STRIDE,
    TOKEN_PS,
    Cost,
    PackedPrice,
    add_prefill,
    decode_cost,
    dispatch_ps,
    layer_of,
    layers_of,
    prefill_cost,
    window_of,
)
from kernels.engine.records import (
    BUDGET,
    DECODE,
    GROUP_FIELDS,
    GROUP_RULE,
    GROUP_SIZE,
    GROUP_WEIGHT,
    IN_FEATURE,
    IN_FLIGHT_RING,
    IN_TOKEN,
    KV_GROW,
    KV_MAX_GROW,
    KV_MAX_STILL,
    KV_SUM,
    LINEAR,
    NUM_ACCOUNT_FIELD,
    NUM_KV_FIELD,
    NUM_LOG_COLUMN,
    PAD,
    PAGED,
    PREFILL,
    RATIO,
    ROLE,
    ROW,
    SEQ,
    TOKEN,
    WINDOW,
    Engine,
    Ints,
)
from kernels.engine.scan import scan_cost
from kernels.engine.snapshot import still_state
from kernels.engine.span import find_spans, keep_span, kept_span
from kernels.engine.store import allocate, used_block
from kernels.engine.sub_batch import interleaves, saved_ps
from kernels.engine.verify import attend, draft
from kernels.jit import njit, njit_inline
from kernels.optable import BOUNDS
from kernels.units import FOREVER_PS, LONGEST_PS

NUM_BOUND = len(BOUNDS)
ATTN_SIZE = 2 * NUM_BOUND * NUM_ACCOUNT_FIELD  # of a class: prefill and decode, bounds, fields
ALWAYS = 1 << 40


@njit
def begin(e: Engine, p: PackedPrice, number: int, time_ps: int, repeat: int) -> None:
    """Prices the lane's plan and launches it; decides for how many steps the plan may be repeated."""
    me, lane, work = e.me, e.lane[number], e.work
    at = lane_at(e, number)
    num_row, num_class = lane.num_plan, p.table[NUM_CLASS]
    for k in range(at, at + me.in_running):
        work[k] = 0
    for k in range(IN_FEATURE, IN_FEATURE + 3 * num_class * NUM_FEATURE):
        e.real[k] = 0.0
    token = pad = sampled = num_decode = num_prefill = num_idle = prefill_token = padded_token = query_high = 0
    query_low = ALWAYS
    left = repeat
    first = at + me.in_plan
    lane.span_token = find_spans(e, p, first, first + ROW * num_row) if me.span_row > 0 else 0
    if me.num_rank > 0:
        price_adapters(e, p, number, first, first + ROW * num_row)
    for row in range(first, first + ROW * num_row, ROW):
        s = e.seq[work[row + SEQ]]
        if work[row + ROLE] == PREFILL:
            num = work[row + TOKEN]
            padded = num + work[row + PAD]
            start = s.kv + s.ahead - num
            num_prefill += 1
            prefill_token += num
            padded_token += padded
            token += padded
            pad += work[row + PAD]
            if start + num >= s.target:
                sampled += 1
            for c in range(num_class):
                feature = e.real[IN_FEATURE + c * NUM_FEATURE : IN_FEATURE + (c + 1) * NUM_FEATURE]
                read = min(start, me.kept_token) if me.kept_token > 0 and window_of(p, c) == 0 else start
                add_prefill(p, c, feature, padded, read + padded)
            continue
        query = work[row + TOKEN]
        token += query
        sampled += query
        query_low, query_high = min(query_low, query), max(query_high, query)
        kv = s.kv + s.ahead
        grows = work[row + ROLE] == DECODE
        if grows:
            num_decode += 1
            left = min(left, s.output - s.produced - 2)
            left = min(left, _add_need(e, at, kv))
            if me.state_block > 0:
                left = min(left, still_state(e, work[row + SEQ], kv))
        else:
            num_idle += 1
            pad += 1
        for c in range(num_class):
            window = window_of(p, c)
            own = kv - s.span if window == 0 else kv
            kept = me.kept_token if window == 0 else 0
            left = min(left, _add_decode(work, at + c * NUM_KV_FIELD, own, window, kept, query, grows))
    step_nj = draft(e, p, number)
    for c in range(num_class):
        if num_prefill > 0:
            feature = e.real[IN_FEATURE + c * NUM_FEATURE : IN_FEATURE + (c + 1) * NUM_FEATURE]
            prefill = prefill_cost(p, c, feature)
            step_nj += _account(e, p, c, 0, prefill)
        if num_decode + num_idle > 0:
            decode = attend(e, p, number, c, num_decode + num_idle, query_low, query_high)
            step_nj += _account(e, p, c, 1, decode)
            if lane.span_token > 0:
                keep_span(e, p, at, c)
                step_nj += _account(e, p, c, 1, kept_span(e, at, c))
            if num_prefill > 0:
                _hide(e, p, c, hidden_ps(prefill[0], decode[0], decode[2], p.real))
    if p.table[NUM_SCAN] > 0:
        step_nj += _scans(e, p, padded_token, num_prefill, num_decode + num_idle)
    if num_prefill == 0 and query_high == 1:  # two sub-batches are of plain decodes
        _split(e, p, at, num_decode + num_idle)
    elif p.table[APART] > 0:
        _spread(e, p, token)
    clean = num_prefill == 0 and me.touched == 0 and num_row == _num_ready(e, number) and me.hidden <= me.num_plan
    clean = clean and query_high == 1
    if me.pooled == 1 and not clean:
        me.epoch += 1  # what this lane leaves undone, any lane may do
    if me.gives_back == 1 and head(e) >= 0:
        left = 0  # what windows give back, in this step or the next ones, may let the head of the queue in
    lane.stands = max(0, left) if clean else 0
    lane.repeat_epoch = me.epoch
    lane.deadline_ps = first_deadline(e, list_of(e, number))
    lane.repeating = 0
    lane.num_still = num_row
    lane.num_grow = num_decode
    lane.phase = 0
    moved = me.swap_block
    me.swap_block = 0
    _launch(
        e, p, number, time_ps, token, num_row, sampled, moved, pad, num_prefill, num_idle, prefill_token, step_nj
    )  # fmt: skip
    if me.num_rank > 0:
        fetch_ahead(e)
    if me.num_tier > 0:
        read_ahead(e)


@njit
def _num_ready(e: Engine, number: int) -> int:
    """Sequences of the lane's running list that no other lane computes."""
    if e.me.pooled == 0:
        return e.lane[number].num
    count = 0
    first = lane_at(e, 0) + e.me.in_running
    for k in range(first, first + e.lane[0].num):
        s = e.seq[e.work[k]]
        other = s.flight != number + 1 and s.flight > 0 and e.lane[s.flight - 1].in_flight == 1
        count += 0 if other and s.kv >= s.target else 1
    return count


@njit
def begin_repeat(e: Engine, p: PackedPrice, number: int, time_ps: int) -> bool:
    """Launches the lane's last plan once more; False where its blocks do not suffice and a plan must be made."""
    me, lane = e.me, e.lane[number]
    at = lane_at(e, number)
    if me.reserve == PAGED:
        if me.free_block < lane.room and me.evictable_block > 0:
            return False
        need, give = e.work[at + me.in_need + lane.phase], e.work[at + me.in_give + lane.phase]
        if give > 0 and need > me.free_block:  # who grows first finds no block that another is still to give back
            return False
        # the eviction may let the head of the queue in, or move what it evicts
        if (head(e) >= 0 or me.num_tier > 0) and not evicts_unseen(e, need):
            return False
        if not allocate(e, need):
            return False
        me.free_block += give
    num_row = lane.num_still
    step_nj = 0
    for c in range(p.table[NUM_CLASS]):
        step_nj += _account(e, p, c, 1, _decode(e, p, at, c, num_row))
        if lane.span_token > 0:
            step_nj += _account(e, p, c, 1, kept_span(e, at, c))
    if p.table[NUM_SCAN] > 0:
        step_nj += _scans(e, p, 0, 0, num_row)
    _split(e, p, at, num_row)
    lane.repeating = 1
    lane.phase = (lane.phase if lane.phase > 0 else me.block_token) - 1
    num_idle = num_row - lane.num_grow
    _launch(e, p, number, time_ps, num_row, num_row, num_row, 0, num_idle, 0, num_idle, 0, step_nj)
    return True


@njit_inline
def _add_need(e: Engine, at: int, kv: int) -> int:
    """Counts, in the entry of `need` of the lane at `at` that the step meets, the blocks that a decode at `kv` tokens
    takes as it goes on, and in that of `give` those that its windows leave behind; for how many more steps that holds.

    Entries are met downward from 0: what is at `kv % block_token` is met when the sequence is at a multiple of it.
    """
    if e.me.plain == 1:
        e.work[at + e.me.in_need + kv % e.me.block_token] += 1
        return ALWAYS
    return _need_by_group(e.me, e.work, at + e.me.in_need, at + e.me.in_give, kv)


@njit
def _need_by_group(me: Any, work: Ints, at: int, give: int, kv: int) -> int:
    size = me.block_token
    left = ALWAYS
    for g in range(me.num_group):
        group = me.at_group + g * len(GROUP_FIELDS)
        rule, reach, weight = work[group + GROUP_RULE], work[group + GROUP_SIZE], work[group + GROUP_WEIGHT]
        if rule == LINEAR:
            work[at + kv % size] += weight
        elif rule == WINDOW:
            work[at + kv % size] += weight
            if kv >= reach:
                work[give + (kv - reach + 1) % size] += weight
            else:
                left = min(left, reach - kv)
        elif rule == BUDGET and kv < reach:
            work[at + kv % size] += weight
            left = min(left, reach - kv)
        elif rule == RATIO:  # a plan of its own for each step that takes a block
            held = (kv // reach + size - 1) // size
            left = min(left, (held * size + 1) * reach - kv - 1)
    return left


@njit_inline
def _add_decode(work: Ints, at: int, kv: int, window: int, kept: int, query: int, grows: bool) -> int:
    """Adds a row of `query` queries on `kv` keys, of which a query reads the last `window` or any `kept` (0: no limit),
    to the sums of its class at `at`; how many more steps they only count up."""
    most = max(window, kept)
    if most > 0 and kv > most:
        work[at + KV_SUM] += min(kv, most + query - 1)
        work[at + KV_MAX_STILL] = longest_span(kv, window) if window > 0 else most
        return ALWAYS
    work[at + KV_SUM] += kv
    if not grows:
        work[at + KV_MAX_STILL] = max(work[at + KV_MAX_STILL], kv)
        return ALWAYS
    work[at + KV_GROW] += 1
    work[at + KV_MAX_GROW] = max(work[at + KV_MAX_GROW], kv)
    return most - kv if most > 0 else ALWAYS


@njit
def _decode(e: Engine, p: PackedPrice, at: int, c: int, num_row: int) -> Cost:
    """Prices the decode attention of class c of the lane at `at`, one layer."""
    kv = at + c * NUM_KV_FIELD
    longest = max(e.work[kv + KV_MAX_GROW], e.work[kv + KV_MAX_STILL])
    return decode_cost(p, c, num_row, e.work[kv + KV_SUM], longest)


@njit
def _scans(e: Engine, p: PackedPrice, prompt_token: int, num_prompt: int, num_decode: int) -> int:
    """Adds the recurrences of a step; returns their energy."""
    energy_nj = 0
    for row in range(p.table[NUM_SCAN]):
        c = p.table[NUM_CLASS] + row
        if num_prompt > 0:
            energy_nj += _account(e, p, c, 0, scan_cost(p, row, 0, prompt_token, num_prompt))
        if num_decode > 0:
            energy_nj += _account(e, p, c, 1, scan_cost(p, row, 1, num_decode, num_decode))
    return energy_nj


@njit
def _hide(e: Engine, p: PackedPrice, c: int, layer_ps: int) -> None:
    """Takes what a layer of class c does beside something else out of the stages' time."""
    table = p.table
    for s in range(table[NUM_STAGE]):
        saved = layers_of(table, s, c) * layer_ps
        e.lane[s].attn_ps -= saved
        e.me.beside_ps += saved


@njit
def _split(e: Engine, p: PackedPrice, at: int, num_row: int) -> None:
    """Runs a step of decodes alone in two sub-batches where the machine's rule says so."""
    if not interleaves(p, num_row):
        return
    for s in range(p.table[NUM_STAGE]):
        saved = saved_ps(p, s, num_row, e.work, at)
        e.lane[s].attn_ps -= saved
        e.me.beside_ps += saved


@njit
def _spread(e: Engine, p: PackedPrice, token: int) -> None:
    """Runs a step with prompts in the microbatches of a model whose layers are computed on two machines."""
    saved = spread_saved_ps(p, token, e.lane[0].attn_ps)
    e.lane[0].attn_ps -= saved
    e.me.beside_ps += saved


@njit
def _account(e: Engine, p: PackedPrice, c: int, phase: int, cost: Cost) -> int:
    """Adds a layer's cost, times its layers, to the stages and to the accounts; returns the energy of all."""
    table = p.table
    num_layer = 0
    for s in range(table[NUM_STAGE]):
        here = layers_of(table, s, c)
        num_layer += here
        e.lane[s].attn_ps += here * cost[0]
    at = e.me.book_attn + c * ATTN_SIZE + (phase * NUM_BOUND + cost[2]) * NUM_ACCOUNT_FIELD
    e.book[at] += num_layer * cost[0]
    e.book[at + 1] += num_layer * cost[1]
    e.book[at + 2] += num_layer * cost[3]
    e.book[at + 3] += num_layer * cost[4]
    e.me.attn_nj += num_layer * cost[1]
    return num_layer * cost[1]


@njit
def _adapters(e: Engine, p: PackedPrice, number: int) -> int:
    """Adds a layer's work for the lane's adapters, times its layers, to the stages; returns the energy of all."""
    lane, total = e.lane[number], 0
    for s in range(p.table[NUM_STAGE]):
        num_layer = layer_of(p, s)
        e.lane[s].attn_ps += num_layer * lane.adapter_ps
        total += num_layer
    book_adapters(e, number, total)
    return int(total * lane.adapter_nj)


@njit
def _launch(
    e: Engine, p: PackedPrice, number: int, time_ps: int, token: int, num_row: int, sampled: int, moved: int,
    pad: int, num_prefill: int, num_idle: int, prefill_token: int, attn_nj: int,
) -> None:  # fmt: skip
    """Passes a step through the stages: each begins when the one before has sent and its own last step is over."""
    me, table, lane = e.me, p.table, e.lane[number]
    num_stage = table[NUM_STAGE]
    attn_nj += take_nj(me)
    start = begun_ps = max(time_ps, e.lane[0].free_ps)
    if me.num_rank > 0:
        start = begun_ps = max(begun_ps, lane.ready_ps)
        me.fetch_wait_ps += begun_ps - max(time_ps, e.lane[0].free_ps)
        me.num_adapter_step += 1 if lane.adapter_ps > 0 else 0
        attn_nj += _adapters(e, p, number)
    if me.num_tier > 0:
        me.kv_wait_ps += max(0, me.kv_ready_ps - begun_ps)
        start = begun_ps = max(begun_ps, me.kv_ready_ps)
        me.kv_ready_ps = 0
    end = start + table[STEP_PS] + table[SEQ_PS] * num_row + table[TOKEN_PS] * token + table[BLOCK_PS] * moved
    end += e.lane[0].draft_ps
    if num_prefill > 0:
        end += table[PREFILL_PS]
    for s in range(num_stage):
        stage = e.lane[s]
        if s > 0:
            send_ps = table[table[SEND_PS] + (s - 1) * table[STRIDE] + token]
            start = max(end + send_ps, stage.free_ps)
            end = start
        device_ps = table[table[DENSE_PS] + s * table[STRIDE] + token] + stage.attn_ps
        if s == num_stage - 1:
            device_ps += table[table[HEAD_PS] + sampled]
        end += max(device_ps, dispatch_ps(p, s, token, num_prefill))
        if end >= FOREVER_PS or stage.attn_ps >= LONGEST_PS or e.lane[0].draft_ps >= LONGEST_PS:
            end = FOREVER_PS  # it never ends
        stage.attn_ps = 0
        stage.free_ps = end
        stage.busy_ps += end - start
    e.lane[0].draft_ps = 0
    lane.begun_ps = begun_ps
    lane.end_ps = end
    lane.in_flight = 1
    e.work[IN_FLIGHT_RING + (me.flight_head + me.num_flight) % me.num_lane] = number
    me.num_flight += 1
    me.num_step += 1
    me.num_row += num_row
    me.num_token += token
    me.num_pad_token += pad
    me.num_sampled += sampled
    me.num_prefill_step += 1 if num_prefill > 0 else 0
    me.num_decode_step += 1 if num_row > num_prefill else 0
    me.num_span_step += 1 if lane.span_token > 0 else 0
    me.num_span_token += lane.span_token
    used = used_block(e)
    me.peak_block = max(me.peak_block, used)
    e.book[IN_TOKEN + token] += 1
    e.book[me.book_head + sampled] += 1
    if me.log_max == 0:
        return
    energy_nj = attn_nj + table[table[HEAD_NJ] + sampled]
    for s in range(num_stage):
        at_token = s * table[STRIDE] + token
        energy_nj += table[table[DENSE_NJ] + at_token] + table[table[SEND_NJ] + at_token]
    row = me.book_log + e.book[0] * NUM_LOG_COLUMN
    e.book[0] += 1
    log = e.book[row : row + NUM_LOG_COLUMN]
    log[0], log[1] = me.index, number
    log[2], log[3] = begun_ps, end
    log[4], log[5], log[6] = num_prefill, num_row - num_prefill - num_idle, num_idle
    log[7], log[8], log[9], log[10] = prefill_token, pad, sampled, moved
    log[11], log[12], log[13] = used, me.evictable_block, me.kv_token
    log[14], log[15], log[16] = me.num_running, me.num_waiting, energy_nj
