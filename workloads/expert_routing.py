"""Which experts each sequence of a batch asks for, step after step: popularity and how long a choice lasts.

Both are what a routing trace measures and nothing here predicts: `skew` is the exponent of a power law of popularity,
another order of experts in every layer; `stay` the chance that a sequence keeps a layer's choice at its next token.
"""

import numpy as np
import numpy.typing as npt

from kernels.errors import InputError

Choices = npt.NDArray[np.int16]  # [step, layer, sequence, topk]


def popularity(num_layer: int, num_expert: int, skew: float, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """`[layer, expert]` odds of each expert, which add to 1 in a layer."""
    odds = np.arange(1, num_expert + 1, dtype=float) ** -skew
    return np.stack([random.permutation(odds / odds.sum()) for _ in range(num_layer)])


def draw(
    num_step: int, num_layer: int, num_expert: int, topk: int, num_seq: int, *, skew: float, stay: float, seed: int = 0
) -> Choices:
    """`topk` distinct experts of every sequence in every layer and step, by the odds without replacement (the largest
    of log odds with Gumbel noise).

    >>> draw(2, 3, 8, 2, 4, skew=0.0, stay=1.0).shape
    (2, 3, 4, 2)

    Raises `InputError` for more choices than experts and for a `stay` that is no chance.
    """
    if not 1 <= topk <= num_expert:
        raise InputError("out of range", field="topk", value=topk, allowed=f"1 to {num_expert}")
    if not 0 <= stay <= 1:
        raise InputError("not a probability", field="stay", value=stay, allowed="0 to 1")
    random = np.random.default_rng(seed)
    score = np.log(popularity(num_layer, num_expert, skew, random))[:, None, :]
    found = np.empty((num_step, num_layer, num_seq, topk), np.int16)
    for step in range(num_step):
        noise = random.gumbel(size=(num_layer, num_seq, num_expert))
        found[step] = np.argpartition(-(score + noise), topk - 1, axis=2)[:, :, :topk]
        if step:
            kept = random.random((num_layer, num_seq)) < stay
            found[step][kept] = found[step - 1][kept]
    return found


def expert_rows(choices: Choices, num_expert: int) -> npt.NDArray[np.int64]:
    """`[step, layer, expert]` rows of a batch on each expert; they add to sequences times `topk`."""
    num_step, num_layer = choices.shape[:2]
    cell = np.arange(num_step * num_layer)[:, None] * num_expert + choices.reshape(num_step * num_layer, -1)
    return np.bincount(cell.ravel(), minlength=num_step * num_layer * num_expert).reshape(
        num_step, num_layer, num_expert
    )


def predicted(rows: npt.NDArray[np.int64], accuracy: float, seed: int = 0) -> npt.NDArray[np.bool_]:
    """`[step, layer, expert]` experts that a predictor names: each that is used with the chance `accuracy`, and for
    each that it misses another one of the layer that is not used (it names as many, where there are so many)."""
    if not 0 <= accuracy <= 1:
        raise InputError("not a probability", field="accuracy", value=accuracy, allowed="0 to 1")
    random = np.random.default_rng(seed)
    used = rows > 0
    said = used & (random.random(rows.shape) < accuracy)
    wrong = (used & ~said).sum(axis=2, keepdims=True)
    rank = np.argsort(np.argsort(np.where(used, 2.0, random.random(rows.shape)), axis=2), axis=2)
    return np.asarray(said | ((rank < wrong) & ~used))


def regrouped(choices: Choices, num_expert: int, rounds: int = 8) -> npt.NDArray[np.int64]:
    """An order of the sequences whose two halves share experts: 2-means with equal halves over how often each sequence
    asks for each expert (ExpertFlow's regrouping of two batches)."""
    num_layer, num_seq = choices.shape[1], choices.shape[2]
    taste = np.zeros((num_seq, num_layer * num_expert))
    for layer in range(num_layer):
        for one in range(num_seq):
            np.add.at(taste[one], layer * num_expert + choices[:, layer, one].ravel(), 1.0)
    far = int(((taste - taste[0]) ** 2).sum(axis=1).argmax())
    first, second = taste[0], taste[far]
    order = np.arange(num_seq)
    for _ in range(rounds):
        lean = ((taste - first) ** 2).sum(axis=1) - ((taste - second) ** 2).sum(axis=1)
        order = np.argsort(lean, kind="stable")
        half = num_seq // 2
        first, second = taste[order[:half]].mean(axis=0), taste[order[half:]].mean(axis=0)
    return order
