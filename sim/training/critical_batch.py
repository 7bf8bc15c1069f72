"""What a batch size costs: steps and examples to a target by the critical batch size.

A gradient of batch B points the right way up to noise; the noise scale B_noise says when more examples stop helping.
Steps S and examples E = B S to a fixed loss then follow

    S = S_min (1 + B_crit / B),   E = E_min (1 + B / B_crit),   B_crit = E_min / S_min,

that is (S / S_min - 1)(E / E_min - 1) = 1 (McCandlish, Kaplan, Amodei et al., "An Empirical Model of Large-Batch
Training", arXiv 1812.06162, equations 2.11 and 2.12; B_crit is about the simple noise scale tr(cov) / |gradient|^2).
"""

import pathlib
from typing import NamedTuple, Protocol

import numpy as np

from kernels.errors import InputError
from kernels.train_plan import Floats
from workloads import files


class StepCurve(Protocol):
    """Optimizer steps to a target by batch size: what turns the time of a step into the time of a run."""

    def at(self, batch: float) -> float:
        """Steps with `batch` examples each."""


class Hyperbola(NamedTuple):
    """Steps by the critical batch size, as above: `min_step` of them with an endless batch.

    >>> Hyperbola(10_000, 1000).at(1000)  # at the critical batch twice as many
    20000.0
    """

    min_step: float
    critical_batch: float

    def at(self, batch: float) -> float:
        """Steps with `batch` examples each."""
        return steps_to_target(batch, self.min_step, self.critical_batch)


class StepTable(NamedTuple):
    """Steps that were measured at some batch sizes; between them straight lines of their logarithms, beyond them none.

    >>> round(StepTable(np.array([100.0, 400.0]), np.array([8000.0, 2000.0])).at(200.0))
    4000
    """

    batch: Floats  # rising
    step: Floats

    def at(self, batch: float) -> float:
        """Steps with `batch` examples each. `InputError` beyond what was measured."""
        if not self.batch[0] <= batch <= self.batch[-1]:
            raise InputError("beyond the table of steps", field="batch", value=batch,
                             allowed=f"{self.batch[0]:g} to {self.batch[-1]:g}")  # fmt: skip
        return float(np.exp(np.interp(np.log(batch), np.log(self.batch), np.log(self.step))))


def read_steps(path: pathlib.Path | str) -> StepTable:
    """A table of steps: a CSV of `batch` and `step`, both above 0, a batch a row."""
    frame = files.read_frame(path)
    for name in ("batch", "step"):
        if name not in frame.columns:
            raise InputError("column is missing", file=path, field=name, allowed=("batch", "step"))
    frame = frame.sort_values("batch")
    batch, step = (np.asarray(frame[name], float) for name in ("batch", "step"))
    if not ((batch > 0) & (step > 0) & np.isfinite(batch) & np.isfinite(step)).all() or (np.diff(batch) == 0).any():
        raise InputError("numbers above 0, a row a batch", file=path, field="batch, step")
    return StepTable(batch, step)


def steps_to_target(batch: float, min_step: float, critical_batch: float) -> float:
    """Optimizer steps at `batch`; `min_step` with an endless batch.

    >>> steps_to_target(1000, 10_000, 1000)  # at the critical batch twice as many
    20000.0
    """
    _check(batch=batch, min_step=min_step, critical_batch=critical_batch)
    return min_step * (1 + critical_batch / batch)


def examples_to_target(batch: float, min_step: float, critical_batch: float) -> float:
    """Examples (or tokens, whatever `batch` counts) at `batch`; `min_step x critical_batch` with the smallest."""
    return batch * steps_to_target(batch, min_step, critical_batch)


def noise_scale(small_batch: float, small_norm2: float, large_batch: float, large_norm2: float) -> float:
    """The simple noise scale from mean squared gradient norms at two batch sizes (same paper, appendix A.1):
    |G|^2 and tr(cov) by eliminating each from E|g_B|^2 = |G|^2 + tr(cov) / B.

    >>> round(noise_scale(10, 1 + 50 / 10, 100, 1 + 50 / 100), 9)  # |G|^2 = 1, tr(cov) = 50
    50.0
    """
    _check(small_batch=small_batch, small_norm2=small_norm2, large_norm2=large_norm2)
    if large_batch <= small_batch:
        raise InputError("the larger of two batches", field="large_batch", value=large_batch)
    gradient2 = (large_batch * large_norm2 - small_batch * small_norm2) / (large_batch - small_batch)
    trace = (small_norm2 - large_norm2) / (1 / small_batch - 1 / large_batch)
    if gradient2 <= 0 or trace < 0:
        raise InputError("norms that no gradient has: too few samples?", field="small_norm2", value=small_norm2)
    return trace / gradient2


def _check(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise InputError("out of range", field=name, value=value, allowed="above 0")
