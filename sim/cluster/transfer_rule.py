"""Rules of KV transfer: found by name or by path, compiled where pools run ahead."""

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any, cast

from kernels.errors import InputError
from sim.cluster.plain_files import load

Rule = Callable[[float, int, float, float], float]


def transfer_module(name: str) -> ModuleType:
    """The file of the rule `name`: one of `sim.cluster.transfers`, or a path, with a function `left_byte`."""
    module = load("transfer", name)
    rule = getattr(module, "left_byte", None)
    if not callable(rule):
        raise InputError("has no function left_byte", file=module.__file__, field="transfer", value=name)
    try:
        inspect.signature(rule).bind(*range(4))
    except (TypeError, ValueError) as error:
        raise InputError(f"is called with 4 arguments: {error}", file=module.__file__, field="left_byte", value=name,
                         allowed="left_byte(byte, num_layer, step_s, rate)") from None  # fmt: skip
    return module


def is_compiled(module: ModuleType) -> bool:
    """Whether numba compiles the rule; a file that says `COMPILED = False` is plain Python."""
    return bool(getattr(module, "COMPILED", True))


def rule_of(module: ModuleType) -> Rule:
    """The rule as Python."""
    return cast(Rule, module.left_byte)


def compiled_rule(module: ModuleType) -> Any:
    """The rule compiled; an `InputError` where numba cannot."""
    from kernels import blame, users
    from kernels.engine.handover import RULE_SIGNATURE
    from kernels.jit import njit_as

    try:
        users.prepare(module.left_byte)
        return njit_as(RULE_SIGNATURE, str(module.__file__) in blame.FILES)(module.left_byte)
    except (KeyboardInterrupt, InputError):
        raise
    except Exception as error:
        said = [part.strip() for part in str(error).splitlines() if part.strip()]
        why = next((part for part in said if not part.startswith(("Failed in", "File ", "During: "))), "")
        raise InputError(
            f"numba cannot compile this rule: {(why or type(error).__name__)[:300]}", file=module.__file__,
            field="left_byte", allowed="what numba compiles; or COMPILED = False in the file",
        ) from error  # fmt: skip
