"""A sweep: a scenario at many points, a row each, kept as they come and never computed twice."""

import collections
import dataclasses
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kernels.errors import InputError
from sim.record.provenance import config_hash
from sim.run.scenario import Scenario, from_file
from sim.sweep import axes as axes_of
from sim.sweep.axes import Axis, parse_axes
from sim.sweep.content import Contents
from sim.sweep.local import Here, Local, Pool
from sim.sweep.point import SERVED
from sim.sweep.samplers import Grid, Optuna, Sampler
from sim.sweep.store import BUSY, FREE, Store

if TYPE_CHECKING:
    import pandas as pd

EXECUTORS = ("local", "ray")
SAMPLERS = ("grid", "optuna")
MAX_JOB = 1024
AGAIN_S = 0.3  # until a point that another process computes is asked for again
Progress = Callable[[int, int, int], None]  # rows there, of them from the store, points in all


@dataclasses.dataclass(frozen=True, eq=False)
class Swept:
    """What came of a sweep: `rows` in the order of the points (the axes' values, `key`, `status`, `why`, metrics)."""

    rows: list[dict[str, Any]]
    axes: tuple[Axis, ...]
    scenario: Scenario
    complete: bool  # False: it was interrupted, and rows are those that were there

    @property
    def served(self) -> bool:
        """Whether any point served a request."""
        return any(row["status"] == SERVED for row in self.rows)

    @property
    def frame(self) -> "pd.DataFrame":
        """The rows; `attrs["complete"]` says whether all are there."""
        import pandas as pd

        frame = pd.DataFrame(self.rows)
        frame.attrs["complete"] = self.complete
        return frame

    @property
    def name(self) -> str:
        """Sixteen hexadecimal digits of the scenario and what varies."""
        return config_hash(dataclasses.asdict(self.scenario) | {f"over {a.name}": a.values for a in self.axes})


def sweep(
    scenario: Scenario | str | os.PathLike[str],
    over: Mapping[str, Any] | Sequence[str],
    *,
    store: str | os.PathLike[str] | None = None,
    executor: str = "local",
    jobs: int = 1,
    sampler: str = "grid",
    trials: int | None = None,
    minimise: str | None = None,
    maximise: str | None = None,
    progress: Progress | bool | None = None,
) -> "pd.DataFrame":
    """The scenario (or its file) at every point of `over`: a row a point with the varied values, `key`, `status`
    ("served", "nothing served", "refused"), `why` and the metrics of `simulate`.

    `over` maps fields, or parts of one (`"requests.rate"`), to values: a list, or text as on the command line
    (`"0:39:1"`, the end included). `store` is a folder where rows are kept by the content of their scenario and its
    files: what is there is not computed again, and several processes may share it. `jobs` processes compute
    (`executor="local"`), or the workers of a Ray cluster. `sampler="optuna"` runs `trials` points that lower `minimise`
    or raise `maximise`, a metric. `progress(done, of them found, in all)` is called as it goes; True shows it on the
    terminal or in the notebook. Ctrl-C returns the rows that were there, with `attrs["complete"]` False.

    Raises `InputError` before anything runs for a field, value or name that is not there; a point that does not fit
    its machine is a row that says so.
    """
    if isinstance(progress, bool):
        from sim.show.time_left import time_left

        with time_left(progress) as shown:
            return sweep(scenario, over, store=store, executor=executor, jobs=jobs, sampler=sampler, trials=trials,
                         minimise=minimise, maximise=maximise, progress=shown)  # fmt: skip
    return run_sweep(
        scenario, over, store=store, executor=executor, jobs=jobs, sampler=sampler, trials=trials, minimise=minimise,
        maximise=maximise, progress=progress,
    ).frame  # fmt: skip


def run_sweep(
    scenario: Scenario | str | os.PathLike[str], over: Mapping[str, Any] | Sequence[str], *,
    store: str | os.PathLike[str] | None = None, executor: str = "local", jobs: int = 1, sampler: str = "grid",
    trials: int | None = None, minimise: str | None = None, maximise: str | None = None,
    progress: Progress | None = None,
) -> Swept:  # fmt: skip
    """As `sweep`, the rows as they are kept."""
    base = scenario if isinstance(scenario, Scenario) else from_file(pathlib.Path(scenario))
    varied = tuple(parse_axes(over))
    source = _sampler(varied, sampler, trials, minimise, maximise)
    if executor not in EXECUTORS:
        raise InputError("no such executor", field="executor", value=executor, allowed=EXECUTORS)
    if not 0 <= jobs <= MAX_JOB or (jobs == 0 and executor == "local"):
        low = 0 if executor == "ray" else 1
        raise InputError("out of range", field="jobs", value=jobs, allowed=f"{low} to {MAX_JOB}")
    run = _Run(base, varied, source, progress)
    with Store(store) as held:
        complete = run.through(held, executor, jobs)
    done = Swept(run.rows, varied, base, complete)
    if store is not None and complete:
        write_table(done, pathlib.Path(store))
    return done


