"""The one place where results become files: every writer of the project hands its bytes to `write_files`.

====================  ====================================================================================
a regular file        written whole under a temporary name beside it, then renamed: what was there before
                      stays until then, and a full disk leaves it as it was. A new file has the mode that
                      the umask leaves, an old one keeps its mode and owner
a symbolic link       followed: what it points to is written, the link stays
a sink, a FIFO        written through (`/dev/null`, `/dev/full`, a terminal, a pipe that somebody reads), and so
                      is a stream that the process holds open (`/dev/stdout`)
a disk, a socket      refused by name, as is any other device (`/dev/mem`), and a FIFO that nobody reads within
                      `WAIT_S` seconds
====================  ====================================================================================
"""

import contextlib
import errno
import os
import pathlib
import re
import secrets
import select
import stat
import sys
import time
from collections.abc import Iterator, Mapping

from kernels.errors import InputError

WAIT_S = 10.0  # for a reader of a FIFO
Path = str | os.PathLike[str]
SINKS = ("/dev/null", "/dev/zero", "/dev/full", "/dev/tty")
TERMINALS = (4, 5, *range(136, 144))  # majors of consoles, of /dev/tty and of pseudoterminals (Linux, devices.txt)
_OWN_STREAM = re.compile(r"/dev/(stdout|stderr|fd/\d+)|/proc/(self|\d+)/fd/\d+")


def write_files(contents: Mapping[pathlib.Path, bytes]) -> list[pathlib.Path]:
    """Write all of these files or none: every one under a temporary name first, then all renamed; what is written
    through comes after that. Folders are made as needed.

    Whatever fails (a full disk, no permission, no reader) is an `InputError`, and no temporary file stays behind.
    """
    staged: list[tuple[str, str]] = []
    made: list[pathlib.Path] = []
    path = pathlib.Path()
    try:
        for path, content in contents.items():
            if not is_special(path):
                made += _make_folder(path)
                staged.append(_stage(path, content))
        for path, content in contents.items():
            if is_special(path):
                _write_through(path, content)
        for temporary, target in staged:
            os.replace(temporary, target)
    except BaseException as error:
        for temporary, _ in staged:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        for folder in reversed(made):
            with contextlib.suppress(OSError):  # not empty: it holds what was written before
                folder.rmdir()
        if isinstance(error, OSError | ValueError) and not isinstance(error, InputError):
            raise InputError(f"cannot be written: {_reason(error)}", file=path) from None
        raise
    return list(contents)


def write_standard_output(content: bytes) -> None:
    """The bytes to the process's own standard output, whatever `sys.stdout` is at the moment."""
    if sys.__stdout__ is not None:
        sys.__stdout__.write(content.decode())
        sys.__stdout__.flush()


def check_output(path: Path, field: str) -> None:
    """Refuse before the work what cannot be written after it: a folder, a disk, a socket, a place without
    permission."""
    _check_name(path, field)
    try:
        special, exists = is_special(path), os.path.exists(path)
        target = os.path.realpath(path)
        folder = os.path.dirname(target)
        why = (
            "it is a folder" if os.path.isdir(path) or str(path).endswith(os.sep)
            else "" if special
            else "its folder is not there" if not os.path.isdir(folder)
            else "its folder allows no new file" if not os.access(folder, os.W_OK | os.X_OK)
            else "no permission" if exists and not os.access(target, os.W_OK)
            else ""
        )  # fmt: skip
        if not why and not exists:
            os.stat(folder + os.sep + os.path.basename(target))  # a name that is too long says so here
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        why = _reason(error)
    if why:
        raise InputError(f"cannot be written: {why} (--{field})", file=path)


def check_folder(path: Path, field: str) -> None:
    """Refuse before the work a folder that cannot be made or written into."""
    _check_name(path, field)
    here = os.path.realpath(path)
    try:
        os.path.exists(here) or os.stat(here)
    except FileNotFoundError:
        here = next(str(folder) for folder in pathlib.Path(here).parents if folder.exists())
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be written: {_reason(error)} (--{field})", file=path) from None
    if not os.path.isdir(here) or not os.access(here, os.W_OK | os.X_OK):
        why = "allows no new file" if os.path.isdir(here) else "is no folder"
        raise InputError(f"cannot be written: {here} {why} (--{field})", file=path)


