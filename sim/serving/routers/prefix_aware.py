"""Each request to the replica that holds the longest part of its prompt, as long as loads are even.

Where the most and the least loaded replica differ by more than `max_gap` requests, or no replica holds
`min_share` of the prompt, the request goes to the least loaded one (the rule of SGLang's cache-aware router).
"""

from kernels.engine.records import Fleet
from kernels.engine.routing import held_token, num_replica, option, outstanding, prompt_token
from sim.serving.plugin import Option

HELP = "to the replica that holds the longest part of the prompt, while loads are even"
OPTIONS = {
    "max_gap": Option(32, "requests that loads may differ by", low=0),
    "min_share": Option(0.1, "share of the prompt that must be held", low=0, high=1),
}
MAX_GAP, MIN_SHARE = 0, 1


def route(f: Fleet, i: int) -> int:
    least = most = best = 0
    best_token = -1
    for k in range(num_replica(f)):
        if outstanding(f, k) < outstanding(f, least):
            least = k
        if outstanding(f, k) > outstanding(f, most):
            most = k
        token = held_token(f, k, i)
        if token > best_token or (token == best_token and outstanding(f, k) < outstanding(f, best)):
            best, best_token = k, token
    if outstanding(f, most) - outstanding(f, least) > option(f, MAX_GAP):
        return least
    if best_token < option(f, MIN_SHARE) * prompt_token(f, i):
        return least
    return best
