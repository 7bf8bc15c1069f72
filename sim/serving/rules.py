"""How an engine keeps its books: what each version of a serving engine decides beside its policy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """How the KV of one group of layers grows: `rule` of `kernels.engine.records.RULES`, its `size_token` where it has
    one (of states that are found, 1: a step that ends a prompt leaves the one at its last whole block as well), and the
    blocks of the store that `block_token` tokens (a state) take."""

    rule: str = "linear"
    size_token: int = 0
    weight: int = 1


@dataclass(frozen=True)
class Spans:
    """Which spans of keys the decodes of a step read together (`kernels.engine.span`): those of `least_token` tokens
    and more that `least_row` rows hold (0: none), where `common` says so all decodes of the step."""

    least_row: int = 0
    least_token: int = 1
    common: bool = False


@dataclass(frozen=True)
class Rank:
    """What an adapter of `size` takes: blocks of the store, and picoseconds to fetch it from the host."""

    size: int
    num_block: int
    fetch_ps: int


@dataclass(frozen=True)
class Tier:
    """A store below a replica's (`kernels.engine.tier`): KV blocks that it holds, picoseconds a block on its link."""

    name: str
    num_block: int
    read_ps: int
    write_ps: int
    latency_ps: int = 0
    order: int = 0  # of eviction, of `kernels.engine.records.ORDERS`
    shared: int = 1  # consecutive replicas that have one store and link between them; 0: all
    via: int = -1  # the tier whose link it passes too


@dataclass(frozen=True)
class Rules:
    """Decisions of an engine's scheduler and block manager (table `scheduler` of its profile)."""

    own_cache: bool = False  # with a prefix cache: full blocks that no load names stay behind too, for their sequence
    share_early: bool = False  # a block can be found from its scheduling on, not only from the end of its step
    end_late: bool = False  # where steps are planned ahead: who ends keeps its seat until the next step is planned
    admit_whole: bool = False  # an admission needs room for the whole prompt, whatever its first chunk
    pooled: bool = False  # pipeline stages share one running list and one limit of sequences; a plan is made as soon
    # as a batch is free, and chunks of one prompt follow each other (but under a policy whose batches are held)
    empty_ends: bool = False  # pooled: a batch without rows that is the oldest ends when a step is launched
    empty_fills: bool = False  # pooled: where nothing can be planned, batches without rows take every place in flight
    by_admission: bool = False  # the running list is in order of admission; a priority decides who is preempted alone
    goes_on: bool = False  # who preempts itself does not end the plan
    drains: bool = False  # pooled: who is preempted waits, first in the queue, until its steps in flight have ended;
    # those behind it are admitted meanwhile
    keep_duplicate: bool = False  # who computes a block that is resident already keeps its own copy
    lone_prompt: bool = False  # a prompt that is alone is not cut to the policy's longest chunk
    radix: bool = False  # the cache is a tree: what a step leaves in it is one branch, which is used again and evicted
    # as a whole until another sequence is found to part from it
    find_state: bool = False  # with a prefix cache: states of recurrent layers stay behind at ends of blocks, and a
    # sequence goes on from the last that is found with all keys before it (`kernels.engine.snapshot`)
    export_state: tuple[str, ...] = ()  # kinds of recurrent layers whose kernels leave a state on their way; prompts of
    # others stop for it
    release_order: bool = False  # empty blocks queue for use behind older cached ones

    @property
    def finds_state(self) -> bool:
        """Whether such states are found: by name, from their scheduling on, of copies each."""
        return self.find_state and self.share_early and self.keep_duplicate and not self.radix
