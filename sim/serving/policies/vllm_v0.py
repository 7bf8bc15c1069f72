"""vLLM's first scheduler: prompts before decodes (Kwon et al., SOSP 2023, and its default of 2023-2024).

While a waiting prompt fits, the step prefills waiting prompts, whole, and every decode stands still; else all
running sequences decode. What was preempted comes back before anything new, by order of key.
"""

from kernels.serving.layout import KV, MAX_STEP_TOKEN, TARGET, TOUCHED, Replica
from kernels.serving.verbs import (
    FOREVER,
    admit,
    cached_token,
    grow_or_preempt,
    head,
    is_swapped,
    num_running,
    running,
    schedule_next,
)
from sim.serving.plugin import Option

HELP = "prefill first, whole prompts, decodes stand still meanwhile"
OPTIONS = {
    "max_token": Option(0, "tokens a step; 0: the longest context", low=0),
    "max_seq": Option(256, "sequences a step"),
}
WHOLE_PROMPT = True


def plan(r: Replica) -> int:
    budget = r.reg[MAX_STEP_TOKEN]
    admitted = 0
    while head(r) >= 0 and not is_swapped(r, head(r)):
        i = head(r)
        token = r.seq[i, TARGET] - cached_token(r, i)
        if token > budget or admit(r, r.seq[i, TARGET]) < 0:
            break
        schedule_next(r, i, token)
        budget -= token
        admitted += 1
    if admitted > 0:
        return 0
    k = 0
    while k < num_running(r) and budget > 0:
        i = running(r, k)
        if not grow_or_preempt(r, i, 1):
            break
        schedule_next(r, i, 1)
        budget -= 1
        k += 1
    preempted = r.reg[TOUCHED] > 0
    while not preempted and budget > 0 and head(r) >= 0 and is_swapped(r, head(r)):
        i = admit(r, r.seq[head(r), KV] + 1)
        if i < 0:
            break
        schedule_next(r, i, 1)
        budget -= 1
    return FOREVER
