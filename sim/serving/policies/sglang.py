"""SGLang's scheduler: prompts before decodes, in batches of their own; an admission reserves the output to come.

A prefill batch takes what is left of the prompt that was cut, then the queue, up to one chunk in all; while there is
one, nobody decodes. A request is admitted if its prompt and its output fit beside what the running ones still may
produce (`new_token_ratio` of it; all of it where outputs have a fixed length), at most `clip` tokens each, and a page;
after one that did not fit, or that left nothing, nobody is tried until a request leaves. Where that was too little, the
newest of the running is retracted (`scheduler.py` and `schedule_policy.py` of `sglang/srt/managers`). Of pages longer
than a token a batch wants one a sequence beyond its tokens, and evicts for them (`allocation.py` of `mem_cache`).
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
    is_shut,
    left_output,
    make_room,
    max_step_token,
    num_running,
    option,
    page_token,
    place_of,
    prefill_left,
    room_beside,
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

HELP = "prompts first, in batches of their own, cut into chunks; admissions reserve the output to come"
OPTIONS = {
    "max_token": Option(8192, "tokens of a prefill batch (the chunk)"),
    "max_seq": Option(256, "sequences that run"),
    "new_token_ratio": Option(1.0, "share of the output still to come that an admission reserves", low=0.0, high=1.0),
    "clip": Option(4096, "most output tokens that are reserved for a sequence", low=0),
}
MAX_SEQ, RATIO, CLIP = 1, 2, 3
WATERMARK = 0.0


@njit
def whole_page(token: int, page: int) -> int:
    """Tokens of the pages that hold `token`: what a batch's limit counts."""
    return (token + page - 1) // page * page


@njit
def num_decode(e: Engine) -> int:
    """Running sequences that a batch of decodes would hold."""
    count = 0
    for k in range(num_running(e)):
        count += 1 if wanted_token(e, running(e, k)) > 0 else 0
    return count


def plan(e: Engine) -> int:
    ratio, clip, page = option(e, RATIO), option(e, CLIP), page_token(e)
    budget = max_step_token(e)
    reserved = 0.0
    cut = False
    wanted = 0  # tokens of pages that the prompts want free beyond those that they take
    for k in range(num_running(e)):
        i = running(e, k)
        left, output = prefill_left(e, i), min(float(left_output(e, i)), clip)
        token = min(left, budget)
        if left == 0:
            reserved += output * ratio
        elif grow(e, i, token):  # the one that was cut goes on first
            cut = token < left
            schedule_next(e, i, token)
            reserved += page + (0.0 if cut else output)
            budget -= whole_page(token, page)
            wanted += token + page - whole_page(token, page)
    while head(e) >= 0 and budget > 0 and not cut and not is_shut(e) and num_running(e) < option(e, MAX_SEQ):
        i = head(e)
        found = cached_token(e, i)
        extend = max(target_token(e, i) - found, 1)
        output = min(float(left_output(e, i)), clip)
        if num_running(e) > 0 and extend + output + page >= room_beside(e, i) - reserved:
            shut(e)
            break
        token = extend
        if whole_page(extend, page) > budget:
            token = budget - (found + budget) % page  # a cut is at a page's edge
        if token <= 0 or admit(e, found + token) < 0:
            break
        cut = token < extend
        schedule_next(e, i, token)
        reserved += page + (0.0 if cut else output)
        budget -= whole_page(token, page)
        wanted += token + page - whole_page(token, page)
        if not cut and room_token(e) <= reserved:
            shut(e)
    if budget < max_step_token(e):
        if page > 1:
            make_room(e, wanted)
        return 0
    if page > 1:
        make_room(e, page * num_decode(e))
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
