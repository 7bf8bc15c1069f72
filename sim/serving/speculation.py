"""A policy and a progress model as one plan: the model proposes, the policy plans, the model says what will hold."""

import hashlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from kernels.engine.progress import drafted_token, num_planned, planned_sequence, set_accept
from kernels.errors import InputError
from kernels.jit import njit
from kernels.machine import Machine
from sim.serving.plugin import Plugin

MAX_DRAFT = 1024  # tokens of a sequence in a step


def planned(plan: Callable[..., int], model: ModuleType, content: str = "") -> Callable[..., int]:
    """`plan(engine) -> repeat` of a policy under a progress model. With `content`, which names what is in their files,
    the function is one to compile, and its parts are kernels."""
    propose, accept = model.propose, model.accept
    if content:
        plan, propose, accept = njit(plan), njit(propose), njit(accept)

    def speculative(e: Any) -> int:
        stands = propose(e)
        repeat = plan(e)
        for k in range(num_planned(e)):
            num_token = drafted_token(e, k)
            if num_token > 0:
                set_accept(e, k, accept(e, planned_sequence(e, k), num_token))
        return min(stands, repeat)

    # compiled code is kept, and linked, by its function's name: two that share one are taken for each other
    speculative.__qualname__ = f"speculative_{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    return speculative


def lookahead(policy: Plugin) -> int:
    """Most tokens that a decode verifies beyond the next one under this policy's progress model; 0 without one."""
    model = policy.progress
    if model is None:
        return 0
    most = model.module.most(dict(model.value))
    if isinstance(most, bool) or not isinstance(most, int | float) or most != int(most) or not 0 <= most <= MAX_DRAFT:
        raise InputError(
            "most(value) says how many tokens a decode verifies beyond the next one", file=model.module.__file__,
            field="progress", value=most, allowed=f"a whole number from 0 to {MAX_DRAFT}",
        )  # fmt: skip
    return int(most)


def machine_of(policy: Plugin, machine: Machine) -> Machine:
    """The machine whose kernels carry out what the progress model plans (`prices(machine, value)` of its file)."""
    model = policy.progress
    if model is None or not hasattr(model.module, "prices"):
        return machine
    changed = model.module.prices(machine, dict(model.value))
    if not isinstance(changed, Machine):
        raise InputError("prices(machine, value) returns a machine", file=model.module.__file__, field="progress",
                         value=type(changed).__name__)  # fmt: skip
    return changed
