"""A long run on machines that fail: checkpoints, restarts, replicas that drop out and come back.

A SimPy process trains; another one fails devices, exponentially distributed, and interrupts it. Two answers to a
failure: **restart** (everything since the last checkpoint is lost; the job waits for detection, repair or a spare, and
loading) and **elastic** (the step in progress is lost; the other replicas re-shard the batch and go on, slower by the
share that is missing, until the device is repaired). Every second of the run is in exactly one column of the result.
"""

from collections.abc import Generator
from typing import Any, NamedTuple

import numpy as np
import simpy

from kernels.errors import InputError

PS = 1_000_000_000_000
RECOVERIES = ("restart", "elastic")
MOST_FAILURE = 10_000_000  # that a run is simulated with: minutes of processor time


class LongRun(NamedTuple):
    """What is run and what goes wrong. Times in seconds, the mean time between failures in hours of one device."""

    num_step: int
    step_s: float
    num_device: int
    mtbf_h: float
    checkpoint_s: float = 0.0  # training stands while one is written
    interval_step: int = 0  # steps between checkpoints; 0: the interval of `best_interval_s`
    detect_s: float = 30.0
    restart_s: float = 300.0  # processes, communicators, loading a checkpoint
    repair_s: float = 3600.0  # until a failed device is back
    num_spare: int = 0  # devices that stand by: a restart does not wait for repair while one is free
    recovery: str = "restart"
    num_replica: int = 1  # data parallel replicas; elastic recovery needs two
    reshard_s: float = 10.0  # elastic: moving states and microbatches when a replica leaves or comes back


class Goodput(NamedTuple):
    """Seconds of a run by what they were spent on; `goodput` is the useful share."""

    wall_s: float
    useful_s: float
    checkpoint_s: float
    lost_s: float  # computed and thrown away
    down_s: float  # detection, repair, restart, re-sharding
    degraded_s: float  # longer steps with fewer replicas
    num_failure: int
    interval_step: int
    goodput: float


def best_interval_s(checkpoint_s: float, mtbf_s: float) -> float:
    """Young's and Daly's interval between checkpoints for a mean time between failures of the whole job (Daly 2006,
    first order): sqrt(2 c M) - c.

    >>> round(best_interval_s(60, 24 * 3600))
    3160
    """
    return max(float(np.sqrt(2 * checkpoint_s * mtbf_s)) - checkpoint_s, checkpoint_s)


def expected_wall_s(useful_s: float, interval_s: float, checkpoint_s: float, restart_s: float, mtbf_s: float) -> float:
    """Daly's exact expectation for exponential failures that can also strike during checkpoints and restarts:
    M e^(R/M) (e^((T + c)/M) - 1) a segment."""
    segment = mtbf_s * np.exp(restart_s / mtbf_s) * np.expm1((interval_s + checkpoint_s) / mtbf_s)
    return float(segment * useful_s / interval_s)


RANGE = {
    "num_step": (1, 1e12), "step_s": (1e-9, 1e9), "mtbf_h": (0, 1e12), "num_device": (1, 1 << 24),
    **dict.fromkeys(("checkpoint_s", "detect_s", "restart_s", "repair_s", "reshard_s"), (0, 1e9)),
}  # fmt: skip
"""What the clock, of picoseconds, tells apart; above every run and machine that was built."""


def check(run: LongRun) -> None:
    """Raise `InputError` for what cannot be run."""
    if run.recovery not in RECOVERIES:
        raise InputError("unknown", field="recovery", value=run.recovery, allowed=RECOVERIES)
    for field in ("num_step", "step_s", "num_device", "mtbf_h", "num_replica"):
        if not 0 < getattr(run, field) < np.inf:
            raise InputError("must be above 0", field=field, value=getattr(run, field))
    for field in ("checkpoint_s", "interval_step", "detect_s", "restart_s", "repair_s", "num_spare", "reshard_s"):
        if not 0 <= getattr(run, field) < np.inf:
            raise InputError("must not be negative", field=field, value=getattr(run, field))
    for field, (low, high) in RANGE.items():
        if not low <= getattr(run, field) <= high:
            raise InputError("out of range", field=field, value=getattr(run, field), allowed=f"{low:g} to {high:g}")
    if run.recovery == "elastic" and run.num_replica < 2:
        raise InputError("elastic recovery needs another replica", field="num_replica", value=run.num_replica,
                         allowed=">= 2")  # fmt: skip
    if run.num_replica > run.num_device:
        raise InputError("more replicas than devices", field="num_replica", value=run.num_replica,
                         allowed=f"<= {run.num_device}")  # fmt: skip
    mtbf_s = run.mtbf_h * 3600 / run.num_device
    segment, down = interval(run) * run.step_s + run.checkpoint_s, run.detect_s + run.restart_s
    if run.recovery == "elastic":  # a step is enough to get on
        segment, down = run.step_s, run.detect_s + run.reshard_s
    elif run.num_spare == 0:
        down += run.repair_s
    # failures expected at e^(x / M) attempts each (Daly)
    attempts = np.exp(min((segment + down) / mtbf_s, 300.0))
    if run.num_step * run.step_s / segment * attempts > MOST_FAILURE:
        raise InputError(f"a failure every {mtbf_s:.3g} s: the run would hardly get on", field="mtbf_h",
                         value=run.mtbf_h)  # fmt: skip


