"""What a router may look at: the module that a router file imports. `f` is the fleet, `k` a replica, `i` a request."""

from kernels.engine.cache import NONE
from kernels.engine.draw import draw
from kernels.engine.records import Fleet
from kernels.errors import PlanError
from kernels.jit import njit, njit_inline

__all__ = ["draw", "held_token", "load_token", "num_replica", "option", "outstanding", "pending_token", "prompt_token",
           "seed"]  # fmt: skip

BUSY = 1 << 40  # what an engine that takes no requests has to do: more than any other


@njit_inline
def _is_engine(f: Fleet, k: int) -> None:
    if k < 0 or k >= len(f.engine):
        raise PlanError("names a replica that does not exist")


@njit_inline
def _is_request(f: Fleet, i: int) -> None:
    if i < 0 or i >= len(f.seq):
        raise PlanError("names a request that does not exist")


@njit
def num_replica(f: Fleet) -> int:
    """Engines to choose from."""
    return len(f.engine)


@njit
def outstanding(f: Fleet, k: int) -> int:
    """Requests delivered to engine k that have not ended."""
    _is_engine(f, k)
    return f.engine[k].outstanding if f.engine[k].down == 0 else BUSY


@njit
def load_token(f: Fleet, k: int) -> int:
    """Prompt and produced tokens of engine k's outstanding requests."""
    _is_engine(f, k)
    return f.engine[k].load_token if f.engine[k].down == 0 else BUSY


@njit
def pending_token(f: Fleet, k: int) -> int:
    """Tokens of engine k's outstanding requests whose KV no running one holds: of prompts that wait or are being
    computed, and one of each that decodes."""
    _is_engine(f, k)
    return f.engine[k].load_token - f.engine[k].kv_token if f.engine[k].down == 0 else BUSY


@njit
def prompt_token(f: Fleet, i: int) -> int:
    """Tokens of the prompt of request i."""
    _is_request(f, i)
    return f.seq[i].prompt


@njit
def option(f: Fleet, k: int) -> float:
    """The k-th of the router's options."""
    if k < 0 or k >= len(f.option):
        raise PlanError("asks for an option that does not exist")
    return f.option[k]


@njit
def seed(f: Fleet) -> int:
    """The run's seed, for `draw`."""
    return f.memory[0]


@njit
def held_token(f: Fleet, k: int, i: int) -> int:
    """Leading tokens of request i whose prefix units lie in engine k's store."""
    _is_engine(f, k)
    _is_request(f, i)
    s = f.seq[i]
    count = 0
    while count < s.num_unit:
        unit = f.unit_id[0, s.unit_start + count]
        x = int(unit) * 0x9E3779B1 + k * 0x85EBCA77
        entry = f.unit[(x ^ (x >> 17)) & (int(f.unit[0].unit) - 1)].bucket
        while entry != NONE and (f.unit[entry].unit != unit or f.unit[entry].engine != k):
            entry = f.unit[entry].chain
        if entry == NONE:
            break
        count += 1
    return count * f.engine[k].unit_token
