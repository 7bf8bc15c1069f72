"""Activations that go to storage under the forward pass and come back under the backward pass, module by module.

What a module keeps is written as soon as it exists, first in, first out, and its memory is free when it is written. It
is read back before its turn, while the modules behind it run backward. What is still on its way out when it is needed
is taken from memory, never read (forwarding). The last modules are needed at once and stay; the planner sends as many
of the first ones as cost no time. After SSDTrain (Wu et al. 2024).
"""

from collections.abc import Sequence
from typing import NamedTuple

from kernels.errors import InputError

PS = 1_000_000_000_000


class Module(NamedTuple):
    """A run of operators. `kept_byte` is held until its backward pass; `copy_byte` crosses the channel (more than
    `kept_byte` where a tensor that two operators save is stored twice)."""

    name: str
    forward_s: float
    backward_s: float
    kept_byte: float
    copy_byte: float


class OffloadResult(NamedTuple):
    step_s: float
    stall_s: float  # of the step, waited for reads
    peak_byte: float
    written_byte: float
    read_byte: float
    curve: list[tuple[float, float]]  # (second, bytes held) after every change


def offload_step(
    modules: Sequence[Module], num_offload: int, write_byte_per_s: float, read_byte_per_s: float, *, lookahead: int = 2
) -> OffloadResult:
    """One forward and backward pass with the first `num_offload` modules on storage, each read back when the module
    `lookahead` after it begins its backward pass."""
    if not 0 <= num_offload <= len(modules):
        raise InputError("out of range", field="num_offload", value=num_offload, allowed=f"0 to {len(modules)}")
    if write_byte_per_s <= 0 or read_byte_per_s <= 0 or lookahead < 1:
        raise InputError(
            "must be above 0", field="lookahead/rate", value=min(write_byte_per_s, read_byte_per_s, lookahead)
        )
    now, channel = 0, 0
    change: list[tuple[int, float]] = []
    stored: list[int] = []  # when each offloaded module is written
    for index, module in enumerate(modules):
        now += round(module.forward_s * PS)
        change.append((now, module.kept_byte))
        if index < num_offload:
            channel = max(channel, now) + round(module.copy_byte / write_byte_per_s * PS)
            stored.append(channel)
    channel, written, read, stall = 0, 0.0, 0.0, 0
    ready: dict[int, int] = {}  # when a module's tensors are back
    for index in reversed(range(len(modules))):
        first = index == len(modules) - 1
        # reads that this module's turn sets off: the one `lookahead` before it, and at the start all up to there
        for ahead in range(index if first else index - lookahead, index - lookahead - 1, -1):
            if not 0 <= ahead < num_offload or ahead in ready:
                continue
            if stored[ahead] > now:  # still on its way out: it never leaves
                ready[ahead] = now
                continue
            begin = max(channel, now)
            channel = begin + round(modules[ahead].copy_byte / read_byte_per_s * PS)
            ready[ahead] = channel
            change += [(stored[ahead], -modules[ahead].kept_byte), (begin, modules[ahead].kept_byte)]
            written += modules[ahead].copy_byte
            read += modules[ahead].copy_byte
        wait = max(0, ready.get(index, now) - now)
        stall += wait
        now += wait + round(modules[index].backward_s * PS)
        change.append((now, -modules[index].kept_byte))
    held, peak, curve = 0.0, 0.0, []
    for moment, byte in sorted(change, key=lambda one: (one[0], one[1])):  # at one moment room is made first
        held += byte
        peak = max(peak, held)
        curve.append((moment / PS, held))
    return OffloadResult(now / PS, stall / PS, peak, written, read, curve)


def best_offload(
    modules: Sequence[Module],
    write_byte_per_s: float,
    read_byte_per_s: float,
    *,
    slack: float = 0.01,
    lookahead: int = 2,
) -> tuple[int, OffloadResult]:
    """(modules offloaded, result) with the least peak among those that lengthen the step by `slack` at most."""
    limit = offload_step(modules, 0, write_byte_per_s, read_byte_per_s).step_s * (1 + slack)
    tried = [
        (count, offload_step(modules, count, write_byte_per_s, read_byte_per_s, lookahead=lookahead))
        for count in range(len(modules) + 1)
    ]
    return min((one for one in tried if one[1].step_s <= limit), key=lambda one: (one[1].peak_byte, one[0]))