def interval(run: LongRun) -> int:
    """Steps between two checkpoints."""
    steps = run.interval_step
    if steps == 0:
        steps = round(best_interval_s(run.checkpoint_s, run.mtbf_h * 3600 / run.num_device) / run.step_s)
    return min(max(steps, 1), run.num_step)


class _Job:
    """Clock and accounts of one run (integer picoseconds)."""

    def __init__(self, run: LongRun, seed: int) -> None:
        self.run, self.rng = run, np.random.default_rng(seed)
        self.env = simpy.Environment()
        mtbf_s = run.mtbf_h * 3600 / run.num_device
        self.interval = interval(run)
        self.mean_ps, self.step_ps = mtbf_s * PS, round(run.step_s * PS)
        self.alive, self.spare, self.num_failure, self.moves = run.num_replica, run.num_spare, 0, 0
        self.account = dict.fromkeys(("useful", "checkpoint", "lost", "down", "degraded"), 0)
        self.trainer = self.env.process(self.train())
        self.failer = self.env.process(self.fail())

    def fail(self) -> Generator[simpy.Event, Any, None]:
        while True:
            yield self.env.timeout(max(round(self.rng.exponential(self.mean_ps)), 1))
            if not self.trainer.is_alive:
                return
            self.num_failure += 1
            self.trainer.interrupt()

    def repair(self) -> Generator[simpy.Event, Any, None]:
        yield self.env.timeout(round(self.run.repair_s * PS))
        if self.run.recovery == "elastic":
            self.alive += 1
            self.moves += 1  # the replica joins, after re-sharding, before the next step
        else:
            self.spare += 1

    def spend(self, seconds: float, kind: str) -> Generator[simpy.Event, Any, bool]:
        """Pass time on an account; False where a failure cut it short."""
        begin = self.env.now
        try:
            yield self.env.timeout(round(seconds * PS))
        except simpy.Interrupt:
            self.account[kind] += self.env.now - begin
            return False
        self.account[kind] += self.env.now - begin
        return True

    def recover(self) -> Generator[simpy.Event, Any, None]:
        """After a failure, until training can go on; failures meanwhile start it again."""
        run = self.run
        while True:
            self.env.process(self.repair())
            if run.recovery == "elastic":
                self.alive -= 1
                wait = run.detect_s + run.reshard_s + (run.repair_s + run.restart_s if self.alive == 0 else 0.0)
            else:
                wait = run.detect_s + run.restart_s
                if self.spare:
                    self.spare -= 1
                else:
                    wait += run.repair_s
            if (yield from self.spend(wait, "down")):
                self.alive = max(self.alive, 1)
                return

    def train(self) -> Generator[simpy.Event, Any, None]:
        """Steps one after the other where replicas change between them, else a whole interval at a time."""
        done, saved = 0, 0
        while done < self.run.num_step:
            if self.moves:
                self.moves -= 1
                if not (yield from self.spend(self.run.reshard_s, "down")):
                    yield from self.recover()
                continue
            target = min(saved + self.interval, self.run.num_step)
            step = self.step_ps * self.run.num_replica // min(self.alive, self.run.num_replica)
            count = 1 if self.alive < self.run.num_replica else target - done
            begin = self.env.now
            try:
                yield self.env.timeout(step * count)
                finished, cut = count, False
            except simpy.Interrupt:
                finished, cut = int((self.env.now - begin) // step), True
            done += finished
            self.account["useful"] += finished * self.step_ps
            self.account["degraded"] += finished * (step - self.step_ps)
            self.account["lost"] += self.env.now - begin - finished * step
            if cut:
                done = self.roll_back(done, saved)
                yield from self.recover()
            elif done == target < self.run.num_step:
                if (yield from self.spend(self.run.checkpoint_s, "checkpoint")):
                    saved = done
                else:
                    done = self.roll_back(done, saved)
                    yield from self.recover()

    def roll_back(self, done: int, saved: int) -> int:
        """Steps that count after a failure: all where other replicas hold the state, else those of the checkpoint."""
        if self.run.recovery == "elastic" and self.alive > 1:
            return done
        wasted = (done - saved) * self.step_ps
        self.account["useful"] -= wasted
        self.account["lost"] += wasted
        return saved


def simulate_run(run: LongRun, seed: int = 0) -> Goodput:
    """Simulate the run once.

    >>> simulate_run(LongRun(100, 1.0, 8, 1e9)).goodput
    1.0
    """
    check(run)
    if not 0 <= seed < 2**63:
        raise InputError("out of range", field="seed", value=seed, allowed="0 to 9223372036854775807")
    job = _Job(run, seed)
    job.env.run(until=job.trainer)
    seconds = {kind: value / PS for kind, value in job.account.items()}
    wall_s = job.env.now / PS
    return Goodput(
        wall_s, seconds["useful"], seconds["checkpoint"], seconds["lost"], seconds["down"], seconds["degraded"],
        job.num_failure, job.interval, seconds["useful"] / wall_s,
    )  # fmt: skip
