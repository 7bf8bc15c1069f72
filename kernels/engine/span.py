"""Spans that several decodes of a step share: their keys are read once, by one pass of all their queries.

A row holds named units (`kernels.engine.cache`) in front of what is its own; rows that hold the same unit share its
tokens, whatever named them: a system prompt, a document, samples of one prompt, turns of a tree. Consecutive units that
the same number of rows hold are one *span*: a row of work without causality with the queries of all of them
(RelayAttention, Hydragen), whose partial results are merged with those of each row's own keys. Where spans branch, each
node of the tree is a span. The kernel is that of decodes, a few queries on many keys, which cuts the keys into parts.

What may be a span is the engine's rule: rows that share it and tokens at least, and, where `span_common` says so, all
decodes of the step. What is not is read by every row for itself, as without this file, and so are the keys of layers
with a window.
"""

from kernels.attention import NUM_FEATURE, prefill_add
from kernels.attention_work import SPAN
from kernels.engine.price import (
    CLASS_SIZE,
    IN_DECODE,
    NUM_RATE,
    NUM_SHAPE,
    Cost,
    PackedPrice,
    ragged_cost,
    shape_at,
    window_of,
)
from kernels.engine.records import (
    IN_FEATURE,
    NUM_KV_FIELD,
    PREFILL,
    ROLE,
    ROW,
    SEQ,
    SPAN_BOUND,
    SPAN_KB,
    SPAN_MFLOP,
    SPAN_NJ,
    SPAN_PS,
    Engine,
    Floats,
)
from kernels.jit import njit


@njit
def find_spans(e: Engine, p: PackedPrice, first: int, stop: int) -> int:
    """Writes to each decode of the plan in `work[first:stop]` how many of its leading tokens are read with others
    (`span`), and the spans to the features of every class; how many keys fewer are read than by each row for itself."""
    me = e.me
    # who holds a unit holds those before it: behind one that few hold nothing is shared, unless there are copies
    few = 0 if me.keep_duplicate == 1 else me.span_row
    num_decode = 0
    for row in range(first, stop, ROW):
        s = e.seq[e.work[row + SEQ]]
        s.span = 0
        if e.work[row + ROLE] == PREFILL:
            continue
        num_decode += 1
        for k in range(s.shared):
            entry = e.unit_id[1, s.unit_start + k]
            if e.unit[entry].ref < few:
                break
            e.unit[entry].row += 1
    least = max(me.span_row, num_decode) if me.span_common == 1 else me.span_row
    spared = 0
    for row in range(first, stop, ROW):
        if e.work[row + ROLE] != PREFILL:
            spared += _span_of(e, p, e.work[row + SEQ], least)
    for row in range(first, stop, ROW):
        if e.work[row + ROLE] == PREFILL:
            continue
        s = e.seq[e.work[row + SEQ]]
        for k in range(s.shared):
            entry = e.unit_id[1, s.unit_start + k]
            if e.unit[entry].ref < few:
                break
            e.unit[entry].row = 0
    return spared


@njit
def _span_of(e: Engine, p: PackedPrice, i: int, least: int) -> int:
    """Follows sequence i through the units that enough rows hold; who comes first at a span adds it. A unit that has
    been added has its rows below 0. Returns the keys that this row does not read, less those of the spans it added."""
    s, unit_token = e.seq[i], e.me.unit_token
    k = token = added = 0
    while k < s.shared:
        num = e.unit[e.unit_id[1, s.unit_start + k]].row
        if num < 0:
            token += unit_token
            k += 1
            continue
        if num < least:
            break
        stop = k
        while stop < s.shared and e.unit[e.unit_id[1, s.unit_start + stop]].row == num:
            stop += 1
        if (stop - k) * unit_token < e.me.span_token:
            break
        for j in range(k, stop):
            e.unit[e.unit_id[1, s.unit_start + j]].row = -num
        span = (stop - k) * unit_token
        for c in range(e.me.num_class):
            if window_of(p, c) > 0:
                continue
            at = IN_FEATURE + (2 * e.me.num_class + c) * NUM_FEATURE
            add_span(p, c, e.real[at : at + NUM_FEATURE], num, span)
        token += span
        added += span
        k = stop
    s.span = token
    return token - added


@njit
def add_span(p: PackedPrice, c: int, feature: Floats, num_row: int, num_token: int) -> None:
    """Adds a span of `num_token` keys that `num_row` queries read together to the features of class c."""
    at = NUM_RATE + c * CLASS_SIZE + IN_DECODE
    fit = p.real[at + NUM_SHAPE : at + IN_DECODE]
    prefill_add(feature, 1, num_row, num_token, SPAN, shape_at(p.real, at), fit)


@njit
def keep_span(e: Engine, p: PackedPrice, at: int, c: int) -> None:
    """Prices the spans of class c, one layer, and keeps the cost with the lane's sums of keys at `at`: it stays the
    same while the plan stands."""
    feature = IN_FEATURE + (2 * e.me.num_class + c) * NUM_FEATURE
    cost = ragged_cost(p, c, e.real[feature : feature + NUM_FEATURE])
    kv = at + c * NUM_KV_FIELD
    e.work[kv + SPAN_PS], e.work[kv + SPAN_NJ], e.work[kv + SPAN_BOUND] = cost[0], cost[1], cost[2]
    e.work[kv + SPAN_KB], e.work[kv + SPAN_MFLOP] = cost[3], cost[4]


@njit
def kept_span(e: Engine, at: int, c: int) -> Cost:
    """The cost that `keep_span` kept."""
    kv = at + c * NUM_KV_FIELD
    work = e.work
    return work[kv + SPAN_PS], work[kv + SPAN_NJ], work[kv + SPAN_BOUND], work[kv + SPAN_KB], work[kv + SPAN_MFLOP]
