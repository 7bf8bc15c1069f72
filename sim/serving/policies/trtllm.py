"""TensorRT-LLM's in-flight batching: generation first, then whole prompts; who is admitted runs to its end.

The default capacity policy, `GUARANTEED_NO_EVICT`, admits a request only if KV for all that it may hold fits beside
what the admitted ones may hold; nobody is preempted. Prompts join the generating ones in one step and are not cut,
unless `chunked` (`enable_chunked_prefill`). TensorRT-LLM's documentation: "Useful runtime options", "Paged attention,
in-flight batching and request scheduling".
"""

from kernels.engine.records import Engine
from kernels.engine.verbs import (
    FOREVER,
    admit,
    cached_token,
    grow,
    head,
    is_idle,
    left_token,
    max_step_token,
    num_running,
    option,
    owed_token,
    prefill_left,
    room_beside,
    running,
    schedule_next,
    target_token,
    wanted_token,
    whole_token,
)
from sim.serving.plugin import Option

HELP = "in-flight batching: decodes and whole prompts together, admitted only if all that they may hold fits"
OPTIONS = {
    "max_token": Option(8192, "tokens a step (max_num_tokens)"),
    "max_seq": Option(2048, "sequences that run (max_batch_size)"),
    "chunked": Option(0, "1: prompts are cut into what the step leaves", low=0, high=1),
}
CHUNKED = 2
WATERMARK = 0.0


def plan(e: Engine) -> int:
    chunked = option(e, CHUNKED) > 0
    prompts = 0
    for k in range(num_running(e)):
        i = running(e, k)
        token = wanted_token(e, i) if prefill_left(e, i) == 0 else 0
        if token > 1 and not grow(e, i, token):  # what was admitted has room for its own tokens, drafts may not
            token = 1
        if token > 0 and grow(e, i, token):
            schedule_next(e, i, token)
    for k in range(num_running(e)):
        i = running(e, k)
        token = min(prefill_left(e, i), left_token(e))
        if token > 0 and grow(e, i, token):
            schedule_next(e, i, token)
            prompts += 1
    while head(e) >= 0 and left_token(e) > 0:
        i = head(e)
        found = cached_token(e, i)
        extend = max(target_token(e, i) - found, 1)
        token = min(extend, left_token(e))
        whole = token == extend or chunked or extend > max_step_token(e)
        fits = is_idle(e) or owed_token(e) + whole_token(e, i) <= room_beside(e, i)
        if not (whole and fits):
            break
        if admit(e, found + token) < 0:
            break
        schedule_next(e, i, token)
        prompts += 1
    return 0 if prompts > 0 else FOREVER
