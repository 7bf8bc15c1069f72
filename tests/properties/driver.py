"""Runs a verb in this process as the command line would, and says what of its promise it broke.

The promise: exit 0 with finite output, 3 with a reason, or 2 with one line; nothing but the named outputs and the cache
is written, inputs stay as they were, and it ends within a minute and 6 GB.
"""

import contextlib
import functools
import io
import json
import math
import os
import pathlib
import re
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from kernels import cache
from sim.cli import main

LIMIT_S = 60.0  # of the processor, whatever else it does
HANGS_S = 300.0
LIMIT_BYTE = 6_000_000_000
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = frozenset(f"os.{name}" for name in ("mkdir", "rename", "remove", "rmdir", "symlink", "link", "truncate",
                                              "chmod", "chown", "utime"))  # fmt: skip
ENDLESS = re.compile(r"(?<![\w./=:'\"-])-?(nan|inf|infinity(?!\s+(?:cache|fabric)))(?![\w./:'\"-])", re.I)


@dataclass(frozen=True)
class Case:
    """Words of a command line, and the files that lie in its folder."""

    words: tuple[str, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()  # names that it may write
    codes: tuple[int, ...] = (0, 2, 3)  # with which it may end


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
    """More than `LIMIT_S` seconds of the processor, or `HANGS_S` in all."""


class _Watch:
    """What this process writes outside the folder of the case and the cache, seen by an audit hook."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.cache = ""
        self.strange: list[str] = []
        sys.addaudithook(self._see)

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES:
            self._note(event, arguments[0])
        elif event in CHANGES:
            for place in arguments[: 2 if event in ("os.rename", "os.link", "os.symlink") else 1]:
                self._note(event, place)

    def _note(self, event: str, place: Any) -> None:
        if isinstance(place, int) or self.folder is None:
            return
        path = os.path.abspath(os.fsdecode(place))
        bytecode = "__pycache__" in path and any(path.startswith(root) for root in OURS)  # Python's own
        if not path.startswith((self.folder, self.cache, "/dev/")) and not self.cache.startswith(path) and not bytecode:
            self.strange.append(f"{event} {path}")


OURS = (str(cache.ROOT.parent), sys.prefix, sys.base_prefix)
_watch = _Watch()


@contextlib.contextmanager
def _limit() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TooLongError("takes too long")

    timers = ((signal.SIGPROF, signal.ITIMER_PROF, LIMIT_S), (signal.SIGALRM, signal.ITIMER_REAL, HANGS_S))
    before = [signal.signal(number, stop) for number, _, _ in timers]
    for _, timer, seconds in timers:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for (number, timer, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


ORDINARY = (
    *(("simulate", "--model", "gpt2", "--system", "a100_sxm", "--requests", "batch:n=3,prompt=8,output=4", *more)
      for more in (("--dp", "2", "--router", "prefix_aware"), ("--policy", "static"), ("--no-run-ahead",))),
    ("pools", "--model", "gpt2", "--system", "a100_sxm", "--requests", "batch:n=2,prompt=8,output=4"),
    ("train", "--model", "gpt2", "--system", "dgx_a100", "--batch", "4", "--seq", "64"),
    ("plan", "--model", "gpt2", "--system", "dgx_a100", "--gpus", "2", "--batch", "4", "--seq", "64", "--top", "1"),
    ("schedule", "zb-v", "--stages", "2", "--microbatches", "4"), ("goodput", "--steps=50", "--step-s=1", "--gpus=8",
                                                                   "--mtbf-h=100", "--runs=1"),
)  # fmt: skip


@functools.cache
def warm() -> None:
    """Compile what cases use: that takes a minute or more the very first time, and is none of the faults looked for."""
    for words in ORDINARY:
        with contextlib.redirect_stdout(io.StringIO()):
            assert main(words) == 0, words


def run(case: Case, folder: pathlib.Path) -> Outcome:
    """Run the case in `folder`, which must be the working directory and empty; it is emptied again."""
    warm()
    for name, content in case.files.items():
        (folder / name).write_bytes(content)
    out, err, start, most = io.StringIO(), io.StringIO(), time.process_time(), _peak_byte()
    _watch.cache = str(cache.base())  # made here, where it is not there
    _watch.folder, _watch.strange = str(folder), []
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
    finally:
        _watch.folder = None
    seconds, peak = time.process_time() - start, _peak_byte()
    if seconds > LIMIT_S:
        broken = broken or f"took {seconds:.0f} s"
    if peak > max(most, LIMIT_BYTE):
        broken = broken or f"took {peak / 1e9:.1f} GB"
    if _watch.strange:
        broken = broken or f"wrote elsewhere: {_watch.strange[:3]}"
    folders = [path.name for path in folder.iterdir() if path.is_dir()]
    if folders:
        broken = broken or f"left folders: {folders}"
    written = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    found = Outcome(code, out.getvalue(), err.getvalue(), seconds, written, broken, place)
    why = broken or _promise(found, case)
    return Outcome(code, found.out, found.err, found.seconds, written, why, place)


def _peak_byte() -> int:
    """The most memory that this process ever held (it never falls: a case shows where it raises it)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _promise(found: Outcome, case: Case) -> str:
    """What of the promise is broken; empty where none."""
    if found.code not in case.codes:
        return f"exit code {found.code}"
    if found.code in (2, 3) and not re.fullmatch(r"ridgeline: [^\n]+\n", found.err):
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
        rows = [line.split(",") for line in content.decode().splitlines() if not line.startswith("#")]
        if any(cell.lower() in ("nan", "inf", "-inf") for row in rows for cell in row):
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
