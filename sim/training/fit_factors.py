"""Fitting the factors of a training stack on measured rows, and its error on what a fit has not seen.

Times are linear in `compute` and `vector` once a layer is priced with each alone, so that a fit prices every row twice
and composes it as often as it likes. Least squares on the logarithm of the step time with a robust loss; a factor stays
between the speed of light and its upper bound. What is left out is a whole group at a time: a model size, or a machine.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares

from kernels.train_plan import LAYER_DTYPE, Floats, Record, Records
from sim.training.estimate import composed
from sim.training.price import Site, piece, plan_record
from workloads.models.spec import ModelSpec
from workloads.training import TrainPlan

TIMES = tuple(name for name in LAYER_DTYPE.names or () if name.endswith("_s"))
OWN = ("forward_s", "input_grad_s", "weight_grad_s", "recompute_s")
BOUNDS: Mapping[str, tuple[float, float, float]] = {  # start, least, most
    "compute": (1.05, 1.0, 2.0), "vector": (1.5, 1.0, 4.0), "host_s": (1e-5, 0.0, 1e-3), "step_s": (5e-3, 0.0, 1.0),
    "exposed": (0.5, 0.0, 1.0), "jitter": (0.01, 0.0, 0.2), "clock": (0.9, 0.4, 1.0),
}  # fmt: skip
ROBUST = 0.05  # of log time, beyond which an error counts linearly


class Case(NamedTuple):
    """A measured row, priced."""

    group: str
    where: Site
    record: Record
    compute: Records  # [3] prices with vector operators free
    vector: Records  # [3] prices with products and attention free
    step_s: float


def case(group: str, model: ModelSpec, plan: TrainPlan, where: Site, step_s: float) -> Case:
    """Both prices of a row."""
    priced = []
    for compute, vector in ((1.0, 0.0), (0.0, 1.0)):
        stack = where.stack.copy()
        stack["compute"], stack["vector"] = compute, vector
        priced.append(piece(model, plan, where._replace(stack=stack)))
    return Case(group, where, plan_record(model, plan), priced[0], priced[1], step_s)


def step_times(cases: Sequence[Case], factor: Mapping[str, float]) -> Floats:
    """Seconds of every case under the given factors; others are the site's."""
    out = np.empty(len(cases))
    for i, one in enumerate(cases):
        stack = one.where.stack.copy()
        for name, value in factor.items():
            stack[name] = value
        faster = one.where.stack["clock"] / stack["clock"]
        prices = one.compute.copy()
        for name in OWN:
            prices[name] = one.compute[name] * stack["compute"] * faster + one.vector[name] * stack["vector"]
        out[i] = composed(one.record, prices, one.where._replace(stack=stack)).step_s
    return out


def fit(cases: Sequence[Case], free: Sequence[str]) -> dict[str, float]:
    """The free factors that fit the cases best."""
    start, least, most = np.array([BOUNDS[name] for name in free]).T
    measured = np.log([one.step_s for one in cases])

    def errors(x: Floats) -> Floats:
        return np.log(step_times(cases, dict(zip(free, x, strict=True)))) - measured

    found = least_squares(errors, start, bounds=(least, most), x_scale=np.maximum(start, 1e-9), loss="soft_l1",
                          f_scale=ROBUST, diff_step=[0.01] * len(free))  # fmt: skip
    return {name: float(value) for name, value in zip(free, found.x, strict=True)}


def left_out(cases: Sequence[Case], free: Sequence[str], group: Callable[[Case], str]) -> Floats:
    """Relative errors of every case under factors that were fitted without the case's group."""
    names = np.array([group(one) for one in cases])
    out = np.full(len(cases), np.nan)
    for name in dict.fromkeys(names.tolist()):
        inside = np.flatnonzero(names == name)
        others = [one for one, held in zip(cases, names == name, strict=True) if not held]
        if not others:
            continue
        chosen = [cases[i] for i in inside.tolist()]
        measured = np.array([one.step_s for one in chosen])
        out[inside] = step_times(chosen, fit(others, free)) / measured - 1
    return out
