"""Steps that verify drafts: attention of several queries a sequence, and the draft model's passes before it.

A decode that verifies is a row of 1 + k queries on one span; where all have the same k, they are one batch, else they
are priced from their features. The draft model first computes the step's prompts, then what it proposes, pass after
pass: pass j has the sequences that need so many, `draft_width` tokens each, on the span that sequence and earlier
passes have left. Without a draft model (n-gram tables, prompt look-up) drafts cost nothing.
"""

from kernels.attention import NUM_FEATURE
from kernels.attention_work import CAUSAL, keys_seen, longest_span
from kernels.engine.lanes import lane_at
from kernels.engine.price import (
    ATTN_LAYER,
    DENSE_NJ,
    DENSE_PS,
    DRAFT_TABLE,
    HEAD_NJ,
    HEAD_PS,
    NUM_CLASS,
    PREFILL_PS,
    SEQ_PS,
    STEP_PS,
    TOKEN_PS,
    Cost,
    PackedPrice,
    add_prefill,
    add_verify,
    dispatch_ps,
    draft_of,
    is_padded,
    prefill_cost,
    ragged_cost,
    verify_cost,
    window_of,
)
from kernels.engine.records import (
    DECODE,
    IN_FEATURE,
    KV_MAX_GROW,
    KV_MAX_STILL,
    KV_SUM,
    NUM_ACCOUNT_FIELD,
    NUM_KV_FIELD,
    PAD,
    PREFILL,
    ROLE,
    ROW,
    SEQ,
    TOKEN,
    Engine,
    Floats,
)
from kernels.jit import njit
from kernels.optable import BOUNDS

NUM_BOUND = len(BOUNDS)
MANY = 1 << 30


@njit
def feature_of(e: Engine, k: int) -> Floats:
    """The k-th place for features of a step's attention, cleared."""
    feature = e.real[IN_FEATURE + k * NUM_FEATURE : IN_FEATURE + (k + 1) * NUM_FEATURE]
    for j in range(NUM_FEATURE):
        feature[j] = 0.0
    return feature


@njit
def attend(e: Engine, p: PackedPrice, number: int, c: int, num_row: int, query_low: int, query_high: int) -> Cost:
    """Attention of class c, one layer, of the lane's `num_row` decodes of `query_low` to `query_high` queries, whose
    keys `begin` has counted."""
    at = lane_at(e, number)
    kv = at + c * NUM_KV_FIELD
    if query_low == query_high or is_padded(p, c):
        longest = max(e.work[kv + KV_MAX_GROW], e.work[kv + KV_MAX_STILL])
        return verify_cost(p, c, num_row, query_high, e.work[kv + KV_SUM], longest)
    feature = feature_of(e, e.me.num_class + c)
    first = at + e.me.in_plan
    for row in range(first, first + ROW * e.lane[number].num_plan, ROW):
        if e.work[row + ROLE] != PREFILL:
            s = e.seq[e.work[row + SEQ]]
            add_verify(p, c, feature, e.work[row + TOKEN], s.kv + s.ahead)
    return ragged_cost(p, c, feature)


@njit
def draft(e: Engine, p: PackedPrice, number: int) -> int:
    """Lets the draft model run before the lane's step: its time goes to the first stage, its work to the books.
    Returns its energy."""
    if p.table[DRAFT_TABLE] == 0:
        return 0
    d = draft_of(p)
    time_ps = most = token = num_row = kv_sum = kv_max = width = 0
    least = MANY
    alike = True  # passes of as many tokens a sequence, on whole spans
    for c in range(d.table[NUM_CLASS]):
        alike = alike and window_of(d, c) == 0
    first = lane_at(e, number) + e.me.in_plan
    for row in range(first, first + ROW * e.lane[number].num_plan, ROW):
        if e.work[row + ROLE] == PREFILL:
            token += e.work[row + TOKEN] + e.work[row + PAD]
        elif e.work[row + ROLE] == DECODE and num_pass(e, row) > 0:
            s = e.seq[e.work[row + SEQ]]
            most, least = max(most, num_pass(e, row)), min(least, num_pass(e, row))
            alike = alike and (num_row == 0 or s.draft_width == width)
            width = s.draft_width
            num_row += 1
            kv = s.kv + s.ahead - e.work[row + TOKEN]
            kv_sum, kv_max = kv_sum + kv, max(kv_max, kv)
    energy_nj = 0
    if token > 0:
        spent_ps, spent_nj = _prompts(e, d, number, token)
        time_ps += spent_ps
        energy_nj += spent_nj
    for j in range(1, most + 1):
        if alike and j <= least:
            kv_sum, kv_max = kv_sum + num_row * width, kv_max + width
            spent_ps, spent_nj = _even_pass(e, d, num_row, width, kv_sum, kv_max)
        else:
            spent_ps, spent_nj = _pass(e, d, number, j)
        time_ps += spent_ps
        energy_nj += spent_nj
    e.lane[0].draft_ps = time_ps
    e.me.draft_ps += time_ps
    return energy_nj


@njit
def num_pass(e: Engine, row: int) -> int:
    """Passes of the draft model for the decode at `row`: none for tokens that are not verified."""
    return min(e.seq[e.work[row + SEQ]].draft_pass, e.work[row + TOKEN] - 1)


