"""Autoscaling rules as files: found by name or path, with their options."""

from collections.abc import Callable
from dataclasses import dataclass

from kernels.errors import InputError
from sim.cluster.plain_files import load
from sim.serving.plugin import option_values, options_of


@dataclass(frozen=True)
class Seen:
    """What a rule may look at, at each of its looks."""

    now_s: float
    num_engine: int  # that take requests, or load to do so
    num_loading: int  # of these
    num_outstanding: int  # requests that have arrived at engines and not ended
    num_running: int  # of these, in batches
    num_arrived: int  # requests that came to the pool since the run began
    kv_share: float  # of the blocks of engines that take requests, those held by sequences


def find(text: str) -> Callable[[Seen], int]:
    """The rule that `text` names: `NAME`, `NAME:option=value,...`, or a path of a `.py` file with options likewise.

    >>> find("fixed:num=3")(Seen(0.0, 1, 0, 0, 0, 0, 0.0))
    3
    """
    name, _, rest = text.partition(":")
    module = load("scaler", name)
    if not callable(getattr(module, "scaler", None)):
        raise InputError("has no function scaler(option)", file=module.__file__, field="scaler", value=name)
    rule: Callable[[Seen], int] = module.scaler(option_values("scaler", name, rest, options_of(module)))
    return rule
