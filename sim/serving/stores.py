"""The block store of a replica from its memory budget: pages, and how many each group of layers takes.

Layers that keep their KV by different rules share one store, as in vLLM's hybrid cache: its page is the largest that
every group of layers fills a whole number of times with `block_token` tokens (or entries of compressed attention). The
states of a sequence (recurrences, their convolutions) lie together in whole pages from its admission to its end or its
preemption, however long it is: so states and KV share the memory by what the running sequences hold. Where no layer
keeps anything a token, a page is a sequence's states, and pages are the sequences that fit.
"""

import math
from dataclasses import dataclass

from kernels.errors import InputError
from sim.serving.rules import Group
from workloads.kv import KvGroup, state_byte
from workloads.memory import Budget


@dataclass(frozen=True)
class Store:
    """`num_block` pages of `block_byte` bytes on the fullest device, and the pages that groups of layers take for
    `block_token` tokens."""

    num_block: int
    block_byte: float
    groups: tuple[Group, ...] = (Group(),)
    block_token: int = 16


def store_of(budget: Budget, attn_dp: int, block_token: int) -> Store:
    """The store of a replica whose sequences are spread over `attn_dp` attention groups.

    Raises `InputError` where no group keeps anything, or where states leave no room for a sequence.
    """
    if all(group.rule == "linear" for group in budget.group):
        num_block = budget.token_capacity_at(0) * attn_dp // block_token
        return Store(num_block, budget.kv_per_token * block_token, block_token=block_token)
    grown = [(group, _block_byte(group, block_token)) for group in budget.group if group.rule != "state"]
    state = math.ceil(state_byte(budget.group))
    page = math.gcd(*(byte for _, byte in grown)) if grown else state
    groups = [Group(group.rule, group.window or group.ratio, byte // page) for group, byte in grown]
    if state:
        groups.append(Group("state", 0, -(-state // page)))
    num_block = budget.kv * attn_dp // page
    if num_block < 1:
        raise InputError("no room for what one sequence keeps", field="memory_share", value=budget.line())
    return Store(num_block, float(page), tuple(groups), block_token)


def _block_byte(group: KvGroup, block_token: int) -> int:
    """Bytes of `block_token` tokens in all layers of a group."""
    byte = group.num_layer * group.unit_byte * block_token
    if byte != int(byte):
        raise InputError(
            "blocks of whole bytes", field="block_token", value=block_token,
            allowed=f"a multiple at which {group.unit_byte:g} bytes are whole",
        )  # fmt: skip
    return int(byte)
