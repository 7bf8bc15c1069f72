"""Columns of measured tables, checked: what cannot be is refused by file, line and the column's own name."""

import pathlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kernels.errors import InputError
from kernels.train_plan import Floats
from workloads import files


def read_frame(path: str | pathlib.Path) -> pd.DataFrame:
    """The table of a CSV file, of a row at least."""
    return files.read_frame(path)


def positive(frame: pd.DataFrame, name: str, path: Any) -> Floats:
    """A column of finite numbers above 0, as times are."""
    values = np.asarray(pd.to_numeric(frame[name], errors="coerce"), float)
    refuse(~(values > 0) | np.isinf(values), "not a number above 0", name, frame, path)
    return values


def count(frame: pd.DataFrame, name: str, path: Any) -> Floats:
    """A column of whole numbers above 0, as sizes are."""
    values = positive(frame, name, path)
    refuse(values != np.floor(values), "not a whole number", name, frame, path)
    return values


def refuse(bad: npt.NDArray[np.bool_], message: str, name: str, frame: pd.DataFrame, path: Any) -> None:
    """Raise `InputError` for the first bad row. `frame.attrs["written"]` has the file's names of renamed columns."""
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        written = frame.attrs.get("written", {}).get(name, name)
        raise InputError(message, file=path, line=at + 2, field=written, value=frame[name].tolist()[at])
