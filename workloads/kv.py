"""Bytes that sequences keep on a device: one list of groups, from the configuration, that everybody asks.

A *group* is layers of one stage that keep the same thing by the same rule:

========  ===============================================================================================
linear    every token keeps `unit_byte` in each of the layers, as long as its sequence lives
window    as linear, but a sequence of `length` keeps the last `window` tokens alone
budget    as linear, but a sequence keeps `window` computed tokens of its choice alone (heavy hitters, recent ones)
ratio     an entry of `unit_byte` every `ratio` tokens (compressed attention)
state     `unit_byte` a sequence, however long it is (recurrent layers; windows of compressed attention)
========  ===============================================================================================

Memory budgets, block stores, transfers and reports are all built from `groups`.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from kernels.formats import FORMAT_CODE, FORMATS
from workloads.formats import Formats
from workloads.models.layers.base import State
from workloads.models.spec import Attention, ModelSpec
from workloads.placement import Placement
from workloads.rows import ceil_div

Rule = Literal["linear", "window", "budget", "ratio", "state"]


@dataclass(frozen=True)
class KvGroup:
    """`num_layer` layers that keep `unit_byte` bytes a unit each, on one device.

    A unit is a token (linear, window), an entry of `ratio` tokens, or a sequence (state).

    >>> KvGroup("window", "window", 3, 8.0, window=128).byte(1000)
    3072.0
    """

    name: str  # "kv", "index", or what the layer kind calls its state
    rule: Rule
    num_layer: int
    unit_byte: float
    window: int = 0  # tokens of the window or the budget
    ratio: int = 0

    def units(self, length: int) -> int:
        """Units that a sequence of `length` tokens keeps in each layer."""
        if self.rule == "state":
            return 1
        if self.rule in ("window", "budget"):
            return min(length, self.window)
        return length // self.ratio if self.rule == "ratio" else length

    def byte(self, length: int) -> float:
        """Bytes that a sequence of `length` tokens keeps in all of the layers."""
        return self.num_layer * self.unit_byte * self.units(length)

    @property
    def token_byte(self) -> float:
        """Bytes that one more token keeps, windows not yet full."""
        if self.rule == "state":
            return 0.0
        return self.num_layer * self.unit_byte / (self.ratio or 1)


def groups(model: ModelSpec, formats: Formats, placement: Placement, stage: int = 0) -> tuple[KvGroup, ...]:
    """What sequences keep on one device of a stage, in order of first layer.

    >>> from workloads import models
    >>> groups(models.load("gpt-oss-20b"), Formats(), Placement())
    (KvGroup(name='kv', rule='window', num_layer=12, unit_byte=2048.0, window=128, ratio=0),
     KvGroup(name='kv', rule='linear', num_layer=12, unit_byte=2048.0, window=0, ratio=0))
    """
    start, stop = placement.stages(model.num_layer)[stage]
    total: dict[tuple[str, Rule, float, int, int], int] = {}
    for block, count in model.num_block(start, stop).items():
        kept = [*_attention(block.attention, formats, placement.tp)]
        if block.mixer is not None:
            kept += [_state(state, formats, placement.tp) for state in block.mixer.states()]
        for key in kept:
            total[key] = total.get(key, 0) + count
    return tuple(
        KvGroup(name, rule, count, unit_byte, window, ratio)
        for (name, rule, unit_byte, window, ratio), count in total.items()
    )


def limited(kept: Iterable[KvGroup], budget_token: int) -> tuple[KvGroup, ...]:
    """The same groups where a sequence keeps at most `budget_token` tokens (0: all) in layers that kept every one.

    >>> limited([KvGroup("kv", "linear", 2, 8.0), KvGroup("kv", "window", 2, 8.0, window=9)], 100)[0].byte(1000)
    1600.0
    """
    return tuple(
        dataclasses.replace(group, rule="budget", window=budget_token)
        if budget_token and (group.name, group.rule) == ("kv", "linear") else group
        for group in kept
    )  # fmt: skip


def sequence_byte(kept: Iterable[KvGroup], length: int) -> float:
    """Bytes of one sequence of `length` tokens in the groups `kept`."""
    return sum(group.byte(length) for group in kept)


def token_byte(kept: Iterable[KvGroup]) -> float:
    """Bytes that one more token keeps, windows not yet full."""
    return sum(group.token_byte for group in kept)


def state_byte(kept: Iterable[KvGroup]) -> float:
    """Bytes that a sequence keeps whatever its length."""
    return sum(group.byte(1) for group in kept if group.rule == "state")


def token_value(attention: Attention, tp: int) -> int:
    """Cached values a token of one layer on one device: whole heads (replicated where `tp` exceeds them);
    a latent is not divided, and a layer that reads another's cache keeps nothing.

    >>> token_value(Attention(64, 8, 128, 128), 8), token_value(Attention(64, 8, 128, 128), 16)
    (256, 256)
    """
    if attention.shared_kv:
        return 0
    if attention.latent:
        return attention.kv_rank + attention.rope_dim
    return ceil_div(attention.num_kv_head, tp) * (attention.head_dim + attention.v_head_dim)


def format_byte(name: str) -> float:
    """Stored bytes of a KV value of the format `name`."""
    return FORMATS[FORMAT_CODE[name]].weight_bit / 8


Key = tuple[str, Rule, float, int, int]


def _attention(a: Attention, formats: Formats, tp: int) -> list[Key]:
    if not a.num_head or a.shared_kv:
        return []
    byte = format_byte(a.kv_format) if a.kv_format else formats.kv_byte
    rule: Rule = "window" if a.window else "linear"
    found: list[Key] = [("kv", rule, token_value(a, tp) * byte, a.window, 0)]
    index = a.indexer
    if index is not None and index.reads:
        found.append(("index", "linear", index.key_byte or index.head_dim * formats.kv_byte, 0, 0))
    return found


def _state(state: State, formats: Formats, tp: int) -> Key:
    value = ceil_div(state.value, tp) if state.sharded else state.value
    byte = state.byte or (formats.kv_byte if state.cached else formats.act_byte("activation"))
    if state.ratio:
        return (state.name, "ratio", value * byte, 0, state.ratio)
    # a window that stands beside compressed entries is a ring of fixed size, given to a sequence as a whole
    return (state.name, "state", value * byte * (state.window or 1), state.window, 0)
