"""Sarathi-Serve: stall-free batches of one token budget (Agrawal et al., OSDI 2024, algorithm 3).

Ongoing decodes come first and are never delayed, then the chunks of prompts that have begun, then new prompts,
each cut to what is left of the budget. A prompt's KV blocks are all taken at its admission.
"""

from kernels.engine.records import Engine
from kernels.engine.verbs import (
    FOREVER,
    admit,
    cached_token,
    grow_or_preempt,
    head,
    max_step_token,
    num_running,
    prefill_left,
    running,
    schedule_next,
    target_token,
    touched,
    wanted_token,
)
from sim.serving.plugin import Option

HELP = "stall-free: decodes first, prompts cut into chunks of what the budget leaves"
OPTIONS = {
    "max_token": Option(512, "tokens a step (the chunk)"),
    "max_seq": Option(128, "sequences a step"),
}


def plan(e: Engine) -> int:
    budget = max_step_token(e)
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
    k = 0
    while k < num_running(e) and budget > 0:
        i = running(e, k)
        token = min(prefill_left(e, i), budget)
        if token > 0:
            schedule_next(e, i, token)
            budget -= token
        k += 1
    if touched(e):
        return 0
    while head(e) >= 0 and budget > 0:
        i = head(e)
        target = target_token(e, i)
        token = min(max(target - cached_token(e, i), 1), budget)
        if admit(e, max(target, cached_token(e, i) + token)) < 0:
            break
        schedule_next(e, i, token)
        budget -= token
    return FOREVER
