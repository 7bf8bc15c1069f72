"""One weight tensor: its values, its part of the model, how a placement divides it, what checkpoints call it."""

from dataclasses import dataclass

PARTS = ("embedding", "norm", "attention", "mixer", "ffn", "router", "expert", "head")


@dataclass(frozen=True)
class Tensor:
    """`value` weights in each of `count` copies.

    `shard` says how a placement divides it: "tp" by tensor parallelism, "kv" like "tp" but never finer than
    a key-value head, "expert" over experts and their tensor parallelism, "vocab" by padded vocabulary rows,
    "" replicated. `row` is what is counted in whole units when it is sharded (KV heads, experts, vocabulary).
    `module` are the names, within a layer, of the linear modules that it holds, under the spellings of the
    architectures that have it: a checkpoint's lists of (un)quantised modules are matched against them. Tensors
    without a module are never quantised.
    """

    name: str
    part: str
    value: int
    count: int = 1
    shard: str = ""
    row: int = 1
    module: tuple[str, ...] = ()
