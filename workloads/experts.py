"""How tokens fall on experts: the popularity law and what it means for a batch."""

import numpy as np
import numpy.typing as npt

from kernels.expert_exchange import distinct

Floats = npt.NDArray[np.float64]


def popularity(num_expert: int, topk: int, skew: float = 0.0) -> Floats:
    """Chance that a token picks each expert, sorted; sums to `topk`, none above 1.

    Zipf's law with exponent `skew` (0: all alike); what exceeds certainty is handed to the others.

    >>> popularity(8, 2).tolist()
    [0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25]
    """
    share = np.arange(1, num_expert + 1, dtype=np.float64) ** -skew
    chance = share * (topk / share.sum())
    certain = 0
    while certain < num_expert and chance[certain] > 1:
        chance[: certain + 1] = 1.0
        certain += 1
        rest = share[certain:]
        chance[certain:] = rest * ((topk - certain) / rest.sum()) if rest.size else 0.0
    return chance


def active_expert(num_token: npt.ArrayLike, num_expert: int, topk: int, skew: float = 0.0) -> Floats:
    """Expected number of distinct experts that `num_token` independent tokens wake, in all.

    `sum_i 1 - (1 - p_i)^m`, exact for independent tokens with popularity `p`.

    >>> round(float(active_expert(1, 8, 2)), 6), round(float(active_expert(2, 8, 2)), 6)
    (2.0, 3.5)
    """
    m = np.asarray(num_token, dtype=np.float64)
    if skew == 0:
        return np.asarray(num_expert * (1.0 - (1.0 - topk / num_expert) ** m))
    idle = 1.0 - popularity(num_expert, topk, skew)
    total = np.zeros(m.shape)
    for value in idle:
        total += 1.0 - value**m
    return total


def distinct_rank(num_expert: int, topk: int, ep: int) -> float:
    """Expected devices that hold at least one of a token's `topk` experts, experts in equal blocks of
    `num_expert / ep`, all choices alike (hypergeometric: `ep (1 - C(E - E/ep, k) / C(E, k))`).

    >>> distinct_rank(8, 2, 1), distinct_rank(8, 2, 8)
    (1.0, 2.0)
    """
    return float(distinct(float(num_expert), float(topk), float(ep)))


def distinct_node(num_expert: int, topk: int, num_node: int, limit: int = 0) -> float:
    """Expected nodes that hold at least one of a token's experts; no more than `limit` where routing is limited
    (DeepSeek-V3: four; 0: any number). With fewer nodes the token's experts lie on `limit` nodes that it chose first.

    >>> distinct_node(256, 8, 8), distinct_node(256, 8, 8, 4)  # 5.3 nodes; four at most, of which nearly all are used
    (5.294..., 3.6...)
    """
    if limit <= 0 or limit >= num_node:
        return distinct_rank(num_expert, topk, num_node)
    return distinct_rank(num_expert // num_node * limit, topk, limit)
