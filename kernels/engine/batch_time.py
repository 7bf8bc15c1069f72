"""The time of one step by itself: what `begin` makes of a plan, for rows that somebody else has planned.

No queue, no KV, no accounts: rows of prompts and of single tokens, the step's price, and the pass through the pipeline.
Lengths come from outside, so that none is added, multiplied or looked up before it is known to be within its bound
(a step's tokens, the context): sums of 64-bit integers wrap, and tables in compiled code are read past their ends.
"""

import numpy as np

from kernels.attention import NUM_FEATURE
from kernels.attention_work import longest_span
from kernels.engine.apart import spread_saved_ps
from kernels.engine.beside import hidden_ps
from kernels.engine.borrow import borrow
from kernels.engine.price import (
    DENSE_PS,
    HEAD_NJ,
    HEAD_PS,
    NUM_CLASS,
    NUM_SCAN,
    NUM_STAGE,
    PREFILL_PS,
    SEND_PS,
    SEQ_PS,
    STEP_PS,
    STRIDE,
    TOKEN_PS,
    PackedPrice,
    add_prefills,
    decode_cost,
    dispatch_ps,
    layers_of,
    prefill_cost,
    window_of,
)
from kernels.engine.records import KV_MAX_STILL, KV_SUM, NUM_KV_FIELD, Floats, Ints
from kernels.engine.scan import scan_cost
from kernels.engine.sub_batch import interleaves, saved_ps
from kernels.jit import njit

TOO_MANY_TOKEN, TOO_MANY_SEQ, NO_ROW, CLIPPED, NO_TOTAL, TOO_LONG, NO_CHUNK = -1, -2, -3, -4, -5, -6, -7
"""What is no step."""


@njit
def mixed_ps(table: Ints, real: Floats, max_context: int, token: Ints, past: Ints) -> int:
    """As `batch_ps`, of rows given as new tokens and tokens before them: one new token on tokens before it is a decode,
    all else prompts. Every row goes through the head."""
    num = len(token)
    new, before, decode = np.empty(num, np.int64), np.empty(num, np.int64), np.empty(num, np.int64)
    num_prompt = num_decode = 0
    for row in range(num):
        if token[row] == 1 and past[row] > 0:
            decode[num_decode] = past[row]
            num_decode += 1
        else:
            new[num_prompt], before[num_prompt] = token[row], past[row]
            num_prompt += 1
    return batch_ps(table, real, max_context, new[:num_prompt], before[:num_prompt], decode[:num_decode], 0)


@njit
def batch_ps(
    table: Ints, real: Floats, max_context: int, new: Ints, before: Ints, decode: Ints, num_partial: int
) -> int:  # fmt: skip
    """Picoseconds from the launch of a step to its end on a replica where nothing else runs, or what is no step (one of
    the codes above).

    `table` and `real` are those of a `PackedPrice`. Prompts, or chunks of them, have `new` tokens and as many `before`
    these (none: an empty array); decodes have one token and `decode` before it. `num_partial` prompts sample no token.
    No row has more than `max_context` tokens with those before it (below 2^31; a table has fewer than 2^31 tokens).
    """
    p = PackedPrice(borrow(table), borrow(real))
    kv = np.zeros(table[NUM_CLASS] * NUM_KV_FIELD, np.int64)
    longest = 0
    for row in range(len(decode)):
        if decode[row] < 0:
            return NO_ROW
        longest = max(longest, decode[row])
    if len(decode) >= table[STRIDE]:
        return TOO_MANY_TOKEN
    if len(decode) > 0 and longest >= max_context:
        return TOO_LONG
    for c in range(table[NUM_CLASS]):
        window, total = window_of(p, c), 0
        for row in range(len(decode)):
            keys = decode[row] + 1
            total += min(keys, window) if window > 0 else keys
        kv[c * NUM_KV_FIELD + KV_SUM] = total
        kv[c * NUM_KV_FIELD + KV_MAX_STILL] = longest_span(longest + 1, window)
    return _step_ps(p, table, max_context, new, before, len(decode), kv, num_partial)


@njit
def total_ps(
    table: Ints, real: Floats, max_context: int, new: Ints, before: Ints, num: int, token: int, longest: int,
    shortest: int, num_partial: int,
) -> int:  # fmt: skip
    """As `batch_ps`, of `num` decodes of which the sum, the most and the fewest tokens are known; `CLIPPED` where a
    window cuts some of them and not others, so that the sum does not say what is read. `num`, `longest` and `shortest`
    are below 2^31."""
    if num < 0 or (num > 0 and not 0 <= shortest <= longest) or (num == 0 and token != 0):
        return NO_TOTAL
    if num > 0 and not shortest * (num - 1) + longest <= token <= longest * (num - 1) + shortest:
        return NO_TOTAL
    if num >= table[STRIDE]:
        return TOO_MANY_TOKEN
    if num > 0 and longest >= max_context:
        return TOO_LONG
    p = PackedPrice(borrow(table), borrow(real))
    kv = np.zeros(table[NUM_CLASS] * NUM_KV_FIELD, np.int64)
    for c in range(table[NUM_CLASS] if num > 0 else 0):
        window, total = window_of(p, c), token + num
        if 0 < window < longest + 1:
            if shortest + 1 < window:
                return CLIPPED
            total = num * window
        kv[c * NUM_KV_FIELD + KV_SUM] = total
        kv[c * NUM_KV_FIELD + KV_MAX_STILL] = longest_span(longest + 1, window)
    return _step_ps(p, table, max_context, new, before, num, kv, num_partial)


