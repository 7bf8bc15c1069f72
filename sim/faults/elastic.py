"""Going on with fewer devices: what moves, how long that takes, and how the work is split afterwards.

After a failure the optimizer states that a group shares are cut anew among the survivors, layers move between stages,
and microbatches of the lost replica go to the others (the recovery of ElasWave and its like). Times are bytes over
links; what a lost device held comes from a copy that a peer or the storage has.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kernels.errors import InputError


def reshard_byte(state_byte: float, num_before: int, survivor: Sequence[int]) -> npt.NDArray[np.float64]:
    """`[receiver, sender]` bytes when states that lie in equal parts on `num_before` devices are cut into equal parts
    on the survivors, in order. The last column is what nobody alive holds: it comes from a copy.

    >>> reshard_byte(12.0, 4, [0, 1, 2])  # thirds of 4 B from quarters of 3 B; device 3 is gone
    array([[0., 1., 0., 0.],
           [0., 0., 2., 0.],
           [0., 0., 0., 3.]])
    """
    alive = sorted(set(survivor))
    if len(alive) < len(survivor) or not alive or alive[0] < 0 or alive[-1] >= num_before:
        raise InputError("distinct devices", field="survivor", value=list(survivor), allowed=f"0 to {num_before - 1}")
    low, high = np.arange(num_before) / num_before, (np.arange(num_before) + 1) / num_before
    moved = np.zeros((len(alive), len(alive) + 1))
    for new in range(len(alive)):
        begin, end = new / len(alive), (new + 1) / len(alive)
        share = np.clip(np.minimum(high, end) - np.maximum(low, begin), 0.0, None) * state_byte
        for old in range(num_before):
            if old in alive:
                if alive.index(old) != new:
                    moved[new, alive.index(old)] += share[old]
            else:
                moved[new, -1] += share[old]
    return np.round(moved, 6)


def reshard_s(
    state_byte: float,
    num_before: int,
    survivor: Sequence[int],
    link_byte_per_s: float,
    copy_byte_per_s: float,
    latency_s: float = 0.0,
) -> float:
    """Seconds of that: devices send and receive at `link_byte_per_s` a direction at once, copies come at
    `copy_byte_per_s` all together."""
    moved = reshard_byte(state_byte, num_before, survivor)
    between = moved[:, :-1]
    busiest = max(float(between.sum(axis=1).max()), float(between.sum(axis=0).max()))
    return latency_s + max(busiest / link_byte_per_s, float(moved[:, -1].sum()) / copy_byte_per_s)


def migrate_s(layer_byte: float, before: Sequence[int], after: Sequence[int], link_byte_per_s: float) -> float:
    """Seconds until stages that held `before` layers hold `after`, each in order: every boundary carries the layers
    that cross it, all boundaries at once, a stage's two boundaries on one link.

    >>> migrate_s(10.0, [4, 4, 4], [3, 4, 5], 5.0)  # one layer crosses each boundary; the middle receives and sends
    2.0
    """
    if sum(before) != sum(after) or len(before) != len(after) or min([*before, *after]) < 0:
        raise InputError("as many layers and stages as before", field="after", value=list(after))
    crossing = (np.cumsum(before) - np.cumsum(after))[:-1]  # above 0: towards the last stage
    forward, back = np.maximum(crossing, 0), np.maximum(-crossing, 0)
    sent = np.append(forward, 0) + np.insert(back, 0, 0)
    received = np.insert(forward, 0, 0) + np.append(back, 0)
    return float(max(sent.max(), received.max())) * layer_byte / link_byte_per_s


def split_layers(num_layer: int, speed: Sequence[float]) -> list[int]:
    """Layers a stage such that the slowest stage is as quick as it can be, where stage i does `speed[i]` layers a
    second. Ties go to earlier stages.

    >>> split_layers(12, [1.0, 1.0, 0.5])
    [5, 5, 2]
    """
    rate = np.asarray(speed, np.float64)
    if num_layer < 0 or not rate.size or not (rate > 0).all():
        raise InputError("speeds above 0", field="speed", value=list(speed))
    layers = np.zeros(rate.size, np.int64)
    for _ in range(num_layer):  # the stage that ends first with one more takes it: exact for one maximum
        layers[int(np.argmin((layers + 1) / rate))] += 1
    return [int(count) for count in layers]


def replica_step(num_microbatch: int, dp: int, num_lost: int, *, share: bool = True) -> float:
    """Step time with `num_lost` of `dp` replicas gone, relative to all: their microbatches go to the others (`share`),
    a whole one at a time; without, the batch shrinks and the step does not change.

    >>> replica_step(8, 8, 1)  # 64 microbatches over 7: one has ten
    1.25
    """
    if not 0 <= num_lost < dp:
        raise InputError("out of range", field="num_lost", value=num_lost, allowed=f"0 to {dp - 1}")
    return -(-num_microbatch * dp // (dp - num_lost)) / num_microbatch if share else 1.0
