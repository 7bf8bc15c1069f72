"""Request-level static batching: the batch that begins together ends together.

What waits when the last batch has ended forms the next one. Its prompts are padded to the longest and prefilled
at once; then all sequences decode until the longest output is done. A sequence that is done earlier goes on
computing beside the others, and all leave together, as with FasterTransformer behind a batching front end (the
baseline of Yu et al., OSDI 2022). KV is reserved as for `orca`.
"""

from kernels.serving.layout import DECODE, DONE, MAX_STEP_TOKEN, PREFILL, PROMPT, STATUS, Replica
from kernels.serving.verbs import FOREVER, admit, head, num_running, running, schedule, schedule_idle
from sim.serving.plugin import Option

HELP = "request-level batches: padded prompts, all leave when the longest is done"
OPTIONS = {
    "max_token": Option(0, "padded tokens of a batch; 0: the longest context", low=0),
    "max_seq": Option(32, "sequences of a batch"),
    "reserve": Option("max", "KV taken at admission", choices=("max", "pow2", "oracle")),
}
WHOLE_PROMPT = True
HOLD = True


def plan(r: Replica) -> int:
    if num_running(r) > 0:
        for k in range(num_running(r)):
            i = running(r, k)
            if r.seq[i, STATUS] == DONE:
                schedule_idle(r, i)
            else:
                schedule(r, i, DECODE, 1, 0)
        return FOREVER
    longest = 0
    while head(r) >= 0:
        prompt = max(longest, r.seq[head(r), PROMPT])
        if prompt * (num_running(r) + 1) > r.reg[MAX_STEP_TOKEN] or admit(r, 0) < 0:
            break
        longest = prompt
    for k in range(num_running(r)):
        i = running(r, k)
        schedule(r, i, PREFILL, r.seq[i, PROMPT], longest - r.seq[i, PROMPT])
    return 0