@njit
def _prompts(e: Engine, d: PackedPrice, number: int, token: int) -> tuple[int, int]:
    """The step's chunks of prompts, all in one pass: picoseconds and nanojoules."""
    first = lane_at(e, number) + e.me.in_plan
    device_ps = d.table[d.table[DENSE_PS] + token] + d.table[d.table[HEAD_PS]]  # nothing is sampled
    energy_nj = d.table[d.table[DENSE_NJ] + token] + d.table[d.table[HEAD_NJ]]
    for c in range(d.table[NUM_CLASS]):
        feature = feature_of(e, 3 * e.me.num_class + c)
        for row in range(first, first + ROW * e.lane[number].num_plan, ROW):
            if e.work[row + ROLE] == PREFILL:
                s = e.seq[e.work[row + SEQ]]
                padded = e.work[row + TOKEN] + e.work[row + PAD]
                add_prefill(d, c, feature, padded, s.kv + s.ahead - e.work[row + TOKEN] + padded)
        spent_ps, spent_nj = _account(e, d, c, 0, prefill_cost(d, c, feature))
        device_ps += spent_ps
        energy_nj += spent_nj
    e.book[e.me.book_draft + token] += 1
    e.book[e.me.book_draft_head] += 1
    host_ps = d.table[STEP_PS] + d.table[TOKEN_PS] * token + d.table[PREFILL_PS]
    return host_ps + max(device_ps, dispatch_ps(d, 0, token, 1)), energy_nj


@njit
def _pass(e: Engine, d: PackedPrice, number: int, j: int) -> tuple[int, int]:
    """The j-th pass of what is proposed, from 1: picoseconds and nanojoules."""
    first = lane_at(e, number) + e.me.in_plan
    stop = first + ROW * e.lane[number].num_plan
    num_row = token = low = high = 0
    for row in range(first, stop, ROW):
        if e.work[row + ROLE] == DECODE and num_pass(e, row) >= j:
            width = e.seq[e.work[row + SEQ]].draft_width
            low = width if num_row == 0 else min(low, width)
            high = max(high, width)
            num_row += 1
            token += width
    device_ps = d.table[d.table[DENSE_PS] + token] + d.table[d.table[HEAD_PS] + token]
    energy_nj = d.table[d.table[DENSE_NJ] + token] + d.table[d.table[HEAD_NJ] + token]
    for c in range(d.table[NUM_CLASS]):
        window = window_of(d, c)
        ragged = low != high
        feature = feature_of(e, 3 * e.me.num_class + c)
        kv_sum = kv_max = 0
        for row in range(first, stop, ROW):
            if e.work[row + ROLE] != DECODE or num_pass(e, row) < j:
                continue
            s = e.seq[e.work[row + SEQ]]
            kv = s.kv + s.ahead - e.work[row + TOKEN] + j * s.draft_width
            if ragged:
                add_verify(d, c, feature, s.draft_width, kv)
            kv_sum += keys_seen(s.draft_width, kv, CAUSAL, window)
            kv_max = max(kv_max, longest_span(kv, window))
        if ragged and not is_padded(d, c):
            cost = ragged_cost(d, c, feature)
        else:
            cost = verify_cost(d, c, num_row, high, kv_sum, kv_max)
        spent_ps, spent_nj = _account(e, d, c, 1, cost)
        device_ps += spent_ps
        energy_nj += spent_nj
    return _end_pass(e, d, num_row, token, device_ps), energy_nj


@njit
def _even_pass(e: Engine, d: PackedPrice, num_row: int, width: int, kv_sum: int, kv_max: int) -> tuple[int, int]:
    """A pass of `width` tokens for each of `num_row` sequences, which no window cuts: what `_pass` gives, from sums."""
    token = num_row * width
    device_ps = d.table[d.table[DENSE_PS] + token] + d.table[d.table[HEAD_PS] + token]
    energy_nj = d.table[d.table[DENSE_NJ] + token] + d.table[d.table[HEAD_NJ] + token]
    for c in range(d.table[NUM_CLASS]):
        spent_ps, spent_nj = _account(e, d, c, 1, verify_cost(d, c, num_row, width, kv_sum, kv_max))
        device_ps += spent_ps
        energy_nj += spent_nj
    return _end_pass(e, d, num_row, token, device_ps), energy_nj


@njit
def _end_pass(e: Engine, d: PackedPrice, num_row: int, token: int, device_ps: int) -> int:
    """Books a pass; its picoseconds with the host's."""
    e.book[e.me.book_draft + token] += 1
    e.book[e.me.book_draft_head + token] += 1
    host_ps = d.table[STEP_PS] + d.table[SEQ_PS] * num_row + d.table[TOKEN_PS] * token
    return int(host_ps + max(device_ps, dispatch_ps(d, 0, token, 0)))


@njit
def _account(e: Engine, d: PackedPrice, c: int, phase: int, cost: Cost) -> tuple[int, int]:
    """Adds a layer's cost, times its layers, to the draft model's accounts; returns time and energy of all."""
    num_layer = d.table[d.table[ATTN_LAYER] + c]
    at = e.me.book_draft_attn + ((c * 2 + phase) * NUM_BOUND + cost[2]) * NUM_ACCOUNT_FIELD
    e.book[at] += num_layer * cost[0]
    e.book[at + 1] += num_layer * cost[1]
    e.book[at + 2] += num_layer * cost[3]
    e.book[at + 3] += num_layer * cost[4]
    return num_layer * cost[0], num_layer * cost[1]
