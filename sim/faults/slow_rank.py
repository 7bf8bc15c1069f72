"""A pipeline with one slow rank: how much of its slowness the whole step feels."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kernels.errors import InputError
from kernels.schedule import Ints
from sim.pipeline.schedule import end_times
from workloads.pipeline import Op, compile_order


def slow_rank_frame(
    order: Sequence[Sequence[Op]], table: Ints, rank: int, slowdown: Sequence[float], hop: int = 0
) -> pd.DataFrame:
    """Makespan of `order` with times `table[kind, stage]` (integer) where the stages of `rank` take `slowdown` times
    as long. Columns: slowdown, makespan, relative (to no slowdown), felt: the step's relative delay over the rank's
    (1: all of it, 0: hidden in bubbles).

    >>> from sim.pipeline.schedule import duration_table
    >>> from workloads.schedules import load
    >>> slow_rank_frame(load("1f1b").build(4, 8), duration_table(4, 10, 10, 10), 0, [2.0])["makespan"].tolist()
    [510]
    """
    arrays = compile_order(order)
    if not 0 <= rank < arrays.rank_start.size - 1:
        raise InputError("no such rank", field="rank", value=rank, allowed=f"0 to {arrays.rank_start.size - 2}")
    own = np.unique(arrays.stage[arrays.rank == rank])
    base = int(end_times(arrays, table, hop).max())
    rows = []
    for factor in slowdown:
        if factor < 1:
            raise InputError("1 or more", field="slowdown", value=factor)
        slow = table.copy()
        slow[:, own] = np.round(table[:, own] * factor)
        makespan = int(end_times(arrays, slow, hop).max())
        relative = makespan / base
        rows.append((factor, makespan, relative, (relative - 1) / (factor - 1) if factor > 1 else 0.0))
    return pd.DataFrame(rows, columns=["slowdown", "makespan", "relative", "felt"])
