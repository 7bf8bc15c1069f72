"""Request-level static batching: the batch that begins together ends together.

What waits when the last batch has ended forms the next one. Its prompts are padded to the longest and prefilled
at once; then all sequences decode until the longest output is done. A sequence that is done earlier goes on
computing beside the others, and all leave together, as with FasterTransformer behind a batching front end (the
baseline of Yu et al., OSDI 2022). KV is reserved as for `orca`.
"""

from kernels.engine.records import DECODE, PREFILL, Engine
from kernels.engine.verbs import (
    FOREVER,
    admit,
    head,
    is_done,
    left_token,
    max_step_token,
    num_running,
    prompt_token,
    running,
    schedule,
    schedule_idle,
    wanted_token,
)
from sim.serving.plugin import Option

HELP = "request-level batches: padded prompts, all leave when the longest is done"
OPTIONS = {
    "max_token": Option(0, "padded tokens of a batch; 0: the longest context", low=0),
    "max_seq": Option(32, "sequences of a batch"),
    "reserve": Option("max", "KV taken at admission", choices=("max", "pow2", "oracle")),
}
WHOLE_PROMPT = True
HOLD = True


def plan(e: Engine) -> int:
    if num_running(e) > 0:
        num = num_running(e)
        for k in range(num):
            i = running(e, k)
            if not is_done(e, i) and wanted_token(e, i) == 0:
                return 0  # the batch's last step has not ended: lanes may share a running list
        for k in range(num):
            i = running(e, k)
            if is_done(e, i):
                schedule_idle(e, i)
            else:  # of drafts, as many as leave a token to each that follows
                schedule(e, i, DECODE, min(wanted_token(e, i), left_token(e) - (num - 1 - k)), 0)
        return FOREVER
    longest = 0
    while head(e) >= 0:
        prompt = max(longest, prompt_token(e, head(e)))
        if prompt * (num_running(e) + 1) > max_step_token(e) or admit(e, 0) < 0:
            break
        longest = prompt
    for k in range(num_running(e)):
        i = running(e, k)
        schedule(e, i, PREFILL, prompt_token(e, i), longest - prompt_token(e, i))
    return 0
