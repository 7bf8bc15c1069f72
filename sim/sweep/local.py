"""Points on processes of this machine: a worker each, told its points one by one, replaced where it dies."""

import collections
import contextlib
import json
import os
import selectors
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Protocol

from hw_models.process import child_environment
from kernels.errors import InputError
from sim.sweep.point import run_point

MAX_TRY = 3  # of a point whose worker dies under it
Done = list[tuple[str, dict[str, Any]]]


class Pool(Protocol):
    """Who computes points."""

    def free(self) -> bool:
        """Whether it takes another point."""

    def submit(self, key: str, fields: Mapping[str, Any]) -> None:
        """Takes a point."""

    def wait(self, at_most_s: float) -> Done:
        """Rows that came in, perhaps none. Raises `InputError` for what ends a sweep."""

    def close(self) -> None:
        """Ends, also with points under way."""


class Here:
    """This process itself, a point at a time."""

    def __init__(self) -> None:
        self._next: tuple[str, Mapping[str, Any]] | None = None

    def free(self) -> bool:
        return self._next is None

    def submit(self, key: str, fields: Mapping[str, Any]) -> None:
        self._next = key, fields

    def wait(self, at_most_s: float) -> Done:
        if self._next is None:
            return []
        key, fields = self._next
        row = run_point(key, fields)
        self._next = None
        return [(key, row)]

    def close(self) -> None:
        self._next = None


class _Worker:
    """A process of `sim.sweep.worker` and what it is at."""

    def __init__(self) -> None:
        # a group of its own: Ctrl-C at a terminal is this process's to hear; it ends with this one, however that ends
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sim.sweep.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=environment(), process_group=0,
        )  # fmt: skip
        self.point: tuple[str, Mapping[str, Any]] | None = None
        self.heard = b""

    def tell(self, key: str, fields: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        self.point = key, fields
        with contextlib.suppress(OSError):  # it died: its end is seen where its answer is awaited
            self.process.stdin.write(json.dumps([key, dict(fields)]).encode() + b"\n")
            self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


class Local:
    """`jobs` worker processes."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._workers: list[_Worker] = []
        self._tries: collections.Counter[str] = collections.Counter()
        self._selector = selectors.DefaultSelector()

    def free(self) -> bool:
        return len(self._workers) < self.jobs or any(worker.point is None for worker in self._workers)

    def submit(self, key: str, fields: Mapping[str, Any]) -> None:
        idle = next((worker for worker in self._workers if worker.point is None), None)
        if idle is None:
            idle = _Worker()
            self._workers.append(idle)
            assert idle.process.stdout is not None
            self._selector.register(idle.process.stdout, selectors.EVENT_READ, idle)
        idle.tell(key, fields)

    def wait(self, at_most_s: float) -> Done:
        found: Done = []
        for ready, _ in self._selector.select(at_most_s):
            worker: _Worker = ready.data
            heard = os.read(ready.fd, 1 << 20)
            if not heard:
                self._lost(worker)
                continue
            worker.heard += heard
            while b"\n" in worker.heard:
                line, _, worker.heard = worker.heard.partition(b"\n")
                key, row = answer(json.loads(line))
                worker.point = None
                found.append((key, row))
        return found

    def _lost(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        self._selector.unregister(worker.process.stdout)
        self._workers.remove(worker)
        worker.end()
        if worker.point is not None:
            key, fields = worker.point
            self._tries[key] += 1
            if self._tries[key] >= MAX_TRY:
                raise died(key, fields, self._tries[key])
            self.submit(key, fields)

    def close(self) -> None:
        for worker in self._workers:
            worker.end()
        self._workers.clear()
        self._selector.close()


def environment() -> dict[str, str]:
    """Of a worker: it finds this project, and ends with this process."""
    from kernels.cache import ROOT

    given = child_environment()
    paths = [str(ROOT.parent), *filter(None, given.get("PYTHONPATH", "").split(os.pathsep))]
    return given | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def answer(said: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A worker's answer; what ended it is raised here."""
    if "refused" in said:
        raise InputError(said["refused"])
    if "fault" in said:
        raise RuntimeError(f"a worker failed at point {said['key']}\n{said['fault']}")
    return str(said["key"]), dict(said["row"])


def died(key: str, fields: Mapping[str, Any], num: int) -> InputError:
    """Of a point that no worker survives."""
    from sim.run.scenario import Scenario

    return InputError(f"{num} workers died at this point (of too little memory, perhaps)", field="point",
                      value=repr(Scenario(**fields)))  # fmt: skip