def _sampler(
    varied: Sequence[Axis], sampler: str, trials: int | None, minimise: str | None, maximise: str | None
) -> Sampler:
    if sampler not in SAMPLERS:
        raise InputError("no such sampler", field="sampler", value=sampler, allowed=SAMPLERS)
    given = {"trials": trials, "minimise": minimise, "maximise": maximise}
    if sampler == "grid":
        for field, value in given.items():
            if value is not None:
                raise InputError("has no effect: a grid takes every point", field=field, value=value,
                                 allowed="sampler = optuna")  # fmt: skip
        return Grid(varied)
    if (minimise is None) == (maximise is None):
        raise InputError("one metric to minimise or to maximise", field="minimise", value=minimise, allowed=metrics())
    metric = str(minimise if maximise is None else maximise)
    if metric not in metrics():
        raise InputError("no such metric", field="minimise" if maximise is None else "maximise", value=metric,
                         allowed=metrics())  # fmt: skip
    if trials is None or not 1 <= trials <= axes_of.MAX_POINT:
        raise InputError("out of range", field="trials", value=trials, allowed=f"1 to {axes_of.MAX_POINT:,}")
    return Optuna(varied, trials, metric, maximise is not None)


def metrics() -> list[str]:
    """The numbers that every row of a served point has."""
    from sim.run.compare import NUMBERS

    return [*NUMBERS]


class _Run:
    """The points of a sweep on their way to rows."""

    def __init__(self, base: Scenario, axes: Sequence[Axis], source: Sampler, progress: Progress | None) -> None:
        self.base, self.axes, self.source = base, axes, source
        self.progress = progress or (lambda done, found, num: None)
        self.contents = Contents()
        self.rows: list[dict[str, Any]] = []
        self.done, self.found = 0, 0
        self.pool: Pool | None = None
        self._batch: dict[str, Scenario] = {}
        if isinstance(source, Grid):  # every name is looked up before anything runs
            self._grid = [self._named(values) for values in axes_of.grid(axes)]
        else:  # those of each value by itself
            self._grid = []
            for axis in axes:
                for value in axis.values:
                    self._named([value if each is axis else each.values[0] for each in axes])

    def _named(self, values: Sequence[Any]) -> tuple[str, Scenario]:
        one = axes_of.at(self.base, self.axes, values)
        return self.contents.key(one), one

    def through(self, store: Store, executor: str, jobs: int) -> bool:
        """All batches; whether it was not interrupted. Rows are in `rows`, as far as they are there."""
        try:
            for batch in self.source.batches():
                named = self._grid or [self._named(values) for values in batch]
                self._batch = dict(named)
                try:
                    self._compute(store, executor, jobs)
                finally:
                    rows = store.rows(self._batch)
                    told = [
                        {axis.name: value for axis, value in zip(self.axes, values, strict=True)}
                        | {"key": key, **rows[key]}
                        for values, (key, _) in zip(batch, named, strict=True) if key in rows
                    ]  # fmt: skip
                    self.rows += told
                self.source.tell(told)
        except KeyboardInterrupt:
            if not self.rows:
                raise
            return False
        finally:
            if self.pool is not None:
                self.pool.close()
        return True

    def _compute(self, store: Store, executor: str, jobs: int) -> None:
        """Until every point of the batch has a row in the store, here or by another process."""
        there = store.rows(self._batch)
        self.done, self.found = self.done + len(there), self.found + len(there)
        self._say()
        waiting = collections.deque(key for key in self._batch if key not in there)
        elsewhere: list[str] = []
        running: set[str] = set()
        if waiting and self.pool is None:
            self.pool = _pool(executor, min(jobs, self.source.num))
        asked_s = time.monotonic()
        while waiting or running or elsewhere:
            pool = self.pool
            assert pool is not None
            while waiting and pool.free():
                key = waiting.popleft()
                state = store.claim(key)
                if state == FREE:
                    pool.submit(key, dataclasses.asdict(self._batch[key]))
                    running.add(key)
                elif state == BUSY:
                    elsewhere.append(key)
                else:
                    self.done, self.found = self.done + 1, self.found + 1
            for key, row in pool.wait(AGAIN_S) if running else ():
                running.discard(key)
                if store.finish(key, row):
                    self.done += 1
                else:  # the claim was lost: another process has it, or had
                    waiting.append(key)
            self._say()
            if elsewhere and time.monotonic() - asked_s > AGAIN_S:
                waiting.extend(elsewhere)
                elsewhere.clear()
                asked_s = time.monotonic()
            elif elsewhere and not running and not waiting:
                time.sleep(AGAIN_S / 3)

    def _say(self) -> None:
        self.progress(self.done, self.found, self.source.num)


def _pool(executor: str, jobs: int) -> Pool:
    if executor == "ray":
        from sim.sweep.on_ray import OnRay

        return OnRay(jobs)
    return Here() if jobs == 1 else Local(jobs)


def write_table(done: Swept, folder: pathlib.Path) -> pathlib.Path:
    """The rows of a whole sweep beside the index, as Parquet (CSV without the extra `parquet`): `sweep-NAME`, the same
    bytes for the same rows."""
    import importlib.util

    from sim.record.export import frame_bytes
    from sim.record.write import write_files

    form = "parquet" if importlib.util.find_spec("pyarrow") else "csv"
    path = folder / f"sweep-{done.name}.{form}"
    frame = done.frame
    for axis in done.axes:
        if len({type(value) for value in axis.values}) > 1:  # a column has one type
            frame[axis.name] = frame[axis.name].map(str)
    about = {"scenario": dataclasses.asdict(done.scenario), "over": {axis.name: axis.values for axis in done.axes}}
    write_files({path: frame_bytes(frame, about, form)})
    return path
