"""vLLM's second scheduler: one token budget a step, running sequences first, prompts in chunks.

Every running sequence gets its next token, or the next chunk of its prompt, in order of admission; what is left
of the budget admits from the queue. KV blocks are taken as they are needed; without a free one the tail of the
running list is preempted, and such a step admits nobody.
"""

from kernels.serving.layout import MAX_STEP_TOKEN, TARGET, TOUCHED, Replica
from kernels.serving.verbs import (
    FOREVER,
    admit,
    cached_token,
    grow_or_preempt,
    head,
    num_running,
    option,
    prefill_left,
    running,
    schedule_next,
)
from sim.serving.plugin import Option

HELP = "one token budget, decodes and chunked prefill together, preemption from the tail"
OPTIONS = {
    "max_token": Option(2048, "tokens a step"),
    "max_seq": Option(256, "sequences a step"),
    "max_chunk": Option(0, "longest chunk of one prompt; 0: the budget", low=0),
}
MAX_CHUNK = 2


def plan(r: Replica) -> int:
    budget = r.reg[MAX_STEP_TOKEN]
    chunk = int(option(r, MAX_CHUNK))
    if chunk == 0:
        chunk = budget
    k = 0
    while k < num_running(r) and budget > 0:
        i = running(r, k)
        token = min(max(prefill_left(r, i), 1), budget, chunk)
        if not grow_or_preempt(r, i, token):
            break
        schedule_next(r, i, token)
        budget -= token
        k += 1
    if r.reg[TOUCHED] > 0 or k < num_running(r):
        return 0
    while head(r) >= 0 and budget > 0:
        i = head(r)
        found = cached_token(r, i)
        token = min(max(r.seq[i, TARGET] - found, 1), budget, chunk)
        if admit(r, found + token) < 0:
            break
        schedule_next(r, i, token)
        budget -= token
    return FOREVER
