"""One sequence at a time, in plain Python: the policy of docs/add.md, by which steps that ask Python are timed."""

from kernels.engine.records import Engine
from kernels.engine.verbs import (
    FOREVER,
    admit,
    grow_or_preempt,
    head,
    num_running,
    running,
    schedule_next,
    target_token,
    touched,
    wanted_token,
)
from sim.serving.plugin import Option

COMPILED = False
HELP = "one sequence at a time, in plain Python"
OPTIONS = {"max_token": Option(4096, "tokens a step"), "max_seq": Option(1, "sequences a step")}


def plan(e: Engine) -> int:
    """Whoever runs goes on; else the first in the queue begins."""
    if num_running(e) > 0:
        i = running(e, 0)
        token = wanted_token(e, i)
        if token > 0 and grow_or_preempt(e, i, token):
            schedule_next(e, i, token)
    elif head(e) >= 0:
        i = head(e)
        if admit(e, target_token(e, i)) >= 0:
            schedule_next(e, i, target_token(e, i))
    return 0 if touched(e) else FOREVER
