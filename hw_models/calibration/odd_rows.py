"""Rows of a measured file that cannot be a measurement: they count against coverage, with the reason, and the others
go on. A file of which no row stands is refused with its first."""

import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kernels.errors import InputError

Floats = npt.NDArray[np.float64]
MOST_WHOLE = 2**53  # a count that a float still holds exactly


class OddRows:
    """The odd rows of one file."""

    def __init__(self, file: pathlib.Path) -> None:
        self.file = file
        self.reason: dict[int, str] = {}  # row (0 is the first below the header) -> why
        self.first: InputError | None = None

    def note(
        self, bad: npt.ArrayLike, message: str, field: str, values: Sequence[Any], allowed: str = ""
    ) -> None:  # fmt: skip
        """Rows where `bad` holds are odd: what their `field` (with these `values`, a row each) is."""
        for row in np.flatnonzero(bad).tolist():
            value = values[row]
            error = InputError(
                message, file=self.file, line=row + 2, field=field,
                value=value.item() if isinstance(value, np.generic) else value, allowed=allowed or None,
            )  # fmt: skip
            self.add(row, f"{field}: {message}", error)

    def add(self, row: int, reason: str, error: InputError) -> None:
        """A row is odd: `reason` without the row's own values, so that equal ones are counted together."""
        self.first = self.first or error
        self.reason.setdefault(row, reason)

    def check(self) -> None:
        """Raises the first odd row's `InputError`, where there is one."""
        if self.first is not None:
            raise self.first

    def number(
        self, frame: pd.DataFrame, name: str, positive: bool = False, whole: bool = False, most: float = np.inf,
        blank: float | None = None,
    ) -> Floats:  # fmt: skip
        """A column as numbers from 0 (`positive`: above 0) to `most`; 1 in rows that hold none, which are noted. An
        empty cell is `blank`, where it may be empty."""
        values = np.array(pd.to_numeric(frame[name], errors="coerce"), float)
        empty = frame[name].isna().to_numpy()
        if blank is not None:
            values[empty] = blank
        bad = ~np.isfinite(values) | (values <= 0 if positive else values < 0) | (values > most)
        if whole:
            bad |= (values != np.floor(values)) | (values > MOST_WHOLE)
        if blank is not None:
            bad &= ~empty
        limit = f" to {most:g}" if np.isfinite(most) else ""
        allowed = f"a {'whole ' * whole}number{' above 0' if positive else ', 0 or more'}{limit}"
        self.note(bad, "not a measurement", name, frame[name].to_list(), allowed)
        return np.where(bad, 1.0, values)

    def text(self, frame: pd.DataFrame, name: str) -> pd.Series:
        """A column as words; rows with an empty cell are noted."""
        self.note(frame[name].isna(), "is empty", name, [""] * len(frame))
        return frame[name].astype(str).where(frame[name].notna(), "")

    def stands(self, num_row: int) -> npt.NDArray[np.bool_]:
        """Which of the file's rows are not odd. Raises the first's `InputError` where none stands."""
        if len(self.reason) == num_row:
            self.check()
        return np.array([row not in self.reason for row in range(num_row)], bool)

    def count(self, reasons: Counter[str]) -> None:
        """Adds why rows are odd to `reasons`."""
        reasons.update(self.reason.values())
