"""Splitwise's machines: whole prompts first, up to a number of tokens, and decodes beside (Patel et al., ISCA 2024).

Prompts are not cut: as many as fit into `prompt_token` go together, and one that is longer goes alone. Decodes take
what is left of that, so that they stand still beside a long prompt. The paper's aging (who stood still four times goes
first) is not in it. A machine for prompts alone sees no decodes, and one for decodes alone no prompts.
"""

from kernels.engine.records import Engine
from kernels.engine.verbs import (
    FOREVER,
    admit,
    cached_token,
    grow_or_preempt,
    head,
    num_running,
    option,
    place_of,
    running,
    schedule_next,
    target_token,
    wanted_token,
)
from sim.serving.plugin import Option

HELP = "whole prompts first, decodes beside them in what they leave of the step"
OPTIONS = {
    "max_token": Option(0, "tokens a step, one prompt's included; 0: the longest context", low=0),
    "max_seq": Option(512, "sequences a step"),
    "prompt_token": Option(2048, "tokens up to which prompts go together, and decodes beside them"),
}
PROMPT_TOKEN = 2
WHOLE_PROMPT = True


def plan(e: Engine) -> int:
    room = int(option(e, PROMPT_TOKEN))
    used = 0
    while head(e) >= 0 and used < room:
        i = head(e)
        found = cached_token(e, i)
        token = max(target_token(e, i) - found, 1)
        if used > 0 and used + token > room:
            break
        if admit(e, found + token) < 0:
            break
        schedule_next(e, i, token)
        used += token
    prompts = used
    k = 0
    while k < num_running(e) and used < room:
        i = running(e, k)
        token = wanted_token(e, i)
        if token > 0 and grow_or_preempt(e, i, token):
            k = place_of(e, i, k)
            schedule_next(e, i, token)
            used += token
        k += 1
    return 0 if prompts > 0 else FOREVER
