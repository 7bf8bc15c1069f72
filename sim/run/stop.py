"""Work that is stopped: SIGTERM and SIGHUP end what runs as Ctrl-C does, so that what was done is kept and said."""

import contextlib
import signal
import threading
from collections.abc import Iterator, Sized
from types import TracebackType
from typing import Any

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
GRACE_S = 3  # for compiled code to come back; the engine's own does after half a second
_stopped_by = signal.SIGINT
_held: list[Any] = []  # what the C side points to


class Stopped(KeyboardInterrupt):
    """A signal other than SIGINT; whatever keeps its work on Ctrl-C keeps it here too."""


class keeping:  # noqa: N801 - read as words
    """Within: what stops the work ends it, and is kept, once a part is done (`done` is not empty); `complete` says
    whether it was not stopped.

    >>> done = []
    >>> with keeping(done) as work:
    ...     done.append(1)
    ...     raise KeyboardInterrupt
    >>> work.complete
    False
    """

    def __init__(self, done: Sized) -> None:
        self.done, self.complete = done, True

    def __enter__(self) -> "keeping":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> bool:  # fmt: skip
        self.complete = not isinstance(error, KeyboardInterrupt)
        return not self.complete and len(self.done) > 0


@contextlib.contextmanager
def signals(last: bool = False) -> Iterator[None]:
    """Within: SIGTERM and SIGHUP raise `Stopped` in the main thread (nothing changes in another thread, or where
    somebody else handles them already). Where it is the `last` that the process does, they and SIGINT are ignored from
    then on: what is done is done, and the exit code says it."""
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
        if last and before:
            before[signal.SIGINT] = signal.SIG_IGN
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if last else handler)


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


def watch_compiled(file: str) -> None:
    """Let Ctrl-C end a user's compiled code that never returns: Python runs no handler of its own until it does, so a
    compiled one ends the process `GRACE_S` after the signal where Python has not answered by then.

    Does nothing outside the main thread, or where somebody else handles SIGINT.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    import ctypes

    import numba

    libc = ctypes.CDLL(None)
    write, leave, alarm = libc.write, libc._exit, libc.alarm
    write.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    leave.argtypes, alarm.argtypes = (ctypes.c_int,), (ctypes.c_uint,)
    text = f"ridgeline: {file}: interrupted in compiled code that does not return\n".encode()
    held = ctypes.create_string_buffer(text)
    place, length, code, grace = ctypes.addressof(held), len(text), 128 + int(signal.SIGINT), GRACE_S
    libc.signal.restype, libc.signal.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)

    signal.signal(signal.SIGINT, _answer)

    @numba.cfunc("void(int32)", cache=False)
    def end(number):  # type: ignore[no-untyped-def]
        write(2, place, length)
        leave(code)

    libc.signal(int(signal.SIGALRM), end.address)
    python = ctypes.CFUNCTYPE(None, ctypes.c_int)(libc.signal(int(signal.SIGINT), None))

    @numba.cfunc("void(int32)", cache=False)
    def interrupt(number):  # type: ignore[no-untyped-def]
        alarm(grace)
        python(number)

    libc.signal(int(signal.SIGINT), interrupt.address)
    libc.siginterrupt(int(signal.SIGINT), 1)
    _held.extend((held, end, interrupt, python))


def _answer(number: int, frame: Any) -> None:
    """Python has answered in time."""
    signal.alarm(0)
    raise KeyboardInterrupt
