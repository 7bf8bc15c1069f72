"""vLLM's second scheduler: one token budget a step, running sequences first, prompts in chunks.

Every running sequence gets its next token, or the next chunk of its prompt, in order of admission; what is left
of the budget admits from the queue. KV blocks are taken as they are needed; without a free one the tail of the
running list is preempted, and such a step admits nobody. Where states of recurrent layers are found, chunks end where
those are.
"""

from kernels.engine.records import Engine
from kernels.engine.verbs import (
    FOREVER,
    admit,
    aligned_token,
    cached_token,
    goes_on,
    grow_or_preempt,
    head,
    is_alone,
    left_token,
    max_step_token,
    num_running,
    option,
    place_of,
    planned_token,
    running,
    schedule_next,
    target_token,
    touched,
    wanted_token,
)
from sim.serving.plugin import Option

HELP = "one token budget, decodes and chunked prefill together, preemption from the tail"
OPTIONS = {
    "max_token": Option(2048, "tokens a step"),
    "max_seq": Option(256, "sequences a step"),
    "max_chunk": Option(0, "longest chunk of one prompt; 0: the budget", low=0),
}
MAX_CHUNK = 2
FINDS_STATE = True
WATERMARK = 0.0  # the version 1 of the block manager keeps none


def plan(e: Engine) -> int:
    budget = max_step_token(e)
    chunk = int(option(e, MAX_CHUNK))
    longest = min(budget, chunk) if chunk > 0 else budget
    if chunk == 0 or is_alone(e):
        chunk = budget
    k = 0
    stopped = False
    while k < num_running(e) and budget > 0 and not stopped:
        i = running(e, k)
        token = min(wanted_token(e, i), budget, chunk)
        token = aligned_token(e, i, planned_token(e, i), token, longest)
        if token == 0:
            k += 1
        elif grow_or_preempt(e, i, token):
            k = place_of(e, i, k) + 1  # who was preempted may have stood before it
            schedule_next(e, i, token)
        else:
            stopped = not goes_on(e) or wanted_token(e, i) > 0  # it waits with what it holds
        budget = left_token(e)
    if stopped or touched(e) or k < num_running(e):
        return 0
    while head(e) >= 0 and budget > 0:
        i = head(e)
        found = cached_token(e, i)
        token = min(max(target_token(e, i) - found, 1), budget, chunk)
        token = aligned_token(e, i, found, token, longest)
        if token == 0 or admit(e, found + token) < 0:
            break
        schedule_next(e, i, token)
        budget -= token
    return FOREVER
