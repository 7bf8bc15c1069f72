"""Each request to the replica with the fewest tokens still to compute: what is left of prompts, and one a decode.

The shortest queue of Splitwise (Patel et al., ISCA 2024, section 4.2), whose length is its pending tokens: what lies in
the cache of those that decode does not count.
"""

from kernels.engine.records import Fleet
from kernels.engine.routing import num_replica, pending_token

HELP = "to the replica with the fewest tokens still to compute: prompts, and one for each that decodes"


def route(f: Fleet, i: int) -> int:
    best = 0
    for k in range(1, num_replica(f)):
        if pending_token(f, k) < pending_token(f, best):
            best = k
    return best
