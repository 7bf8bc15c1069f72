"""The time of one step by itself: what `begin` makes of a plan, for rows that somebody else has planned.

No queue, no KV, no accounts: rows of prompts and of single tokens, the step's price, and the pass through the pipeline.
"""

import numpy as np

from kernels.attention import NUM_FEATURE
from kernels.attention_work import longest_span
from kernels.engine.beside import hidden_ps
from kernels.engine.price import (
    DENSE_PS,
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
    add_prefill,
    decode_cost,
    dispatch_ps,
    layers_of,
    prefill_cost,
    window_of,
)
from kernels.engine.records import KV_MAX_STILL, KV_SUM, NUM_KV_FIELD, Ints
from kernels.engine.scan import scan_cost
from kernels.engine.sub_batch import interleaves, saved_ps
from kernels.jit import njit


@njit
def batch_ps(p: PackedPrice, rows: Ints, num_prompt: int, num_row: int, sampled: int) -> int:
    """Picoseconds from the launch of a step to its end on a replica where nothing else runs.

    `rows` holds the new tokens of `num_row` rows and then, at half of its length, the keys that each sees once it is
    computed (tokens before it and its own). The first `num_prompt` are prompts or chunks of them, the others have one
    token each; `sampled` rows go through the head.
    """
    table = p.table
    num_class, num_stage = table[NUM_CLASS], table[NUM_STAGE]
    half = len(rows) // 2
    num_decode = num_row - num_prompt
    attn_ps = np.zeros(num_stage, np.int64)
    kv = np.zeros(num_class * NUM_KV_FIELD, np.int64)
    feature = np.zeros(NUM_FEATURE)
    prompt_token = 0
    for row in range(num_prompt):
        prompt_token += rows[row]
    token = prompt_token + num_decode
    for c in range(num_class):
        layer_ps = prompt_ps = 0
        if num_prompt > 0:
            feature[:] = 0.0
            for row in range(num_prompt):
                add_prefill(p, c, feature, rows[row], rows[half + row])
            prompt_ps = prefill_cost(p, c, feature)[0]
            layer_ps += prompt_ps
        if num_decode > 0:
            window = window_of(p, c)
            total = longest = 0
            for row in range(num_prompt, num_row):
                keys = rows[half + row]
                longest = max(longest, keys)
                total += min(keys, window) if window > 0 else keys
            kv[c * NUM_KV_FIELD + KV_SUM] = total
            kv[c * NUM_KV_FIELD + KV_MAX_STILL] = longest_span(longest, window)
            cost = decode_cost(p, c, num_decode, total, longest_span(longest, window))
            layer_ps += cost[0]
            if num_prompt > 0:
                layer_ps -= hidden_ps(prompt_ps, cost[0], cost[2], p.real)
        for s in range(num_stage):
            attn_ps[s] += layers_of(table, s, c) * layer_ps
    for k in range(table[NUM_SCAN]):
        scan_ps = 0
        if num_prompt > 0:
            scan_ps += scan_cost(p, k, 0, prompt_token, num_prompt)[0]
        if num_decode > 0:
            scan_ps += scan_cost(p, k, 1, num_decode, num_decode)[0]
        for s in range(num_stage):
            attn_ps[s] += layers_of(table, s, num_class + k) * scan_ps
    if num_prompt == 0 and interleaves(p, num_decode):
        for s in range(num_stage):
            attn_ps[s] -= saved_ps(p, s, num_decode, kv, 0)
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
