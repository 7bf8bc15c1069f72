"""Stragglers: a synchronous step waits for its slowest worker; backup workers wait for fewer."""

import numpy as np

from kernels.errors import InputError
from kernels.train_plan import Floats
from sim.training.critical_batch import steps_to_target


def step_s(sample_s: Floats, num_backup: int) -> float:
    """Mean time of a step over drawn worker times `[num_draw, num_worker]` that drops the `num_backup` slowest."""
    num_worker = sample_s.shape[1]
    if not 0 <= num_backup < num_worker:
        raise InputError("out of range", field="num_backup", value=num_backup, allowed=f"0 to {num_worker - 1}")
    return float(np.partition(sample_s, num_worker - num_backup - 1, axis=1)[:, num_worker - num_backup - 1].mean())


def draw(
    num_worker: int, mean_s: float, spread: float, *, slow_share: float = 0.0, slow_factor: float = 1.0,
    num_draw: int = 2000, seed: int = 0,
) -> Floats:  # fmt: skip
    """Worker times `[num_draw, num_worker]`: log-normal with this mean and relative spread; a share of them slower by a
    factor (a sick device, a shared link)."""
    if not 0 <= slow_share <= 1:
        raise InputError("out of range", field="slow_share", value=slow_share, allowed="0 to 1")
    rng = np.random.default_rng(seed)
    sigma = np.sqrt(np.log1p(spread**2))
    times = rng.lognormal(np.log(mean_s) - sigma**2 / 2, sigma, (num_draw, num_worker))
    return np.asarray(times * np.where(rng.random(times.shape) < slow_share, slow_factor, 1.0))


def best_backup(sample_s: Floats, critical_batch: float, batch_per_worker: float) -> tuple[int, float]:
    """(backups, time to a target relative to none): dropping workers shortens a step and shrinks its batch, which
    costs steps by the critical-batch relation 1 + critical / batch (McCandlish et al. 2018)."""
    num_worker = sample_s.shape[1]
    ordered = np.sort(sample_s, axis=1).mean(axis=0)  # mean of every order statistic
    kept = np.arange(1, num_worker + 1)
    to_target = ordered * np.array([steps_to_target(k * batch_per_worker, 1.0, critical_batch) for k in kept])
    best = int(np.argmin(to_target))
    return num_worker - 1 - best, float(to_target[best] / to_target[-1])
