"""What a file of somebody else holds, read in a stream: bounded in size, in time and in nesting, gzip unpacked.

Functions take an open descriptor, or bytes already read; `workloads.files` and `hw_models.files` open what they read.
"""

import json
import os
import re
import select
import stat
import tomllib
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from kernels.errors import InputError

WAIT_S = 10.0  # for somebody to write into a FIFO
CHUNK_BYTE = 1 << 20
MAX_TABLE_BYTE = 1 << 30  # rows of text, unpacked
MAX_JSON_BYTE = 1 << 28  # a parsed JSON takes about ten times its bytes
MAX_TOML_BYTE = 1 << 20
MAX_DEPTH = 64  # of lists and tables within each other: what is written by hand has less than ten
_HUGE = re.compile(rb"[0-9]{309}")
_TEXT = re.compile(rb"\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'")
_DOTTED = re.compile(rb"(?:[\w-]+[ \t]*\.[ \t]*){%d}" % MAX_DEPTH)


class TooLargeError(InputError):
    """A file that goes on beyond the limit; `data` is what was read of it."""

    def __init__(self, data: bytes, limit: int, file: object, hint: str = "") -> None:
        super().__init__(f"too large: more than {limit} bytes" + (" once unpacked" * (hint == "gzip")), file=file,
                         allowed=f"{limit} bytes at most")  # fmt: skip
        self.data = data


def drain(open_file: Callable[[], int], file: object, limit: int) -> bytes:
    """All bytes behind the descriptor that `open_file` returns, gzip unpacked, and the descriptor closed.

    More than `limit` (of a device that never ends, of a compressed bomb) is a `TooLargeError`; what cannot be read or
    unpacked, ends in the middle, or comes from a FIFO that nobody writes to for `WAIT_S`, an `InputError`.
    """
    data = bytearray()
    packed = False
    try:
        descriptor = open_file()
        try:
            for part, packed in _unpacked(_chunks(descriptor)):
                data += part
                if len(data) > limit:
                    raise TooLargeError(bytes(data[:limit]), limit, file, "gzip" if packed else "")
        finally:
            os.close(descriptor)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"cannot be read: {reason}", file=file) from None
    return bytes(data)


def _chunks(descriptor: int) -> Iterator[bytes]:
    """Parts of a stream as they come; a FIFO or a terminal is waited for."""
    waits = not stat.S_ISREG(os.fstat(descriptor).st_mode)
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    while True:
        if waits and not ready.poll(1000 * WAIT_S):
            raise TimeoutError(f"nobody has written into it for {WAIT_S:g} s")
        try:
            part = os.read(descriptor, CHUNK_BYTE)
        except BlockingIOError:
            continue
        if not part:
            return
        yield part


def _unpacked(parts: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """The parts, unpacked where the first two bytes are those of gzip, never more than a chunk at once."""
    first = next(parts, b"")
    while 0 < len(first) < 2:
        more = next(parts, b"")
        if not more:
            break
        first += more
    if first[:2] != b"\x1f\x8b":
        yield first, False
        for part in parts:
            yield part, False
        return
    member = zlib.decompressobj(wbits=31)
    left = first
    while True:
        if member.eof and left:
            member = zlib.decompressobj(wbits=31)  # a file of several members
        out = member.decompress(left, CHUNK_BYTE)
        left = member.unconsumed_tail or member.unused_data
        yield out, True
        if not left:
            left = next(parts, b"")
            if not left and not (out and not member.eof and len(out) == CHUNK_BYTE):
                break
    if not member.eof:
        raise EOFError("the compressed file ends in the middle")


def json_of(data: bytes, file: object, line: int | None = None) -> Any:
    """The value of JSON text (UTF-8, with or without a byte order mark); an `InputError` names the line of what is
    none, or is nested deeper than `MAX_DEPTH`.

    >>> json_of(b'{"a": [1]}', "x")
    {'a': [1]}
    >>> json_of(b"[" * 100000, "x")
    Traceback (most recent call last):
    ...
    kernels.errors.InputError: x: nested too deep; allowed: 64 levels
    """
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except RecursionError:
        raise _too_deep(file, line) from None
    except UnicodeDecodeError as error:
        at = data[: error.start].count(b"\n") + 1
        raise InputError("is not JSON: not UTF-8 text", file=file, line=line or at) from None
    except ValueError as error:  # syntax, or a number of thousands of digits
        place = line or getattr(error, "lineno", None)
        raise InputError(f"is not JSON: {getattr(error, 'msg', error)}", file=file, line=place) from None
    check_depth(value, file, line)
    return value


def toml_of(data: bytes, file: object) -> dict[str, Any]:
    """The table of TOML text; an `InputError` names what is none, or is nested deeper than `MAX_DEPTH`.

    >>> toml_of(b"a = [1]", "x")
    {'a': [1]}
    >>> toml_of(b"a = [1", "x")
    Traceback (most recent call last):
    ...
    kernels.errors.InputError: x:1: is not TOML: Unclosed array
    """
    if _DOTTED.search(_TEXT.sub(b"q", data)):  # the parser takes quadratic time to build such a key
        raise _too_deep(file, None)
    try:
        text = data.decode("utf-8-sig")
        value = tomllib.loads(text)
    except RecursionError:
        raise _too_deep(file, None) from None
    except UnicodeDecodeError as error:
        raise InputError("is not TOML: not UTF-8 text", file=file, line=data[: error.start].count(b"\n") + 1) from None
    except ValueError as error:  # syntax, or a number of thousands of digits
        message, _, place = str(error).partition(" (at ")
        found = re.match(r"line (\d+)", place)
        line = int(found[1]) if found else text.count("\n") + 1 if place else None
        raise InputError(f"is not TOML: {message}", file=file, line=line) from None
    check_depth(value, file)
    return value


def check_numbers(data: bytes, file: object) -> None:
    """An `InputError` with the line where a table holds a whole number that no float holds (309 digits).

    >>> check_numbers(b"m,n\\n1," + b"9" * 400, "x.csv")
    Traceback (most recent call last):
    ...
    kernels.errors.InputError: x.csv:2: a number of hundreds of digits
    """
    found = _HUGE.search(data)
    if found:
        raise InputError("a number of hundreds of digits", file=file, line=data[: found.start()].count(b"\n") + 1)


def check_depth(value: Any, file: object, line: int | None = None) -> None:
    """An `InputError` where lists and tables are nested deeper than `MAX_DEPTH`."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise _too_deep(file, line)


def _too_deep(file: object, line: int | None) -> InputError:
    return InputError("nested too deep", file=file, line=line, allowed=f"{MAX_DEPTH} levels")
