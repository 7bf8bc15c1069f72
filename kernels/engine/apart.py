"""A step whose layers are computed on two machines: attention on one, feed-forward on the other, activations sent
there and back every layer, in microbatches that take turns (ping-pong, MegaScale-Infer and Step-3, both 2025).

Each of `num` equal microbatches passes, layer by layer, the attention side (`near`), the link `there`, the
feed-forward side (`far`) and the link `back`; each of the four works on one microbatch at a time. In the steady state
a layer takes as long as the slowest of the four needs for all microbatches, or as one microbatch needs all the way
round, whichever is longer; before it the first microbatch fills the way, after it the last one leaves:

    layers x max(num x slowest, round trip) + (num - 1) x slowest + round trip - max(num x slowest, round trip)

of one kind of layer. Layers of several classes of attention follow in the order of their classes, each as if the
others were like it; dense parts of unlike layers count as their mean. One microbatch takes the sum of the four.
"""

from kernels.engine.price import (
    APART,
    NUM_CLASS,
    STRIDE,
    PackedPrice,
    decode_cost,
    layer_of,
    layers_of,
)
from kernels.engine.records import KV_MAX_GROW, KV_MAX_STILL, KV_SUM, NUM_KV_FIELD, Ints
from kernels.jit import njit

APART_FIELDS: tuple[str, ...] = ("num", "near", "far", "there", "back")
"""Of `StepPrice.apart`, by tokens of a step: its microbatches, and picoseconds of all layers of one of them on each
side (the attention side's without attention itself) and each way."""


@njit
def num_microbatch(p: PackedPrice, token: int) -> int:
    """Microbatches of a step of `token` tokens; 1 where one machine computes all layers."""
    return int(p.table[p.table[APART] + token]) if p.table[APART] > 0 else 1


@njit
def period_ps(num: int, near: float, far: float, there: float, back: float) -> tuple[float, float]:
    """Picoseconds of a layer in the steady state, and by how much the first one is longer.

    >>> period_ps(1, 3.0, 4.0, 1.0, 1.0), period_ps(2, 3.0, 4.0, 1.0, 1.0), period_ps(4, 4.0, 4.0, 0.0, 0.0)
    ((9.0, 0.0), (9.0, 4.0), (16.0, 4.0))
    """
    slowest = max(near, far, there, back)
    around = near + far + there + back
    layer = max(num * slowest, around)
    return layer, (num - 1) * slowest + around - layer


@njit
def parts(p: PackedPrice, token: int) -> tuple[float, float, float, float]:
    """Picoseconds a layer of one microbatch on both sides and both ways, attention itself left out."""
    table, at, n = p.table, p.table[APART] + token, float(max(layer_of(p, 0), 1))
    stride = table[STRIDE]
    return (
        table[at + stride] / n, table[at + 2 * stride] / n, table[at + 3 * stride] / n, table[at + 4 * stride] / n
    )  # fmt: skip


@njit
def decodes_saved_ps(p: PackedPrice, num_seq: int, work: Ints, kv: int) -> int:
    """Picoseconds by which a step of `num_seq` decodes is shorter than its microbatches one after another;
    `work[kv:]` holds the sums of the keys, class by class. Each microbatch has an even share of the keys."""
    num = num_microbatch(p, num_seq)
    near, far, there, back = parts(p, num_seq)
    rest = near + far + there + back
    part = -(-num_seq // num)
    plain, took, opened = 0.0, 0.0, False
    for c in range(p.table[NUM_CLASS]):
        held = layers_of(p.table, 0, c)
        if held == 0:
            continue
        at = kv + c * NUM_KV_FIELD
        longest = max(work[at + KV_MAX_GROW], work[at + KV_MAX_STILL])
        whole = decode_cost(p, c, num_seq, work[at + KV_SUM], longest)
        mine = decode_cost(p, c, part, -(-work[at + KV_SUM] // num), longest)
        layer, more = period_ps(num, near + mine[0], far, there, back)
        plain += held * (num * rest + whole[0])
        took += held * layer + (0.0 if opened else more)
        opened = True
    return int(plain - took + 0.5)


@njit
def spread_saved_ps(p: PackedPrice, token: int, attend_ps: int) -> int:
    """As `decodes_saved_ps` of a step that holds prompts: of its attention, `attend_ps` in all layers, each
    microbatch has an even share."""
    num, num_layer = num_microbatch(p, token), layer_of(p, 0)
    if num <= 1 or num_layer == 0:
        return 0
    near, far, there, back = parts(p, token)
    own = attend_ps / (num * num_layer)
    layer, more = period_ps(num, near + own, far, there, back)
    plain = num_layer * num * (near + own + far + there + back)
    return int(plain - num_layer * layer - more + 0.5)
