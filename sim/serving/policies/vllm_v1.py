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
    num_lane,
    num_running,
    option,
    place_of,
    planned_token,
    prefill_left,
    recall,
    remember,
    running,
    schedule_next,
    step_number,
    target_token,
    touched,
    wanted_token,
)
from kernels.jit import njit
from sim.serving.plugin import Option

HELP = "one token budget, decodes and chunked prefill together, preemption from the tail"
OPTIONS = {
    "max_token": Option(2048, "tokens a step"),
    "max_seq": Option(256, "sequences a step"),
    "max_chunk": Option(0, "longest chunk of one prompt; 0: the budget", low=0),
    "interval": Option(1, "steps from one that computes prompts to the next, unless requests are left waiting"),
}
MAX_CHUNK, INTERVAL = 2, 3
FINDS_STATE = True
WATERMARK = 0.0  # the version 1 of the block manager keeps none


def plan(e: Engine) -> int:
    budget = max_step_token(e)
    chunk = int(option(e, MAX_CHUNK))
    longest = min(budget, chunk) if chunk > 0 else budget
    if chunk == 0 or is_alone(e):
        chunk = budget
    interval = int(option(e, INTERVAL))
    wait = hold(e, interval)
    computes = False
    k = 0
    stopped = False
    while k < num_running(e) and budget > 0 and not stopped:
        i = running(e, k)
        token = min(wanted_token(e, i), budget, chunk)
        if wait > 0 and prefill_left(e, i) > 0:
            token = 0
        token = aligned_token(e, i, planned_token(e, i), token, longest)
        if token == 0:
            k += 1
        elif grow_or_preempt(e, i, token):
            k = place_of(e, i, k) + 1  # who was preempted may have stood before it
            computes = computes or prefill_left(e, i) > 0
            schedule_next(e, i, token)
        else:
            stopped = not goes_on(e) or wanted_token(e, i) > 0  # it waits with what it holds
        budget = left_token(e)
    if stopped or touched(e) or k < num_running(e):
        if interval > 1:
            note(e, computes, wait, bool(stopped or touched(e)))
        return 0
    while head(e) >= 0 and budget > 0:
        i = head(e)
        found = cached_token(e, i)
        if wait > 0 and found < target_token(e, i) - 1:
            break
        token = min(max(target_token(e, i) - found, 1), budget, chunk)
        token = aligned_token(e, i, found, token, longest)
        if token == 0 or admit(e, found + token) < 0:
            break
        computes = computes or found < target_token(e, i) - 1
        schedule_next(e, i, token)
        budget -= token
    if interval > 1:
        note(e, computes, wait, False)
        if num_lane(e) > 1:
            return 0  # what the others plan counts and is remembered too
    return wait - 1 if wait > 0 else FOREVER


@njit
def hold(e: Engine, interval: int) -> int:
    """Steps from this one on for which prompts wait, where somebody decodes; 0: they do not. What is remembered is the
    last step with prompts, and whether it left requests waiting (then nobody is held back)."""
    last = recall(e) // 2  # 0: there was none
    left = interval - (step_number(e) - last)
    if interval <= 1 or last == 0 or left <= 0 or recall(e) % 2 == 1:
        return 0
    for k in range(num_running(e)):
        if prefill_left(e, running(e, k)) == 0:
            return left
    return 0


@njit
def note(e: Engine, computes: bool, wait: int, preempted: bool) -> None:
    """Remembers what a plan leaves to the next ones."""
    last = step_number(e) if computes else recall(e) // 2
    waits = recall(e) % 2 == 1 if wait > 0 or preempted else head(e) >= 0
    remember(e, 2 * last + (1 if waits else 0))
