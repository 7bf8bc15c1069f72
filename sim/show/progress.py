"""A progress line on the terminal or in a notebook while a long run works; silent where nobody watches."""

import sys
from types import TracebackType
from typing import Any, Self


def note(text: str) -> None:
    """A line of its own on the terminal's standard error."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


class Line:
    """One line of a terminal's standard error that is rewritten, and cleared at the end."""

    def __init__(self) -> None:
        self._shown = False

    def rewrite(self, text: str) -> None:
        """Puts `text` where the last one stood."""
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
        self._shown = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


class Progress(Line):
    """Called with (requests ended, steps); rewrites one line, or one cell output of a notebook, and clears it at the
    end."""

    def __init__(self, wanted: bool = True) -> None:
        super().__init__()
        self._cell: Any = None
        self._display: Any = _notebook() if wanted else None
        self._wanted = wanted and sys.stderr.isatty()

    def __call__(self, ended: int, steps: int) -> None:
        text = f"{ended:,} requests ended, {steps:,} steps"
        if self._display is not None:
            self._show(text)
        elif self._wanted:
            self.rewrite(text)

    def _show(self, text: str) -> None:
        content = {"text/plain": text}
        if self._cell is None:
            self._cell = self._display(content, raw=True, display_id=True)
        else:
            self._cell.update(content, raw=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if self._cell is not None:
            self._show("")


def _notebook() -> Any:
    """IPython's `display` where a notebook's kernel runs this; else None. Nothing is imported for the answer."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from importlib import import_module

    return import_module("IPython.display").display
