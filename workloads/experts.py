"""How tokens fall on the devices and nodes of their experts, for those who lay a layer out.

The law itself is that of the kernels: loads in `kernels.moe_load` (rows and experts with work of the fullest device),
copies in `kernels.expert_exchange`.
"""

from kernels.expert_exchange import distinct
from kernels.moe_load import local_load


def fullest_rank(num_token: float, num_expert: int, topk: int, ep: int, skew: float = 0.0) -> tuple[float, float]:
    """(rows, experts with work) of the fullest of `ep` devices, of `num_token` tokens of the whole expert group.

    >>> fullest_rank(4096, 8, 2, 4)  # all alike
    (2048.0, 2.0)
    >>> fullest_rank(4096, 8, 2, 4, 0.8)[0] > 2048
    True
    """
    row, active, _ = local_load(round(num_token), num_expert, topk, ep, skew, 1.0)
    return float(row), float(active)


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
