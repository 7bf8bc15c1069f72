"""Exact zero bubble under a memory limit for small cases: a mixed-integer program (after Qi et al. 2023, appendix)."""

import itertools
from collections.abc import Sequence

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from kernels.errors import InputError
from workloads.pipeline import Op, Order

NAME = "zb-exact"
MAX_ORDER_VARIABLE = 400  # pairs whose order is open; HiGHS proves such cases in seconds to minutes
KINDS = "FIW"
PAIRS = (("F", "I"), ("F", "W"), ("I", "W"))


def order(
    num_rank: int,
    num_microbatch: int,
    times: Sequence[int | Sequence[int]] = (1, 1, 1),
    hop: int = 0,
    memory: Sequence[int] = (1, 0, -1),
    limit: int | None = None,
    time_limit_s: float = 120.0,
) -> Order:
    """The order whose longest stay of a rank is proven shortest; arguments as of `zb_auto`.

    Unknowns: start times, the span, and for each pair of a later microbatch's earlier kind and an earlier
    microbatch's later kind (F_i against I_j, F_i against W_j, I_i against W_j, i > j) which of them comes first.
    Raises `InputError` where the case is too large, infeasible, or not proven in `time_limit_s`.
    """
    p, m = num_rank, num_microbatch
    for time in times:
        if not isinstance(time, int | np.integer) and len(time) != p:
            raise InputError("a time for each stage", field="times", value=len(time), allowed=str(p))
    most = p * memory[0] if limit is None else limit
    num_open = p * len(PAIRS) * m * (m - 1) // 2
    if num_open > MAX_ORDER_VARIABLE:
        raise InputError(
            f"too large for the exact program ({num_open} open pairs of operations); zb-auto takes it",
            field="microbatches", value=m, allowed=f"<= {MAX_ORDER_VARIABLE} pairs",
        )  # fmt: skip
    cost = np.array([np.broadcast_to(np.asarray(time), p) for time in times], float)
    horizon = float(cost.sum() * m + 2 * p * (hop + cost.max()))
    start = {key: n for n, key in enumerate(itertools.product(range(p), KINDS, range(m)))}
    before: dict[tuple[int, str, int, str, int], int] = {}  # 1: the later kind of microbatch j runs first
    for j, (a, b), i in itertools.product(range(p), PAIRS, range(m)):
        for k in range(i):
            before[j, a, i, b, k] = len(start) + len(before)
    span = len(start) + len(before)
    rows: list[tuple[dict[int, float], float]] = []  # sum >= bound

    def after(
        late: tuple[int, str, int], early: tuple[int, str, int], delay: float, switch: int = -1, sign: int = 0
    ) -> None:
        """late >= early + delay, where `switch` is 1 (sign 1) or 0 (sign -1)."""
        terms = {start[late]: 1.0, start[early]: -1.0}
        if switch >= 0:
            terms[switch] = -sign * horizon
        rows.append((terms, delay - (horizon if sign > 0 else 0.0)))

    for j, k in itertools.product(range(p), range(m)):
        c = dict(zip(KINDS, cost[:, j], strict=True))
        after((j, "I", k), (j, "F", k), c["F"])
        after((j, "W", k), (j, "I", k), c["I"])
        if j > 0:
            after((j, "F", k), (j - 1, "F", k), cost[0, j - 1] + hop)
            after((j - 1, "I", k), (j, "I", k), c["I"] + hop)
        for kind in KINDS if k else ():
            after((j, kind, k), (j, kind, k - 1), c[kind])
        if k == m - 1:
            rows.append(({span: 1.0, start[j, "W", k]: -1.0, start[j, "F", 0]: 1.0}, c["W"]))
        used = {before[j, "F", k, "I", q]: -float(memory[1]) for q in range(k)}
        used |= {before[j, "F", k, "W", q]: -float(memory[2]) for q in range(k)}
        rows.append((used, float((k + 1) * memory[0] - most)))
    for (j, a, i, b, k), switch in before.items():
        after((j, a, i), (j, b, k), cost[KINDS.index(b), j], switch, 1)
        after((j, b, k), (j, a, i), cost[KINDS.index(a), j], switch, -1)
    terms = [(r, column, value) for r, (row, _) in enumerate(rows) for column, value in row.items()]
    at, columns, values = zip(*terms, strict=True)
    matrix = coo_array((values, (at, columns)), shape=(len(rows), span + 1)).tocsr()
    upper = np.full(span + 1, horizon)
    upper[len(start) : span] = 1
    upper[start[0, "F", 0]] = 0
    objective = np.zeros(span + 1)
    objective[span] = 1
    integrality = np.zeros(span + 1, np.int64)
    integrality[len(start) : span] = 1
    solved = milp(
        objective, integrality=integrality, bounds=Bounds(0, upper),
        constraints=LinearConstraint(matrix, np.array([bound for _, bound in rows])),
        options={"time_limit": time_limit_s, "mip_rel_gap": 0.0},
    )  # fmt: skip
    if solved.x is None or solved.status != 0:
        raise InputError(f"not proven: {solved.message}", field="time_limit_s", value=time_limit_s)
    keys = sorted(start, key=lambda key: (key[0], round(float(solved.x[start[key]]), 6), KINDS.index(key[1])))
    return [[Op(kind, j, k) for j, kind, k in keys if j == rank] for rank in range(p)]
