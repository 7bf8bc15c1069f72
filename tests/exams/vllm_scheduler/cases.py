"""What both schedulers are given: small loads that press on one decision each, drawn from a class and a number.

A step takes one unit of time, so that the k-th step of one is the k-th of the other.
"""

import dataclasses
import random
from collections.abc import Callable

BLOCK_TOKEN = 16


@dataclasses.dataclass
class Ask:
    """A request: when, the shared blocks that its prompt begins with, and tokens of its own."""

    arrival: int
    prefix: list[int]
    tail: int
    output: int
    priority: int = 0

    @property
    def prompt(self) -> int:
        """Tokens."""
        return BLOCK_TOKEN * len(self.prefix) + self.tail

    @property
    def block(self) -> int:
        """Blocks that it holds in the end."""
        return -(-(self.prompt + self.output) // BLOCK_TOKEN)


@dataclasses.dataclass
class Case:
    """A load and the limits of the engine that serves it."""

    name: str
    asks: list[Ask]
    budget: int  # tokens a step
    seats: int  # sequences that run
    num_block: int = 0  # 0: ample
    cache: bool = False
    by_priority: bool = False
    longest_chunk: int = 0
    interval: int = 1  # steps between two that compute prompts
    ahead: bool = False  # asynchronous scheduling
    stages: int = 1
    max_context: int = 1 << 16
    whole: bool = True  # where the version has the rule: an admission needs room for all of its prompt
    named: bool = False  # the load names every block, outputs too, instead of the shared ones alone
    by_token: bool = False  # outputs end by a stop token, which nobody knows before
    states: int = 0  # groups of recurrent layers beside the one of attention
    exports: bool = False  # their kernels leave a state at a block's edge on the way, too

    def __post_init__(self) -> None:
        if self.num_block == 0:
            self.num_block = 64 + sum(ask.block + 1 + 6 * self.states for ask in self.asks)


class Draw:
    """Draws of one case."""

    def __init__(self, name: str) -> None:
        self.random = random.Random(name)
        self.one_of = self.random.choice
        self.budget = self.one_of([32, 64, 100, 128, 256, 512, 2048])
        self.count = self.random.randint(3, 24)

    def to(self, low: int, high: int) -> int:
        """An integer of a range."""
        return self.random.randint(low, high)

    def seats(self, *sizes: int) -> int:
        """A limit of sequences that the budget can serve."""
        return min(self.budget, self.one_of(sizes or (1, 2, 4, 8, 16, 64)))

    def prompt(self, long: bool = False) -> int:
        """Tokens, often about a block's edge."""
        if long:
            return self.one_of([64, 512, 513, 1000, 1024, self.to(200, 2000)])
        return self.one_of([1, 16, 32, 33, 100, 128, 160, 255, 256, 257, self.to(1, 300), self.to(1, 600)])

    def branch(self) -> list[int]:
        """A prefix out of two system prompts of 24 blocks, cut anywhere or followed by one of two branches."""
        root = 100 * self.to(0, 1)
        cut = self.one_of([1, 4, 8, 16, 24, 24])
        found = list(range(root, root + cut))
        branch = self.to(0, 2)
        if cut == 24 and branch:
            start = root + 30 + 20 * branch
            found += range(start, start + self.one_of([2, 8, 16]))
        return found

    def asks(
        self, output: tuple[int, int] = (1, 40), long: bool = False, shared: bool = False, ranked: bool = False,
        spread: int | None = None,
    ) -> list[Ask]:  # fmt: skip
        """Requests over a span of time."""
        span = self.one_of([0, 0, 10, 40, 100]) if spread is None else spread
        found = []
        for arrival in sorted(self.to(0, span) for _ in range(self.count)):
            prefix = self.branch() if shared else []
            tail = self.one_of([0, 1, 8, 16, 17, 40, self.to(0, 80)]) if shared else self.prompt(long)
            rank = self.one_of([0, 0, 1, 2, 5]) if ranked else 0
            found.append(Ask(arrival, prefix, tail, self.to(*output), rank))
        return found

    def few(self, asks: list[Ask], low: float = 0.15, high: float = 0.6) -> int:
        """Blocks for a share of what all hold in the end, and for the largest of them."""
        need = [ask.block for ask in asks]
        return max(max(need) + self.to(0, 3), int(sum(need) * self.random.uniform(low, high)))


Make = Callable[[Draw, str], Case]
CLASSES: dict[str, Make] = {}


def _class(make: Make) -> Make:
    CLASSES[make.__name__.lstrip("_")] = make
    return make


@_class
def _ample(d: Draw, name: str) -> Case:
    return Case(name, d.asks(), d.budget, d.seats())


@_class
def _ample_cached(d: Draw, name: str) -> Case:
    return Case(name, d.asks(), d.budget, d.seats(), cache=True)


@_class
def _longest_chunk(d: Draw, name: str) -> Case:
    return Case(name, d.asks(long=True), d.budget, d.seats(), longest_chunk=d.one_of([16, 40, 64, 200]))


@_class
def _interval(d: Draw, name: str) -> Case:
    return Case(name, d.asks(long=d.one_of([True, False])), d.budget, d.seats(), interval=d.one_of([2, 3, 5, 9]))


@_class
def _interval_tight_cached(d: Draw, name: str) -> Case:
    tight = _tight(d, name, long=d.one_of([True, False]))
    return dataclasses.replace(tight, cache=d.one_of([True, False]), interval=d.one_of([2, 4]))


@_class
def _interval_ahead(d: Draw, name: str) -> Case:
    return Case(name, d.asks(shared=True), d.budget, d.seats(), cache=True, ahead=True, interval=d.one_of([2, 3, 5]))


@_class
def _context(d: Draw, name: str) -> Case:
    return Case(name, d.asks((1, 60)), d.budget, d.seats(), max_context=d.one_of([64, 128, 256]))


def _tight(d: Draw, name: str, long: bool = False) -> Case:
    asks = d.asks((5, 60) if long else (5, 120), long=long)
    blocks = d.few(asks, 0.3, 0.7) if long else d.few(asks)
    return Case(name, asks, d.budget, d.seats(64) if long else d.seats(8, 16, 64), blocks)


@_class
def _tight_whole(d: Draw, name: str) -> Case:
    return _tight(d, name)


@_class
def _tight_chunk(d: Draw, name: str) -> Case:
    return dataclasses.replace(_tight(d, name), whole=False)


@_class
def _tight_long(d: Draw, name: str) -> Case:
    d.budget = d.one_of([128, 256, 512])
    return _tight(d, name, long=True)


@_class
def _tight_cached(d: Draw, name: str) -> Case:
    return dataclasses.replace(_tight(d, name), whole=False, cache=True)


@_class
def _tight_cached_whole(d: Draw, name: str) -> Case:
    return dataclasses.replace(_tight(d, name), cache=True)


@_class
def _tight_named(d: Draw, name: str) -> Case:
    return dataclasses.replace(_tight(d, name), whole=False, cache=True, named=True)


@_class
def _prefix_apart(d: Draw, name: str) -> Case:
    asks = d.asks((1, 10), shared=True)
    for k, ask in enumerate(asks):
        ask.arrival = 3 * k
    return Case(name, asks, 2048, 64, cache=True)


@_class
def _prefix_same(d: Draw, name: str) -> Case:
    length, tail = d.one_of([1, 2, 4, 10]), d.one_of([0, 0, 1, 15])
    asks = [Ask(8 * k, list(range(length)), tail, d.to(1, 4)) for k in range(d.to(2, 6))]
    return Case(name, asks, 2048, 16, cache=True)


@_class
def _prefix_burst(d: Draw, name: str) -> Case:
    asks = d.asks(shared=True, spread=d.one_of([0, 0, 5]))
    return Case(name, asks, d.one_of([512, 2048, 8192]), 64, cache=True)


@_class
def _prefix_tight(d: Draw, name: str) -> Case:
    asks = d.asks((1, 60), shared=True, spread=d.one_of([50, 200, 600]))
    return Case(name, asks, 2048, d.one_of([4, 8, 64]), d.few(asks, 0.08, 0.35), cache=True, whole=False)


@_class
def _prefix_tight_named(d: Draw, name: str) -> Case:
    return dataclasses.replace(_prefix_tight(d, name), named=True)


@_class
def _priority(d: Draw, name: str) -> Case:
    return Case(name, d.asks(ranked=True), d.budget, d.seats(), by_priority=True)


@_class
def _priority_tight(d: Draw, name: str) -> Case:
    asks = d.asks((5, 120), ranked=True)
    return Case(name, asks, d.budget, d.seats(8, 16, 64), d.few(asks), by_priority=True, whole=False)


@_class
def _ahead(d: Draw, name: str) -> Case:
    return Case(name, d.asks(), d.one_of([256, 512, 2048]), d.seats(64), ahead=True)


@_class
def _ahead_seats(d: Draw, name: str) -> Case:
    return Case(name, d.asks(), d.budget, d.seats(1, 2, 4, 8), ahead=True)


@_class
def _ahead_tight(d: Draw, name: str) -> Case:
    return dataclasses.replace(_tight(d, name), whole=False, ahead=True)


@_class
def _ahead_tight_cached(d: Draw, name: str) -> Case:
    return dataclasses.replace(_tight_cached(d, name), ahead=True)


@_class
def _ahead_prefix_tight(d: Draw, name: str) -> Case:
    return dataclasses.replace(_prefix_tight(d, name), ahead=True)


@_class
def _ahead_prefix(d: Draw, name: str) -> Case:
    return Case(name, d.asks((1, 10), shared=True), 2048, 64, cache=True, ahead=True)


@_class
def _ahead_stop_token(d: Draw, name: str) -> Case:
    return Case(name, d.asks(), d.one_of([256, 512, 2048]), d.seats(4, 64), ahead=True, by_token=True)


@_class
def _ahead_stop_token_tight(d: Draw, name: str) -> Case:
    return dataclasses.replace(_tight(d, name), whole=False, ahead=True, by_token=True)


@_class
def _two_stages(d: Draw, name: str) -> Case:
    return Case(name, d.asks(), d.one_of([64, 128, 512]), 64, stages=2)


@_class
def _two_stages_seats(d: Draw, name: str) -> Case:
    return Case(name, d.asks(), d.budget, d.seats(2, 4, 8), stages=2)


@_class
def _two_stages_tight(d: Draw, name: str) -> Case:
    return dataclasses.replace(_tight(d, name), stages=2)


@_class
def _two_stages_tight_cached(d: Draw, name: str) -> Case:
    return dataclasses.replace(_tight(d, name), stages=2, cache=True)


@_class
def _four_stages(d: Draw, name: str) -> Case:
    return Case(name, d.asks(), d.one_of([64, 128, 512]), 64, stages=4)


@_class
def _four_stages_tight(d: Draw, name: str) -> Case:
    return dataclasses.replace(_tight(d, name), stages=4)


@_class
def _four_stages_tight_cached(d: Draw, name: str) -> Case:
    return dataclasses.replace(_tight(d, name), stages=4, cache=True)


def _states(d: Draw, found: Case, groups: int) -> Case:
    """The same load on a model with recurrent layers too."""
    more = 6 * groups if found.num_block < 64 + sum(ask.block + 1 for ask in found.asks) else 0
    return dataclasses.replace(
        found, states=groups, exports=d.one_of([False, True]), num_block=found.num_block + more * d.to(1, 4)
    )


@_class
def _states_alone(d: Draw, name: str) -> Case:
    return _states(d, _tight(d, name), d.to(1, 3))


@_class
def _states_ample(d: Draw, name: str) -> Case:
    found = Case(name, d.asks(long=True), d.budget, d.seats(), cache=True, longest_chunk=d.one_of([0, 0, 16, 40, 200]))
    return _states(d, dataclasses.replace(found, num_block=found.num_block * 4), d.to(1, 3))


@_class
def _states_prefix(d: Draw, name: str) -> Case:
    found = Case(name, d.asks((1, 60), shared=True), d.one_of([64, 256, 2048]), 64, cache=True)
    return _states(d, dataclasses.replace(found, num_block=found.num_block * 4), d.to(1, 3))


@_class
def _states_tight(d: Draw, name: str) -> Case:
    return _states(d, dataclasses.replace(_tight(d, name), cache=True, whole=d.one_of([False, True])), 1)


@_class
def _states_prefix_tight(d: Draw, name: str) -> Case:
    return _states(d, dataclasses.replace(_prefix_tight(d, name), whole=d.one_of([False, True])), 1)


@_class
def _states_ahead(d: Draw, name: str) -> Case:
    return dataclasses.replace(_states_prefix(d, name), ahead=True)


@_class
def _states_ahead_tight(d: Draw, name: str) -> Case:
    return dataclasses.replace(_states_prefix_tight(d, name), ahead=True)


@_class
def _states_two_stages(d: Draw, name: str) -> Case:
    return dataclasses.replace(_states_prefix(d, name), stages=2)


def case(kind: str, number: int) -> Case:
    """The `number`-th case of a class."""
    name = f"{kind}-{number}"
    return CLASSES[kind](Draw(name), name)
