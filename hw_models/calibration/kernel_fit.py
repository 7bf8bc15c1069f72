"""One named kernel of one kind and number format: fitted on half of its shapes, checked on the other half.

A kernel's price function may come in variants (which tiles a library chooses from, whether activations are
quantised first); each is fitted on a sample and the one with the least error on the fitting half is kept.
Where there are too few rows to halve (probes of a new device), all are fitted and the error stated is that of
cross-validation: each fifth predicted by a fit of the other four.
"""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from hw_models.calibration.fit import Floats, Parameter, Predict, error, fit, half, spread
from hw_models.calibration.measured import Measured
from hw_models.profile import ErrorSummary, Kernel
from kernels.machine import Machine
from kernels.optable import COST_DTYPE, KIND_CODE
from kernels.price import price_into

Rows = npt.NDArray[np.intp]
SHAPE_FIELDS = (
    "m", "n", "k", "num_head", "num_kv_head", "head_dim", "window", "num_expert", "topk", "tp", "ep",
)  # fmt: skip
WORK_FIELDS = ("count", "query_len", "kv_len")
TRIAL_ROWS = 1000  # rows on which variants are compared
FIT_ROWS = 3000  # rows that the kept one is fitted to
FEW_ROWS = 200  # fewer: cross-validation instead of halves
NUM_FOLD = 5


def predictor(measured: Measured, rows: Rows, machine: Machine, kind: str, fmt: int) -> Predict:
    """A function from a fit vector to seconds of the chosen rows; the machine's other fits stay as they are."""
    ops = measured.ops[rows]
    cost = np.zeros(len(rows), COST_DTYPE)
    own = machine._replace(fit=machine.fit.copy())

    def predict(values: Floats) -> Floats:
        own.fit[KIND_CODE[kind], fmt, : len(values)] = values
        price_into(ops, measured.work, own, cost)
        return np.maximum(cost["time_ps"], 1) * 1e-12

    return predict


def shape_half(measured: Measured, rows: Rows) -> npt.NDArray[np.bool_]:
    """True for rows of the fitting half, by shape alone: formats, kernels and distributions share the cut."""
    ops = measured.ops[rows]
    columns = [ops[field].astype(np.int64) for field in SHAPE_FIELDS]
    if len(measured.work):
        columns += [measured.work[field][ops["work_start"]] for field in WORK_FIELDS]
    return half(*columns)


def fit_kernel(
    measured: Measured,
    rows: Rows,
    machine: Machine,
    *,
    kind: str,
    fmt: str,
    fmt_code: int,
    name: str,
    variants: Sequence[Sequence[Parameter]],
) -> Kernel:
    """The fitted kernel with its errors; `variants` are parameter lists in the order of the fit vector."""
    few = len(rows) < FEW_ROWS
    train = np.ones(len(rows), bool) if few else shape_half(measured, rows)

    def solve(chosen: Rows, parameters: Sequence[Parameter], limit: int = FIT_ROWS) -> dict[str, float]:
        if len(chosen) > limit:
            chosen = np.sort(np.random.default_rng(0).choice(chosen, limit, replace=False))
        return fit(predictor(measured, chosen, machine, kind, fmt_code), measured.seconds[chosen], parameters)

    def price(chosen: Rows, values: dict[str, float]) -> Floats:
        return predictor(measured, chosen, machine, kind, fmt_code)(np.array(list(values.values()))).copy()

    def miss(values: dict[str, float]) -> float:
        return float(np.mean(np.abs(np.log(price(rows[train], values) / measured.seconds[rows[train]]))))

    best = variants[0]
    if len(variants) > 1:
        best = min(variants, key=lambda v: miss(solve(rows[train], v, TRIAL_ROWS)))
    values = solve(rows[train], best)
    predicted = price(rows, values)
    seconds = measured.seconds[rows]
    if few:
        held = np.ones(len(rows), bool)
        checked = np.zeros(len(rows))
        fold = np.random.default_rng(0).permutation(len(rows)) % NUM_FOLD
        for i in range(NUM_FOLD):
            out = fold == i
            if out.any() and not out.all():
                checked[out] = price(rows[out], solve(rows[~out], best))
    else:
        held, checked = ~train, predicted
    return Kernel(
        kind=kind,
        format=fmt,
        name=name,
        data=measured.file.name,
        parameter=values,
        train=ErrorSummary(**asdict(error(predicted[train], seconds[train]))),
        held_out=ErrorSummary(**asdict(error(checked[held], seconds[held]))),
        spread=spread(checked[held], seconds[held]),
    )
