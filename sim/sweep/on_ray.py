"""Points as tasks of a Ray cluster; this process, the driver, alone opens the store.

Workers read the scenario's files at the same paths (a shared file system, or one machine), from this process's working
folder, and import the project from where it lies here or is installed there. Each checks by the point's key that what
it read is what the driver read.
"""

import collections
import os
from collections.abc import Mapping
from typing import Any

from kernels.errors import InputError
from sim.sweep.local import MAX_TRY, Done, answer, died


def point_there(key: str, fields: dict[str, Any], folder: str, home: str) -> dict[str, Any]:
    """The task: a point's answer as plain values."""
    import sys

    if home not in sys.path:
        sys.path.insert(0, home)
    os.chdir(folder)
    from sim.record.provenance import canonical
    from sim.sweep.worker import answered

    said: dict[str, Any] = canonical(answered(key, fields))
    return said


class OnRay:
    """A cluster: the one at `RAY_ADDRESS`, else the one that runs on this machine, else one that is started here and
    ends with the sweep. `jobs` points at a time (0: as many as it has processors)."""

    def __init__(self, jobs: int) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError:
            raise InputError("needs the extra: pip install 'ridgeline[ray]'", field="executor", value="ray",
                             allowed="local") from None  # fmt: skip
        from kernels.cache import ROOT

        self._ray = ray
        self._own = not ray.is_initialized()
        if self._own:
            try:
                ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)
            except Exception as error:  # where its processes take more than half a minute, Ray raises a bare one
                raise InputError(f"no Ray cluster: {error}", field="executor", value="ray") from None
        place = os.getcwd(), str(ROOT.parent)
        task = ray.remote(max_retries=0, num_cpus=1)(point_there)
        self._start = lambda key, fields: task.remote(key, fields, *place)
        self.jobs = jobs or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._running: dict[Any, tuple[str, dict[str, Any]]] = {}
        self._tries: collections.Counter[str] = collections.Counter()

    def free(self) -> bool:
        return len(self._running) < self.jobs

    def submit(self, key: str, fields: Mapping[str, Any]) -> None:
        self._running[self._start(key, dict(fields))] = key, dict(fields)

    def wait(self, at_most_s: float) -> Done:
        if not self._running:
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=at_most_s)
        found: Done = []
        for task in ready:
            key, fields = self._running.pop(task)
            try:
                found.append(answer(self._ray.get(task)))
            except self._ray.exceptions.RayTaskError as error:  # the task could not begin: no such folder, no project
                raise InputError(f"a worker of the cluster cannot run points: {error.cause}", field="executor",
                                 value="ray") from None  # fmt: skip
            except self._ray.exceptions.RayError:  # the worker or its node went away
                self._tries[key] += 1
                if self._tries[key] >= MAX_TRY:
                    raise died(key, fields, self._tries[key]) from None
                self.submit(key, fields)
        return found

    def close(self) -> None:
        for task in self._running:
            self._ray.cancel(task, force=True)
        self._running.clear()
        if self._own:
            self._ray.shutdown()
