"""Orca: iteration-level batching with KV reserved at admission (Yu et al., OSDI 2022).

Sequences join and leave at every iteration; a new one brings its whole prompt into an iteration that also
decodes the others (selective batching). Nothing is ever preempted, since a sequence's contiguous KV is reserved
before it starts: for the longest context, for its output rounded up to a power of two, or for exactly its output
(the three variants of Kwon et al., SOSP 2023, section 6.1).
"""

from kernels.engine.records import Engine
from kernels.engine.verbs import (
    FOREVER,
    admit,
    head,
    max_step_token,
    num_running,
    running,
    schedule_next,
    target_token,
    wanted_token,
)
from sim.serving.plugin import Option

HELP = "iteration-level batching, whole prompts beside decodes, KV reserved at admission"
OPTIONS = {
    "max_token": Option(0, "tokens a step; 0: the longest context", low=0),
    "max_seq": Option(256, "sequences a step"),
    "reserve": Option("max", "KV taken at admission", choices=("max", "pow2", "oracle")),
}
WHOLE_PROMPT = True


def plan(e: Engine) -> int:
    budget = max_step_token(e)
    k = 0
    while k < num_running(e) and budget > 0:
        i = running(e, k)
        token = min(wanted_token(e, i), budget)
        if token > 0:
            schedule_next(e, i, token)
            budget -= token
        k += 1
    while head(e) >= 0 and target_token(e, head(e)) <= budget:
        i = admit(e, 0)
        if i < 0:
            break
        schedule_next(e, i, target_token(e, i))
        budget -= target_token(e, i)
    return FOREVER
