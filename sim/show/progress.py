"""A progress line on the terminal or in a notebook while a long run works; silent where nobody watches."""

import sys
from types import TracebackType
from typing import Any, Self


def note(text: str) -> None:
    """A line of its own on the terminal's standard error."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


class Line:
    """One line of a terminal's standard error, or one cell output of a notebook, that is rewritten, and cleared at the
    end. `watched`: whether there is either."""

    def __init__(self, wanted: bool = True) -> None:
        self._shown = False
        self._cell: Any = None
        self._display: Any = _notebook() if wanted else None
        self.watched = wanted and (self._display is not None or sys.stderr.isatty())

    def rewrite(self, text: str) -> None:
        """Puts `text` where the last one stood."""
        if self._display is None:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
            self._shown = True
            return
        content = {"text/plain": text}
        if self._cell is None:
            self._cell = self._display(content, raw=True, display_id=True)
        else:
            self._cell.update(content, raw=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        if self._cell is not None:
            self.rewrite("")


class Progress(Line):
    """Called with (requests ended, steps)."""

    def __call__(self, ended: int, steps: int) -> None:
        if self.watched:
            self.rewrite(f"{ended:,} requests ended, {steps:,} steps")


def _notebook() -> Any:
    """IPython's `display` where a notebook's kernel runs this; else None. Nothing is imported for the answer."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from importlib import import_module

    return import_module("IPython.display").display
