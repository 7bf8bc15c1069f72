"""LightLLM's first router, which S-LoRA's is: whole prompts between decodes, admitted only if all of it will ever fit.

New prompts are tried once the running sequences have decoded `wait` times since the last ones came. They are admitted
in order while the most tokens that will be held at once, if sequences end one after another as late as they may, fit in
the memory for KV (outputs are asked for by length), so that nobody is ever preempted; their prompts are computed
together, and decodes stand still meanwhile (`slora/server/router/manager.py`, `req_queue.py`).
"""

from kernels.engine.records import Engine
from kernels.engine.verbs import (
    FOREVER,
    admit,
    cached_token,
    grow_or_preempt,
    head,
    is_idle,
    is_shut,
    left_output,
    max_step_token,
    num_running,
    option,
    output_token,
    page_token,
    planned_token,
    room_token,
    running,
    schedule_next,
    shut,
    target_token,
    touched,
    wanted_token,
)
from kernels.jit import njit
from sim.serving.plugin import Option

HELP = "whole prompts between decodes, every so many of them, admitted only if they fit to their end"
OPTIONS = {
    "max_token": Option(16384, "tokens of a batch of prompts (batch_max_tokens)"),
    "max_seq": Option(1000, "sequences that run (running_max_req_size)"),
    "wait": Option(10, "decodes after prompts before new ones are tried", low=0),
}
MAX_SEQ, WAIT = 1, 2
WHOLE_PROMPT = True
WATERMARK = 0.0


@njit
def waited(e: Engine) -> int:
    """Decodes since the newest of the running sequences was prefilled."""
    least = FOREVER
    for k in range(num_running(e)):
        i = running(e, k)
        least = min(least, output_token(e, i) - left_output(e, i) - 1)
    return least


@njit
def fits(e: Engine, i: int) -> bool:
    """Whether all running sequences and waiting sequence i have room until the last of them ends: when one has ended,
    those that stay longer are there, each with what it holds and as many tokens more."""
    num, page = num_running(e), page_token(e)
    room = room_token(e)
    for k in range(num):
        room += -(-planned_token(e, running(e, k)) // page) * page
    most = 0
    for k in range(num + 1):
        left = left_output(e, running(e, k) if k < num else i)
        token = 0
        for other in range(num + 1):
            j = running(e, other) if other < num else i
            if left_output(e, j) >= left:  # a token more, and what its last page may waste
                token += (planned_token(e, j) if other < num else target_token(e, j)) + page + left - 1
        most = max(most, token)
    return most < room


def plan(e: Engine) -> int:
    budget = max_step_token(e)
    wait = int(option(e, WAIT)) - waited(e)
    admitted = 0
    while head(e) >= 0 and wait <= 0 and not is_shut(e) and num_running(e) < option(e, MAX_SEQ):
        i = head(e)
        if not (is_idle(e) or fits(e, i)):
            shut(e)  # that is so until a sequence leaves
            break
        found = cached_token(e, i)
        token = max(target_token(e, i) - found, 1)
        if token > budget or admit(e, found + token) < 0:
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
    if touched(e):
        return 0
    return wait - 1 if head(e) >= 0 and wait > 0 else FOREVER