def _check_name(path: Path, field: str) -> None:
    if not os.fspath(path):
        raise InputError("names nothing", field=field, value="")


def is_special(path: Path) -> bool:
    """Whether `path` is written through: a sink, a terminal, a FIFO, or a stream that this process holds open. A disk,
    a socket or another device is an `InputError`."""
    text = os.path.abspath(path)
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return False
    mode = found.st_mode
    what = (
        "a disk" if stat.S_ISBLK(mode)
        else "a socket" if stat.S_ISSOCK(mode)
        else "a device" if stat.S_ISCHR(mode) and not _takes_text(found.st_rdev)
        else ""
    )  # fmt: skip
    if what:
        raise InputError(f"cannot be written: it is {what}", file=path, allowed="a file, a pipe, a terminal, /dev/null")
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode) or (stat.S_ISREG(mode) and _OWN_STREAM.fullmatch(text) is not None)


def _takes_text(device: int) -> bool:
    """Whether a character device is a sink or a terminal. It is not opened: some (a watchdog) act on that."""
    for name in SINKS:
        with contextlib.suppress(OSError):
            if os.stat(name).st_rdev == device:
                return True
    for stream in range(3):
        with contextlib.suppress(OSError):
            if os.isatty(stream) and os.fstat(stream).st_rdev == device:
                return True
    return sys.platform == "linux" and os.major(device) in TERMINALS


def _stage(path: pathlib.Path, content: bytes) -> tuple[str, str]:
    """The content under a temporary name beside what `path` leads to; returns both names."""
    target = os.path.realpath(path)
    if os.path.isdir(target):
        raise IsADirectoryError("it is a folder")
    with contextlib.suppress(FileNotFoundError):
        os.stat(target)  # a name that is too long is told apart from the temporary one's
    old = os.stat(target) if os.path.exists(target) else None
    if old is not None and not os.access(target, os.W_OK):
        raise PermissionError("no permission")
    temporary = os.path.join(os.path.dirname(target), f".ridgeline.{secrets.token_hex(8)}.part")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)  # less the umask
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            if old is not None:
                with contextlib.suppress(OSError):  # another's file stays another's, where the system lets us
                    os.fchown(file.fileno(), old.st_uid, old.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode))
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(temporary)
        raise
    return temporary, target


def _write_through(path: Path, content: bytes) -> None:
    """The content into what lies at `path`, as far as it takes it; waits for a reader `WAIT_S` seconds at most."""
    end = time.monotonic() + WAIT_S
    with _opened(path, end) as handle:
        left = memoryview(content)
        while left:
            _, ready, _ = select.select([], [handle], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError(f"nobody has read it for {WAIT_S:g} s")
            try:
                left = left[os.write(handle, left[: 1 << 16]) :]
                end = time.monotonic() + WAIT_S
            except BlockingIOError:
                time.sleep(0.01)


@contextlib.contextmanager
def _opened(path: Path, end: float) -> Iterator[int]:
    """A handle that writes to a device or a FIFO without waiting for ever."""
    while True:
        try:
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            break
        except OSError as error:
            if not stat.S_ISFIFO(os.stat(path).st_mode) or error.errno != errno.ENXIO:
                raise
            if time.monotonic() >= end:
                raise TimeoutError(f"nobody has read it for {WAIT_S:g} s") from None
            time.sleep(0.05)
    try:
        yield handle
    finally:
        os.close(handle)


def _make_folder(path: pathlib.Path) -> list[pathlib.Path]:
    """Make the folder of what `path` leads to, and its parents; returns those that were not there, outermost first."""
    folder, missing = pathlib.Path(os.path.realpath(path)).parent, []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
    return missing[::-1]


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
