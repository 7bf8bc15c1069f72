"""Sarathi-Serve: stall-free batches of one token budget (Agrawal et al., OSDI 2024, algorithm 3).

Ongoing decodes come first and are never delayed, then the chunks of prompts that have begun, then new prompts,
each cut to what is left of the budget. A prompt's KV blocks are all taken at its admission.
"""

from kernels.serving.layout import MAX_STEP_TOKEN, TARGET, TOUCHED, Replica
from kernels.serving.verbs import (
    FOREVER,
    admit,
    cached_token,
    grow_or_preempt,
    head,
    num_running,
    prefill_left,
    running,
    schedule_next,
)
from sim.serving.plugin import Option

HELP = "stall-free: decodes first, prompts cut into chunks of what the budget leaves"
OPTIONS = {
    "max_token": Option(512, "tokens a step (the chunk)"),
    "max_seq": Option(128, "sequences a step"),
}


def plan(r: Replica) -> int:
    budget = r.reg[MAX_STEP_TOKEN]
    k = 0
    while k < num_running(r) and budget > 0:
        i = running(r, k)
        if prefill_left(r, i) == 0:
            if not grow_or_preempt(r, i, 1):
                break
            schedule_next(r, i, 1)
            budget -= 1
        k += 1
    k = 0
    while k < num_running(r) and budget > 0:
        i = running(r, k)
        token = min(prefill_left(r, i), budget)
        if token > 0:
            schedule_next(r, i, token)
            budget -= token
        k += 1
    if r.reg[TOUCHED] > 0:
        return 0
    while head(r) >= 0 and budget > 0:
        i = head(r)
        target = r.seq[i, TARGET]
        token = min(max(target - cached_token(r, i), 1), budget)
        if admit(r, max(target, cached_token(r, i) + token)) < 0:
            break
        schedule_next(r, i, token)
        budget -= token
    return FOREVER
