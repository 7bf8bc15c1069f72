"""Runs a verb in this process as the command line would, and says what of its promise it broke.

The promise: exit 0 with finite output, 3 with a reason, or 2 with one line; nothing but the named outputs is written,
inputs stay as they were, and it ends within a minute.
"""

import contextlib
import io
import json
import math
import os
import pathlib
import re
import signal
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from sim.cli import main

LIMIT_S = 60.0
ENDLESS = re.compile(r"(?<![\w./=:'\"-])-?(nan|inf|infinity)(?![\w./:'\"-])", re.I)


@dataclass(frozen=True)
class Case:
    """Words of a command line, and the files that lie in its folder."""

    words: tuple[str, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()  # names that it may write


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str
    seconds: float
    written: Mapping[str, bytes]
    broken: str = ""  # what of the promise, empty where none
    place: str = ""  # the line of ours that raised


class TooLongError(Exception):
    """More than `LIMIT_S` seconds."""


@contextlib.contextmanager
def _limit() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TooLongError(f"more than {LIMIT_S:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(case: Case, folder: pathlib.Path) -> Outcome:
    """Run the case in `folder`, which must be the working directory and empty; it is emptied again."""
    for name, content in case.files.items():
        (folder / name).write_bytes(content)
    out, err, start = io.StringIO(), io.StringIO(), time.monotonic()
    code, broken, place = -1, "", ""
    try:
        with _limit(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # numpy's: a number beyond its type
            code = main(case.words)
    except SystemExit as error:
        broken = f"SystemExit({error.code})"
    except BaseException as error:
        broken = f"{type(error).__name__}: {str(error)[:200]}"
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename]
        place = next((f"{pathlib.Path(f.filename).name}:{f.lineno}" for f in reversed(frames)
                      if "/tests/" not in f.filename and "/lib/python" not in f.filename), "")  # fmt: skip
        if isinstance(error, KeyboardInterrupt):
            raise
    written = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for path in folder.iterdir():
        path.unlink() if path.is_file() else None
    found = Outcome(code, out.getvalue(), err.getvalue(), time.monotonic() - start, written, broken, place)
    why = broken or _promise(found, case)
    return Outcome(code, found.out, found.err, found.seconds, written, why, place)


def _promise(found: Outcome, case: Case) -> str:
    """What of the promise is broken; empty where none."""
    if found.code not in (0, 2, 3):
        return f"exit code {found.code}"
    if found.code and not re.fullmatch(r"ridgeline: [^\n]+\n", found.err):
        return f"exit code {found.code} with {found.err.count(chr(10))} lines on standard error: {found.err[:300]}"
    for name, content in case.files.items():
        if name not in case.outputs and found.written.get(name) != content:
            return f"input {name} has changed"
    strange = set(found.written) - set(case.files) - set(case.outputs)
    if strange:
        return f"wrote {sorted(strange)}"
    if found.code == 2 and set(found.written) - set(case.files):
        return "refused, and yet something is written"
    if found.code == 0:
        endless = ENDLESS.search(found.out)
        if endless:
            return f"prints {endless[0]!r}: {found.out[max(0, endless.start() - 60) : endless.end() + 20]!r}"
        return next((why for name in case.outputs if name in found.written
                     and (why := _content(name, found.written[name]))), "")  # fmt: skip
    return ""


def _content(name: str, content: bytes) -> str:
    """What is wrong with an output file."""
    if name.endswith(".json"):
        try:
            json.loads(content, parse_constant=_refuse_constant, parse_float=_finite)
        except ValueError as error:
            return f"{name}: {error}"
    if name.endswith(".csv"):
        rows = [line for line in content.decode().splitlines() if not line.startswith("#")]
        if any(cell.lower() in ("nan", "inf", "-inf") for line in rows for cell in line.split(",")):
            return f"{name}: a cell that is not finite"
    return ""


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not finite")
    return value


def shown(case: Case) -> str:
    """A case as a shell would take it, with the beginnings of its files."""
    files = "".join(f"\n  {name}: {content[:400]!r}" for name, content in case.files.items())
    return f"ridgeline {' '.join(map(repr, case.words))}{files}"


def start_in(folder: pathlib.Path) -> None:
    """The working directory of all cases."""
    folder.mkdir(exist_ok=True)
    os.chdir(folder)


Words = Sequence[str]
