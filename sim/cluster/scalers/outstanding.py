"""Requests an engine, as Kubernetes' horizontal pod autoscaler keeps a metric at its target.

Engines wanted: ceil(engines x (metric / target)); nothing changes while the ratio is within the tolerance of 1; of the
wishes of the last `down_s` seconds the largest counts (its documentation: tolerance 0.1, stabilization 300 s).
"""

import math
from collections.abc import Callable, Mapping

from sim.cluster.scaler_files import Seen
from sim.serving.plugin import Option

HELP = "requests an engine at a target, as Kubernetes' autoscaler does"
OPTIONS = {
    "target": Option(16.0, "outstanding requests an engine", low=1e-3),
    "tolerance": Option(0.1, "share of the target within which nothing changes", low=0.0, high=10.0),
    "down_s": Option(300.0, "seconds whose largest wish counts", low=0.0),
}


def scaler(option: Mapping[str, float]) -> Callable[[Seen], int]:
    wish: list[tuple[float, int]] = []

    def want(seen: Seen) -> int:
        num = max(1, seen.num_engine)  # none takes requests while the machines of all are called back
        ratio = seen.num_outstanding / (num * option["target"])
        steady = abs(ratio - 1.0) <= option["tolerance"]
        wanted = num if steady else math.ceil(num * ratio)
        wish[:] = [(time_s, num) for time_s, num in wish if time_s > seen.now_s - option["down_s"]]
        wish.append((seen.now_s, wanted))
        return max(num for _, num in wish)

    return want
