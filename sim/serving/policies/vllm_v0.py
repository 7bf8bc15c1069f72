"""vLLM's first scheduler: prompts before decodes (Kwon et al., SOSP 2023, and its default of 2023-2024).

While a waiting prompt fits, the step prefills waiting prompts, whole, and every decode stands still; else all
running sequences decode. What was preempted comes back before anything new, by order of key.
"""

from kernels.engine.records import Engine
from kernels.engine.verbs import (
    FOREVER,
    admit,
    cached_token,
    grow_or_preempt,
    head,
    is_swapped,
    kv_token,
    max_step_token,
    num_running,
    running,
    schedule_next,
    target_token,
    touched,
    wanted_token,
)
from sim.serving.plugin import Option

HELP = "prefill first, whole prompts, decodes stand still meanwhile"
OPTIONS = {
    "max_token": Option(0, "tokens a step; 0: the longest context", low=0),
    "max_seq": Option(256, "sequences a step"),
}
WHOLE_PROMPT = True


def plan(e: Engine) -> int:
    budget = max_step_token(e)
    admitted = 0
    while head(e) >= 0 and not is_swapped(e, head(e)):
        i = head(e)
        token = target_token(e, i) - cached_token(e, i)
        if token > budget or admit(e, target_token(e, i)) < 0:
            break
        schedule_next(e, i, token)
        budget -= token
        admitted += 1
    if admitted > 0:
        return 0
    k = 0
    while k < num_running(e) and budget > 0:
        i = running(e, k)
        token = min(wanted_token(e, i), budget)
        if token > 0:
            if not grow_or_preempt(e, i, token):
                break
            schedule_next(e, i, token)
            budget -= token
        k += 1
    preempted = touched(e)
    while not preempted and budget > 0 and head(e) >= 0 and is_swapped(e, head(e)):
        i = admit(e, kv_token(e, head(e)) + 1)
        if i < 0:
            break
        schedule_next(e, i, 1)
        budget -= 1
    return FOREVER
