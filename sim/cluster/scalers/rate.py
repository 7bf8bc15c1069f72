"""As many engines as the rate of arrivals since the last look needs, each good for `each` requests a second."""

import math
from collections.abc import Callable, Mapping

from sim.cluster.scaler_files import Seen
from sim.serving.plugin import Option

HELP = "arrivals a second over what an engine is good for"
OPTIONS = {
    "each": Option(1.0, "requests a second that an engine is good for", low=1e-6),
    "span_s": Option(60.0, "seconds over which arrivals are averaged", low=1e-3),
}


def scaler(option: Mapping[str, float]) -> Callable[[Seen], int]:
    past: list[tuple[float, int]] = []

    def want(seen: Seen) -> int:
        past.append((seen.now_s, seen.num_arrived))
        while len(past) > 2 and past[1][0] <= seen.now_s - option["span_s"]:
            past.pop(0)
        time_s, num = past[0]
        rate = (seen.num_arrived - num) / (seen.now_s - time_s) if seen.now_s > time_s else 0.0
        return math.ceil(rate / option["each"])

    return want
