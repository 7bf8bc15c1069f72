"""SGLang's scheduler: prompts before decodes, in batches of their own; an admission reserves the output to come.

A prefill batch takes what is left of the prompt that was cut, then the queue, up to one chunk in all; while there is
one, nobody decodes. A request is admitted if its prompt and its output fit beside what the running ones still may
produce (`new_token_ratio` of it; all of it where outputs have a fixed length), at most `clip` tokens each. Where that
was too little, the newest of the running is retracted (`sglang/srt/managers`: `scheduler.py`, `schedule_policy.py`).
"""

from kernels.engine.records import Engine
from kernels.engine.verbs import (
    FOREVER,
    admit,
    cached_token,
    decode_token,
    grow,
    grow_or_preempt,
    head,
    left_output,
    left_token,
    max_step_token,
    num_running,
    option,
    place_of,
    prefill_left,
    room_token,
    running,
    schedule_next,
    target_token,
    touched,
    wanted_token,
)
from sim.serving.plugin import Option

HELP = "prompts first, in batches of their own, cut into chunks; admissions reserve the output to come"
OPTIONS = {
    "max_token": Option(8192, "tokens of a prefill batch (the chunk)"),
    "max_seq": Option(256, "sequences that run"),
    "new_token_ratio": Option(1.0, "share of the output still to come that an admission reserves", low=0.0, high=1.0),
    "clip": Option(4096, "most output tokens that are reserved for a sequence", low=0),
}
RATIO, CLIP = 2, 3
WATERMARK = 0.0
PAGE = 1  # tokens that an admission reserves for the rest of a page


def plan(e: Engine) -> int:
    ratio, clip = option(e, RATIO), option(e, CLIP)
    budget = max_step_token(e)
    reserved = 0.0
    cut = False
    for k in range(num_running(e)):
        i = running(e, k)
        reserved += min(float(left_output(e, i)), clip) * ratio
        token = min(prefill_left(e, i), budget)
        if token > 0:  # the one that was cut; there is room for its whole prompt
            cut = cut or token < prefill_left(e, i)
            if grow(e, i, token):
                schedule_next(e, i, token)
            budget = left_token(e)
    while head(e) >= 0 and budget > 0 and not cut:
        i = head(e)
        found = cached_token(e, i)
        extend = max(target_token(e, i) - found, 1)
        output = min(float(left_output(e, i)), clip)
        if extend + output + PAGE >= room_token(e) - reserved:
            break
        token = min(extend, budget)
        if admit(e, found + token) < 0:
            break
        cut = token < extend
        schedule_next(e, i, token)
        reserved += output + PAGE + extend - token
        budget = left_token(e)
    if budget < max_step_token(e):
        return 0
    k = 0
    while k < num_running(e):
        i = running(e, k)
        if wanted_token(e, i) == 0:
            k += 1
        elif grow_or_preempt(e, i, decode_token(e, i)):
            k = place_of(e, i, k) + 1
            schedule_next(e, i, decode_token(e, i))
        else:
            break
    return 0 if touched(e) else FOREVER
