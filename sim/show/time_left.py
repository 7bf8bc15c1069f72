"""Points done and time left of a long search: a line that is rewritten at a terminal or in a notebook, on standard
error a line twice a minute in a log."""

import contextlib
import sys
import time
from collections.abc import Iterator

from sim.show.progress import Line

EVERY_S = 30.0  # in a log


class TimeLeft(Line):
    """Called with (done, of them found in a store, in all)."""

    def __init__(self, what: str = "points") -> None:
        super().__init__()
        self.what = what
        self._begun_s = self._said_s = time.monotonic()

    def __call__(self, done: int, found: int, num: int) -> None:
        now_s = time.monotonic()
        if now_s - self._said_s < (0.1 if self.watched else EVERY_S) or not num:
            return
        self._said_s = now_s
        text = line(self.what, done, found, num, now_s - self._begun_s)
        if self.watched:
            self.rewrite(text)
        else:
            print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def time_left(wanted: bool, what: str = "points") -> Iterator[TimeLeft | None]:
    """A `TimeLeft` where somebody wants and watches it, and nothing elsewhere: a log is for who asked for one."""
    with TimeLeft(what) as shown:
        yield shown if wanted and shown.watched else None


def line(what: str, done: int, found: int, num: int, spent_s: float) -> str:
    """How far it is; time left as long as the computed ones took.

    >>> line("points", 30, 10, 80, 60.0)
    '30 of 80 points, 10 of them from the store, 2 min 30 s left'
    """
    text = f"{done:,} of {num:,} {what}"
    if found:
        text += f", {found:,} of them from the store"
    if done > found:
        text += f", {_duration(spent_s / (done - found) * (num - done))} left"
    return text


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
