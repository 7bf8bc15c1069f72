"""Each request to the replica that holds the longest part of its prompt, as long as loads are even.

Where the most and the least loaded replica differ by more than `max_gap` requests, or no replica holds
`min_share` of the prompt, the request goes to the least loaded one (the rule of SGLang's cache-aware router).
"""

from kernels.serving.layout import (
    NUM_UNIT_FIELD,
    OUTSTANDING,
    PROMPT,
    UNIT_REF,
    UNIT_START,
    UNIT_STOP,
    UNIT_TOKEN,
    Fleet,
)
from sim.serving.plugin import Option

HELP = "to the replica that holds the longest part of the prompt, while loads are even"
OPTIONS = {
    "max_gap": Option(32, "requests that loads may differ by", low=0),
    "min_share": Option(0.1, "share of the prompt that must be held", low=0, high=1),
}
MAX_GAP, MIN_SHARE = 0, 1


def route(f: Fleet, i: int) -> int:
    num = len(f.reg)
    least = most = 0
    best = 0
    best_unit = -1
    start, stop = f.seq[i, UNIT_START], f.seq[i, UNIT_STOP]
    for k in range(num):
        if f.reg[k, OUTSTANDING] < f.reg[least, OUTSTANDING]:
            least = k
        if f.reg[k, OUTSTANDING] > f.reg[most, OUTSTANDING]:
            most = k
        count = 0
        while start + count < stop and f.store[k, NUM_UNIT_FIELD * f.unit_id[start + count] + UNIT_REF] >= 0:
            count += 1
        if count > best_unit or (count == best_unit and f.reg[k, OUTSTANDING] < f.reg[best, OUTSTANDING]):
            best, best_unit = k, count
    if f.reg[most, OUTSTANDING] - f.reg[least, OUTSTANDING] > f.option[MAX_GAP]:
        return least
    if best_unit * f.reg[best, UNIT_TOKEN] < f.option[MIN_SHARE] * f.seq[i, PROMPT]:
        return least
    return best
