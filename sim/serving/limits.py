"""What a fleet has, and how a run is to be made."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kernels.engine.records import ORDERS as ORDERS_OF_EVICTION
from kernels.errors import InputError
from sim.serving.plugin import Plugin
from sim.serving.rules import Group, Rank, Rules, Spans, Tier

if TYPE_CHECKING:
    from sim.serving.images import Images

ENDS = ("length", "token")


@dataclass(frozen=True)
class Limits:
    """What a fleet of equal replicas has.

    Raises `InputError` for what cannot be.
    """

    num_block: int  # KV blocks a replica (a device of it: every device of a replica holds a part of each block)
    block_token: int = 16
    max_context_token: int = 4096
    num_replica: int = 1
    prefix_cache: bool = True  # where requests name prefix units
    preemption: str = "recompute"  # or "swap"
    host_block: int = 0  # host memory for swapped KV, a replica
    ends: str = "length"  # what ends outputs: a known length (benchmarks that ignore stop tokens), or a "token"
    plan_ahead: int = 0  # steps between a plan and its step: 1 where the next step is planned while one runs
    timeout_s: float = 0.0  # clients give up so long after they asked; 0: never
    max_in_flight: int = 0  # likewise, of those that wait and those that run
    max_queue: int = 0  # requests that may wait at a replica: who comes to so many is refused; 0: any number
    watermark: float | None = None  # share of blocks that an admission leaves free; None: the policy's
    groups: tuple[Group, ...] = (Group(),)  # of layers, by how their KV grows
    rules: Rules = field(default_factory=Rules)
    spans: Spans = field(default_factory=Spans)
    ranks: tuple[Rank, ...] = ()  # of adapters, in turn; none: nobody asks for adapters
    tiers: tuple[Tier, ...] = ()  # below the blocks of a replica, the nearest first
    evict: str = "lru"  # which prefix unit leaves these blocks next: lru, lfu, or belady, who knows the load
    images: "Images | None" = None  # of the requests; None: nobody shows any

    @property
    def has_state(self) -> bool:
        """Whether sequences keep a state of their last token, which no prefix of it can be gone on from."""
        return any(group.rule == "state" for group in self.groups)

    @property
    def found_state(self) -> Group | None:
        """The group of states that others find at ends of blocks; None: there is none."""
        return next((group for group in self.groups if group.rule == "align"), None)

    def without_found_state(self) -> "Limits":
        """The same where a state is its sequence's alone (under a policy that finds none, or of requests that nobody
        knows beforehand)."""
        groups = tuple(Group("state", 0, one.weight) if one.rule == "align" else one for one in self.groups)
        return dataclasses.replace(self, groups=groups)

    def __post_init__(self) -> None:
        for name, low in (
            ("num_block", 1),
            ("block_token", 1),
            ("max_context_token", 2),
            ("num_replica", 1),
            ("host_block", 0),
            ("timeout_s", 0),
            ("max_queue", 0),
            ("max_in_flight", 0),
        ):
            value = getattr(self, name)
            if not low <= value < 2**31:
                raise InputError("out of range", field=name, value=value, allowed=f"{low} to 2147483647")
        if self.plan_ahead not in (0, 1):
            raise InputError("out of range", field="plan_ahead", value=self.plan_ahead, allowed="0 or 1")
        if self.ends not in ENDS:
            raise InputError("unknown", field="ends", value=self.ends, allowed=ENDS)
        if self.preemption not in ("recompute", "swap"):
            raise InputError("unknown", field="preemption", value=self.preemption, allowed=["recompute", "swap"])
        if self.preemption == "swap" and self.host_block == 0:
            raise InputError("swapping needs host memory", field="host_block", value=0, allowed=">= 1")
        if self.evict not in ORDERS_OF_EVICTION:
            raise InputError("unknown", field="kv_evict", value=self.evict, allowed=ORDERS_OF_EVICTION)
        if self.rules.radix and self.preemption == "swap":
            raise InputError("an engine whose cache is a tree computes again what it preempts", field="preemption",
                             value=self.preemption, allowed="recompute")  # fmt: skip
        if self.rules.radix and self.rules.keep_duplicate:
            raise InputError("a tree holds a block once", field="keep_duplicate", value=True, allowed="false")
        if self.rules.radix and self.evict != ORDERS_OF_EVICTION[0]:
            raise InputError("a cache that is a tree evicts its branches in order of use", field="kv_evict",
                             value=self.evict, allowed=ORDERS_OF_EVICTION[0])  # fmt: skip
        if self.found_state is not None and not (self.prefix_cache and self.rules.finds_state):
            raise InputError(
                "states are found in a prefix cache, by rules find_state, share_early, keep_duplicate, and not radix",
                field="groups", value="align", allowed="state",
            )  # fmt: skip
        if self.watermark is not None and not 0 <= self.watermark < 1:
            raise InputError("out of range", field="watermark", value=self.watermark, allowed="0 to below 1")


def finds_state(policy: Plugin) -> bool:
    """Whether the policy's chunks end where states can be found, and its KV lies in blocks that others can hold."""
    return policy.flag("FINDS_STATE") and "reserve" not in policy.value


ORDERS = ("fcfs", "sjf", "priority")
ENGINES = ("auto", "run-ahead", "stepping")


@dataclass(frozen=True)
class Options:
    """How a run is made."""

    order: str = "fcfs"  # of the waiting queue: by arrival, predicted output, or priority (then arrival)
    seed: int = 0
    engine: str = "auto"  # run-ahead where policy and router compile, else stepping
    record_steps: bool = False
    progress: Callable[[int, int], None] | None = None  # called about twice a second with requests ended and steps
    execute: Callable[[Any, int], int] | None = None  # carries out each plan, says how long it took; see `stepping`
    budget: int = 400_000  # steps and arrivals between two looks at the outside

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise InputError("unknown", field="order", value=self.order, allowed=ORDERS)
        if self.engine not in ENGINES:
            raise InputError("unknown", field="engine", value=self.engine, allowed=ENGINES)


def max_seq(policy: Plugin) -> int:
    """Sequences a step (a lane, where a pipeline has several)."""
    return int(policy.value["max_seq"])


def max_sampled(policy: Plugin, limits: Limits) -> int:
    """Rows of a step that go through the head: one a sequence, and one a drafted token that it verifies."""
    return most_sampled(policy, max_token(policy, limits))


def most_sampled(policy: Plugin, max_token: int) -> int:
    """As `max_sampled`, for steps of up to `max_token`."""
    from sim.serving.speculation import lookahead

    seqs = max_seq(policy)
    return max(seqs, min(seqs * (1 + lookahead(policy)), max_token))


def max_token(policy: Plugin, limits: Limits) -> int:
    """Tokens a step: the policy's, or, where it says 0, the longest context (2,048 at least)."""
    given = int(policy.value["max_token"])
    return given if given > 0 else max(2048, limits.max_context_token)
