"""Automatic zero-bubble scheduling under a memory limit: one greedy pass, fast enough to try many settings.

After Qi et al. 2023 ("Zero Bubble Pipeline Parallelism", section 3.1): fill the time before the first gradient with
forwards as far as memory allows, then a forward and an input gradient a round, weight gradients into gaps.
"""

import numpy as np

from kernels.jit import njit
from kernels.schedule import FORWARD, INPUT_GRAD, WEIGHT_GRAD, Ints

EARLY_BUBBLE, HOLD_FORWARD, KEEP_GAP = 1, 2, 4  # settings, or'ed
NUM_SETTING = 8


@njit
def _put(
    kind: int, j: int, table: Ints, hop: Ints, delta: Ints, count: Ints, now: Ints, mem: Ints, gap: Ints,
    end_f: Ints, end_b: Ints, kinds: Ints,
) -> None:  # fmt: skip
    """Run the next operation of this kind on stage j as early as it can."""
    p, k = now.size, count[kind, j]
    ready = _ready(kind, j, k, p, hop, end_f, end_b)
    start = max(now[j], ready)
    position = count[FORWARD, j] + count[INPUT_GRAD, j] + count[WEIGHT_GRAD, j]
    if position > 0:
        gap[j] += start - now[j]
    now[j] = start + table[kind, j]
    mem[j] += delta[kind, j]
    kinds[j, position] = kind
    count[kind, j] += 1
    if kind == FORWARD:
        end_f[j, k] = now[j]
    elif kind == INPUT_GRAD:
        end_b[j, k] = now[j]


@njit
def _ready(kind: int, j: int, k: int, p: int, hop: Ints, end_f: Ints, end_b: Ints) -> int:
    if kind == FORWARD and j > 0:
        return end_f[j - 1, k] + hop[j - 1]
    if kind == INPUT_GRAD and j + 1 < p:
        return end_b[j + 1, k] + hop[j]
    return 0


@njit
def greedy(
    table: Ints, hop: Ints, delta: Ints, limit: Ints, num_microbatch: int, setting: int, cap: Ints, slack: float,
    kinds: Ints,
) -> int:  # fmt: skip
    """One schedule. `table`, `delta`: `[kind, stage]` time and change of memory; `limit[stage]`; `cap[stage]`: most
    forwards before the first gradient; `slack`: share of the largest gap that another stage may open before a weight
    gradient is put into it. Fills `kinds[stage, 3 m]` with the kind of each operation (microbatches ascend in each
    kind) and returns the longest span of a stage, or -1 where memory does not allow any schedule.
    """
    p, m = table.shape[1], num_microbatch
    count = np.zeros((table.shape[0], p), np.int64)
    now, mem, gap = np.zeros(p, np.int64), np.zeros(p, np.int64), np.zeros(p, np.int64)
    end_f, end_b = np.zeros((p, m), np.int64), np.zeros((p, m), np.int64)
    extra = np.zeros(p, np.int64)
    for j in range(p):
        if delta[FORWARD, j] > limit[j]:
            return -1
        _put(FORWARD, j, table, hop, delta, count, now, mem, gap, end_f, end_b, kinds)
    gradient = now[p - 1] + table[INPUT_GRAD, p - 1]  # end of the first input gradient on the stage after j
    for j in range(p - 2, -1, -1):
        arrival, n = gradient + hop[j], 0
        while 1 + n < min(m, cap[j]) and mem[j] + (n + 1) * delta[FORWARD, j] <= limit[j]:
            after = now[j] + n * table[FORWARD, j]
            if (setting & EARLY_BUBBLE and after >= arrival) or (
                not setting & EARLY_BUBBLE and after + table[FORWARD, j] > arrival
            ):
                break
            n += 1
        extra[j] = n
        gradient = max(now[j] + n * table[FORWARD, j], arrival) + table[INPUT_GRAD, j]
    for j in range(1, p):
        while extra[j] > 0 and extra[j] >= extra[j - 1] and 1 + extra[j] < m:
            extra[j] -= 1
    for j in range(p):
        for _ in range(extra[j]):
            _put(FORWARD, j, table, hop, delta, count, now, mem, gap, end_f, end_b, kinds)
    for j in range(p - 1, -1, -1):
        _put(INPUT_GRAD, j, table, hop, delta, count, now, mem, gap, end_f, end_b, kinds)
    wanted = np.zeros(p, np.int64)
    for _ in range(1, m):
        for j in range(p):
            wanted[j] = 1 if count[FORWARD, j] < m else 0
            if wanted[j] and setting & HOLD_FORWARD and j + 1 < p and count[FORWARD, j] >= count[FORWARD, j + 1] + 2:
                following = now[j + 1] + table[FORWARD, j + 1] + table[INPUT_GRAD, j + 1] + hop[j]
                if now[j] + table[FORWARD, j] > following:
                    wanted[j] = 0
        for j in range(p - 2, -1, -1):
            wanted[j] = min(wanted[j], wanted[j + 1]) if count[FORWARD, j + 1] < m else wanted[j]
        for kind in (FORWARD, INPUT_GRAD):
            for step in range(p):
                j = step if kind == FORWARD else p - 1 - step
                if kind == FORWARD and not wanted[j]:
                    continue
                if kind == INPUT_GRAD and count[FORWARD, j] <= count[INPUT_GRAD, j]:
                    return -1
                while mem[j] + delta[kind, j] > limit[j]:
                    if count[WEIGHT_GRAD, j] >= count[INPUT_GRAD, j]:
                        return -1
                    _put(WEIGHT_GRAD, j, table, hop, delta, count, now, mem, gap, end_f, end_b, kinds)
                ready = _ready(kind, j, count[kind, j], p, hop, end_f, end_b)
                while count[WEIGHT_GRAD, j] < count[INPUT_GRAD, j] and now[j] < ready:
                    fits = now[j] + table[WEIGHT_GRAD, j] <= ready
                    opens = ready - now[j] > slack * gap.max() - gap[j]
                    if not fits and (setting & KEEP_GAP or not opens):
                        break
                    _put(WEIGHT_GRAD, j, table, hop, delta, count, now, mem, gap, end_f, end_b, kinds)
                _put(kind, j, table, hop, delta, count, now, mem, gap, end_f, end_b, kinds)
    span = 0
    for j in range(p):
        while count[WEIGHT_GRAD, j] < m:
            _put(WEIGHT_GRAD, j, table, hop, delta, count, now, mem, gap, end_f, end_b, kinds)
        total = gap[j]
        for kind in (FORWARD, INPUT_GRAD, WEIGHT_GRAD):
            total += m * table[kind, j]
        span = max(span, total)
    return span
