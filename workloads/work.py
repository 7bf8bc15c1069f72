"""What a list of attention rows amounts to: query rows, sequences, pairs and keys that are seen."""

import numpy as np

from kernels import optable as op


def work_size(work: op.WorkTable) -> tuple[float, float]:
    """Query rows and sequences."""
    return float((work["count"] * work["query_len"]).sum()), float(work["count"].sum())


def visible(work: op.WorkTable, window: int) -> tuple[float, float]:
    """Query-key pairs and distinct keys that the rows see, with a window (0: none) on the causal ones.

    Row `r` of a causal rectangle sees `min(window, kv_len - query_len + r + 1)` keys; rows of a shared span
    all see all of it.

    >>> _, rows = op.empty(0, 1); rows["query_len"], rows["kv_len"], rows["causal"] = 3, 5, 1
    >>> visible(rows, 0), visible(rows, 4)
    ((12.0, 5.0), (11.0, 5.0))
    """
    count, q, kv = (work[field].astype(np.float64) for field in ("count", "query_len", "kv_len"))
    reach = np.where((work["causal"] == 1) & (window > 0), np.minimum(float(window), kv), kv)
    prefix = kv - q
    short = np.clip(reach - prefix, 0.0, q)  # causal rows that see less than the whole reach
    triangle = short * prefix + short * (short + 1) / 2 + (q - short) * reach
    pair = np.where(work["causal"] == 1, triangle, q * kv)
    seen = np.where(reach < kv, np.minimum(kv, reach + q - 1), kv)
    return float((count * pair).sum()), float((count * seen).sum())
