"""Columns of equal length by name: what a run fills and reads, and a pandas frame only where somebody asks for one."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[Any]


class Coded(NamedTuple):
    """A column of words: `names[code]`."""

    code: npt.NDArray[np.integer[Any]]
    names: tuple[str, ...]


class Columns:
    """Columns by name, read as `columns["ttft_s"]`; a column of words is read as its codes, see `words`.

    >>> found = Columns({"n": np.array([3, 1]), "kind": Coded(np.array([1, 0]), ("gemm", "norm"))})
    >>> found.words("kind"), found.rows(found["n"] > 1)["n"].tolist(), len(found)
    (['norm', 'gemm'], [3], 2)
    """

    def __init__(self, values: Mapping[str, Array | Coded]) -> None:
        self._values = dict(values)

    @classmethod
    def of(cls, frame: "pd.DataFrame") -> "Columns":
        """The columns of a frame."""
        values: dict[str, Array | Coded] = {}
        for name in frame.columns:
            series = frame[name]
            if hasattr(series, "cat"):
                values[str(name)] = Coded(series.cat.codes.to_numpy(), tuple(map(str, series.cat.categories)))
            else:
                values[str(name)] = series.to_numpy()
        return cls(values)

    @property
    def names(self) -> list[str]:
        """The columns' names in order."""
        return list(self._values)

    def __len__(self) -> int:
        return len(self[self.names[0]]) if self._values else 0

    def __repr__(self) -> str:
        return f"<{len(self):,} rows of {', '.join(self.names)}>"

    def __getitem__(self, name: str) -> Array:
        value = self._values[name]
        return value.code if isinstance(value, Coded) else value

    def words(self, name: str) -> list[str]:
        """A column of words."""
        value = self._values[name]
        if not isinstance(value, Coded):
            return [str(item) for item in value.tolist()]
        return [value.names[code] for code in value.code.tolist()]

    def equal(self, name: str, word: str) -> npt.NDArray[np.bool_]:
        """The rows that hold `word` in a column of words."""
        value = self._values[name]
        if not isinstance(value, Coded):
            return np.asarray(value == word)
        return value.code == (value.names.index(word) if word in value.names else -1)

    def rows(self, which: Any) -> "Columns":
        """Some of the rows: a mask, a slice or indices. Where a mask takes all of them, nothing is copied."""
        if getattr(which, "dtype", None) == np.bool_ and len(which) == len(self) and which.all():
            return self
        return Columns(
            {
                name: Coded(value.code[which], value.names) if isinstance(value, Coded) else value[which]
                for name, value in self._values.items()
            }
        )

    def frame(self) -> "pd.DataFrame":
        """The same as a pandas frame, columns of words as categories."""
        import pandas as pd

        return pd.DataFrame(
            {
                name: pd.Categorical.from_codes(value.code, pd.Index(list(value.names)))
                if isinstance(value, Coded)
                else (value.tolist() if value.dtype.kind == "O" else value)
                for name, value in self._values.items()
            }
        )
