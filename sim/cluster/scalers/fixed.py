"""Always as many."""

from collections.abc import Callable, Mapping

from sim.cluster.scaler_files import Seen
from sim.serving.plugin import Option

HELP = "always so many engines"
OPTIONS = {"num": Option(1, "engines")}


def scaler(option: Mapping[str, float]) -> Callable[[Seen], int]:
    return lambda seen: int(option["num"])
