"""Work that is stopped: SIGTERM and SIGHUP end what runs as Ctrl-C does, so that what was done is kept and said."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
_stopped_by = signal.SIGINT


class Stopped(KeyboardInterrupt):
    """A signal other than SIGINT; whatever keeps its work on Ctrl-C keeps it here too."""


@contextlib.contextmanager
def signals() -> Iterator[None]:
    """Within: SIGTERM and SIGHUP raise `Stopped` in the main thread (nothing changes in another thread, or where
    somebody else handles them already)."""
    global _stopped_by  # noqa: PLW0603
    _stopped_by = signal.SIGINT
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # `nohup` ignores one, and that stays
                before[number] = signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: Any) -> None:
    global _stopped_by  # noqa: PLW0603
    del frame
    _stopped_by = signal.Signals(number)
    raise Stopped


def exit_code() -> int:
    """The exit code of work that was stopped: 128 and the signal's number."""
    return 128 + int(_stopped_by)


def said() -> str:
    """What stopped it, in a word."""
    return "interrupted" if _stopped_by == signal.SIGINT else f"stopped by {_stopped_by.name}"
