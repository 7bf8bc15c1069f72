"""Orca: iteration-level batching with KV reserved at admission (Yu et al., OSDI 2022).

Sequences join and leave at every iteration; a new one brings its whole prompt into an iteration that also
decodes the others (selective batching). Nothing is ever preempted, since a sequence's contiguous KV is reserved
before it starts: for the longest context, for its output rounded up to a power of two, or for exactly its output
(the three variants of Kwon et al., SOSP 2023, section 6.1).
"""

from kernels.serving.layout import MAX_STEP_TOKEN, TARGET, Replica
from kernels.serving.verbs import FOREVER, admit, head, num_running, running, schedule_next
from sim.serving.plugin import Option

HELP = "iteration-level batching, whole prompts beside decodes, KV reserved at admission"
OPTIONS = {
    "max_token": Option(0, "tokens a step; 0: the longest context", low=0),
    "max_seq": Option(256, "sequences a step"),
    "reserve": Option("max", "KV taken at admission", choices=("max", "pow2", "oracle")),
}
WHOLE_PROMPT = True


def plan(r: Replica) -> int:
    budget = r.reg[MAX_STEP_TOKEN]
    k = 0
    while k < num_running(r) and budget > 0:
        schedule_next(r, running(r, k), 1)
        budget -= 1
        k += 1
    while head(r) >= 0 and r.seq[head(r), TARGET] <= budget:
        i = admit(r, 0)
        if i < 0:
            break
        schedule_next(r, i, r.seq[i, TARGET])
        budget -= r.seq[i, TARGET]
    return FOREVER
