"""A progress line on the terminal while a long run works; silent where nobody watches."""

import sys
from types import TracebackType


class Progress:
    """Called with (requests ended, steps); rewrites one line of standard error, and clears it at the end."""

    def __init__(self, wanted: bool = True) -> None:
        self._shown = False
        self._wanted = wanted and sys.stderr.isatty()

    def __call__(self, ended: int, steps: int) -> None:
        if self._wanted:
            print(f"\r{ended:,} requests ended, {steps:,} steps", end="", file=sys.stderr, flush=True)
            self._shown = True

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
