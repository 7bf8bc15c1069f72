"""Mnemosyne's adaptive chunks: prompts in chunks that shrink as their KV grows (Agrawal et al., 2024, since Medha).

As in Sarathi-Serve, decodes come first and prompts fill what is left of the token budget. What a chunk costs beside its
products is its query-key pairs, `c n + c (c + 1) / 2` for c tokens after n: a second budget, of pairs, holds the step
within the same time whatever the length, with large chunks early in a prompt and small ones late.
"""

import math

from kernels.engine.records import Engine
from kernels.engine.verbs import (
    FOREVER,
    admit,
    cached_token,
    grow_or_preempt,
    head,
    kv_token,
    max_step_token,
    num_running,
    option,
    prefill_left,
    running,
    schedule_next,
    target_token,
    touched,
    wanted_token,
)
from sim.serving.plugin import Option

HELP = "stall-free, prompts cut into chunks that shrink as their KV grows"
OPTIONS = {
    "max_token": Option(2048, "tokens a step (the first chunks)"),
    "max_seq": Option(128, "sequences a step"),
    "pair_million": Option(0.0, "millions of query-key pairs that prompts add to a step; 0: any", low=0),
    "min_token": Option(32, "tokens of a chunk however long its prompt is"),
}
PAIR, LEAST = 2, 3  # places of the options


def plan(e: Engine) -> int:
    budget = max_step_token(e)
    pair = 1e6 * option(e, PAIR)
    bounded = pair > 0
    least = int(option(e, LEAST))
    k = 0
    while k < num_running(e) and budget > 0:
        i = running(e, k)
        token = min(wanted_token(e, i), budget) if prefill_left(e, i) == 0 else 0
        if token > 0:
            if not grow_or_preempt(e, i, token):
                break
            schedule_next(e, i, token)
            budget -= token
        k += 1
    spent = False  # of pairs: one prompt always goes on
    k = 0
    while k < num_running(e) and budget > 0 and not spent:
        i = running(e, k)
        token = min(prefill_left(e, i), budget)
        if token > 0:
            if bounded:
                seen = kv_token(e, i) + 0.5
                fits = int(math.sqrt(seen * seen + 2.0 * pair) - seen)
                token = min(token, max(fits, least))
                pair -= token * (seen + 0.5 * token)
                spent = pair <= 0
            schedule_next(e, i, token)
            budget -= token
        k += 1
    if touched(e):
        return 0
    while head(e) >= 0 and budget > 0 and not spent:
        i = head(e)
        target, seen_token = target_token(e, i), cached_token(e, i)
        token = min(max(target - seen_token, 1), budget)
        if bounded:
            seen = seen_token + 0.5
            fits = int(math.sqrt(seen * seen + 2.0 * pair) - seen)
            token = min(token, max(fits, least))
            pair -= token * (seen + 0.5 * token)
            spent = pair <= 0
        if admit(e, max(target, seen_token + token)) < 0:
            break
        schedule_next(e, i, token)
        budget -= token
    return FOREVER
