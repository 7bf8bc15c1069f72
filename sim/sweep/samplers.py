"""Which points come next: every one of a grid, or those that Optuna proposes from what came of the earlier ones."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from kernels.errors import InputError
from sim.sweep.axes import Axis, grid

BATCH = 4  # trials that Optuna proposes at a time: fixed, so that neither processes nor a kill change what it proposes
Values = tuple[Any, ...]


class Sampler(Protocol):
    """Batches of points; each is told its rows before it is asked for the next batch."""

    def batches(self) -> Iterator[list[Values]]:
        """Values of the axes, a tuple a point."""

    def tell(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """The rows of the last batch, in its order."""

    @property
    def num(self) -> int:
        """Points in all."""


class Grid:
    """Every combination of the axes at once."""

    def __init__(self, axes: Sequence[Axis]) -> None:
        self.axes = axes

    @property
    def num(self) -> int:
        return math.prod(len(axis.values) for axis in self.axes)

    def batches(self) -> Iterator[list[Values]]:
        yield list(grid(self.axes))

    def tell(self, rows: Sequence[Mapping[str, Any]]) -> None:
        pass


class Optuna:
    """`num` trials of a tree-structured Parzen estimator: an axis of numbers is ordered, one of texts is not. A point
    that is refused, or has no such metric, counts as failed."""

    def __init__(self, axes: Sequence[Axis], num: int, metric: str, maximise: bool, seed: int = 0) -> None:
        try:
            import optuna
        except ImportError:
            raise InputError("needs the extra: pip install 'ridgeline[cluster]'", field="sampler", value="optuna",
                             allowed="grid") from None  # fmt: skip
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.axes, self.num, self.metric = axes, num, metric
        self._failed = optuna.trial.TrialState.FAIL
        self._study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed), direction="maximize" if maximise else "minimize"
        )
        self._asked: list[Any] = []

    def batches(self) -> Iterator[list[Values]]:
        for first in range(0, self.num, BATCH):
            self._asked = [self._study.ask() for _ in range(min(BATCH, self.num - first))]
            yield [tuple(self._value(trial, axis) for axis in self.axes) for trial in self._asked]

    def _value(self, trial: Any, axis: Axis) -> Any:
        held = axis.values
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in held):
            return sorted(held)[trial.suggest_int(axis.name, 0, len(held) - 1)]
        return held[trial.suggest_categorical(axis.name, list(range(len(held))))]

    def tell(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for trial, row in zip(self._asked, rows, strict=True):
            value = row.get(self.metric)
            if isinstance(value, int | float):
                self._study.tell(trial, float(value))
            else:
                self._study.tell(trial, state=self._failed)