@njit
def growing_ps(table: Ints, real: Floats, max_context: int, num: int, token: int, num_step: int) -> int:
    """The sum of `num_step` steps of `num` decodes, each of `token` tokens before the first of them and of one more
    before every next; or what is no step. All three are below 2^31."""
    if token + num_step > max_context:
        return TOO_LONG
    none, total = np.empty(0, np.int64), 0
    for k in range(num_step):
        held = token + k
        found = total_ps(table, real, max_context, none, none, num, num * held, held, held, 0)
        if found < 0:
            return found
        total += found
    return total


@njit
def _step_ps(
    p: PackedPrice, table: Ints, max_context: int, new: Ints, before: Ints, num_decode: int, kv: Ints,
    num_partial: int,
) -> int:  # fmt: skip
    """Of prompts row by row (equal ones that follow each other as one) and of decodes by what each class of layers
    reads of them: `kv`, `NUM_KV_FIELD` numbers a class."""
    num_class, num_stage = table[NUM_CLASS], table[NUM_STAGE]
    num_prompt = len(new)
    num_row, token, cached = num_prompt + num_decode, num_decode, len(before) > 0
    for row in range(num_prompt):
        if new[row] < 1 or (cached and before[row] < 0):
            return NO_ROW
        if new[row] >= table[STRIDE] - token:
            return TOO_MANY_TOKEN
        if (before[row] if cached else 0) > max_context - new[row]:
            return TOO_LONG
        token += new[row]
    if not 0 <= num_partial <= num_prompt:
        return NO_CHUNK
    if num_row == 0:
        return 0
    prompt_token, sampled = token - num_decode, num_row - num_partial
    if sampled > table[HEAD_NJ] - table[HEAD_PS] - 1:
        return TOO_MANY_SEQ
    attn_ps = np.zeros(num_stage, np.int64)
    feature = np.zeros(NUM_FEATURE)
    for c in range(num_class):
        layer_ps = prompt_ps = 0
        if num_prompt > 0:
            feature[:] = 0.0
            row = 0
            while row < num_prompt:
                end_row, held = row + 1, before[row] if cached else 0
                while end_row < num_prompt and new[end_row] == new[row] and (not cached or before[end_row] == held):
                    end_row += 1
                add_prefills(p, c, feature, end_row - row, new[row], new[row] + held)
                row = end_row
            prompt_ps = prefill_cost(p, c, feature)[0]
            layer_ps += prompt_ps
        if num_decode > 0:
            at = c * NUM_KV_FIELD
            cost = decode_cost(p, c, num_decode, kv[at + KV_SUM], kv[at + KV_MAX_STILL])
            layer_ps += cost[0]
            if num_prompt > 0:
                layer_ps -= hidden_ps(prompt_ps, cost[0], cost[2], p.real)
        for s in range(num_stage):
            attn_ps[s] += layers_of(p.table, s, c) * layer_ps
    for k in range(table[NUM_SCAN]):
        scan_ps = 0
        if num_prompt > 0:
            scan_ps += scan_cost(p, k, 0, prompt_token, num_prompt)[0]
        if num_decode > 0:
            scan_ps += scan_cost(p, k, 1, num_decode, num_decode)[0]
        for s in range(num_stage):
            attn_ps[s] += layers_of(p.table, s, num_class + k) * scan_ps
    if num_prompt == 0 and interleaves(p, num_decode):
        for s in range(num_stage):
            attn_ps[s] -= saved_ps(p, s, num_decode, kv, 0)
    elif num_prompt > 0:
        attn_ps[0] -= spread_saved_ps(p, token, attn_ps[0])
    end = table[STEP_PS] + table[SEQ_PS] * num_row + table[TOKEN_PS] * token
    if num_prompt > 0:
        end += table[PREFILL_PS]
    for s in range(num_stage):
        if s > 0:
            end += table[table[SEND_PS] + (s - 1) * table[STRIDE] + token]
        device_ps = table[table[DENSE_PS] + s * table[STRIDE] + token] + attn_ps[s]
        if s == num_stage - 1:
            device_ps += table[table[HEAD_PS] + sampled]
        end += max(device_ps, dispatch_ps(p, s, token, num_prompt))
    return int(end)
