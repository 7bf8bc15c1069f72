"""Autoscaling rules as files: found by name or path, with their options."""

import importlib
import pathlib
from collections.abc import Callable
from dataclasses import dataclass

from kernels.errors import InputError
from sim.serving.plugin import module_from, options_of

FOLDER = pathlib.Path(__file__).parent / "scalers"


@dataclass(frozen=True)
class Seen:
    """What a rule may look at, at each of its looks."""

    now_s: float
    num_engine: int  # that take requests, or load to do so
    num_loading: int  # of these
    num_outstanding: int  # requests that have arrived at engines and not ended
    num_running: int  # of these, in batches
    num_arrived: int  # requests since the run began
    kv_share: float  # of the blocks of engines that take requests, those held by sequences


def names() -> list[str]:
    """The rules that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))


def find(text: str) -> Callable[[Seen], int]:
    """The rule that `text` names: `NAME`, `NAME:option=value,...`, or a path of a `.py` file with options likewise.

    >>> find("fixed:num=3")(Seen(0.0, 1, 0, 0, 0, 0, 0.0))
    3
    """
    name, _, rest = text.partition(":")
    if name.endswith(".py"):
        module = module_from("scaler", pathlib.Path(name))
    elif name in names():
        module = importlib.import_module(f"sim.cluster.scalers.{name}")
    else:
        raise InputError("no such rule", field="scaler", value=name, allowed=[*names(), "a path of a .py file"])
    if not callable(getattr(module, "scaler", None)):
        raise InputError("has no function scaler(option)", file=module.__file__, field="scaler", value=name)
    options, given = options_of(module), dict[str, str]()
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if key not in options or not equals or key in given:
            raise InputError("not an option of it, once", field=f"scaler {name}", value=part, allowed=list(options))
        given[key] = value
    value_of = {
        key: option.parse(f"scaler {name}: {key}", given.get(key, str(option.default)))
        for key, option in options.items()
    }
    rule: Callable[[Seen], int] = module.scaler(value_of)
    return rule
