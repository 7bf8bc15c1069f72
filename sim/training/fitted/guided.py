"""Guided search over plans with Optuna, for spaces too large to try whole."""

import functools

import numpy as np
import pandas as pd

from hw_models import catalog
from kernels import training as t
from kernels.errors import InputError
from kernels.training import Floats
from kernels.training_step import score_plans
from sim.training.fitted.search import frame
from sim.training.fitted.space import Space, layouts, plan_rows
from sim.training.fitted.stack import Stack, hardware_vector
from workloads import models
from workloads.models.spec import ModelSpec
from workloads.training import model_vector

COLUMNS = (  # axes in the order in which they are chosen: those that leave least first
    t.SCHEDULE, t.NUM_CHUNK, t.MICRO_BATCH, t.EP, t.RECOMPUTE_KIND, t.ZERO, t.SEQUENCE_PARALLEL, t.GRAD_BYTE,
    t.OPTIMIZER_BYTE, t.TP_OVERLAP, t.DP_SCHEDULED, t.KEEP_GATHERED, t.FUSED_NORM, t.ACT_OFFLOAD, t.WEIGHT_OFFLOAD,
    t.OPTIMIZER_OFFLOAD, t.WHOLE_HOP,
)  # fmt: skip


def guided_search(
    model: str | ModelSpec, system: str, space: Space, stack: Stack, *, num_trial: int, top: int = 10,
    number_format: str = "bf16", seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """The `top` fastest distinct plans that `num_trial` trials of a tree-structured Parzen estimator found: a trial
    picks a layout, then a value of every axis among what is legal with those before. Raises `InputError` where none
    fits."""
    try:
        import optuna
    except ImportError as error:
        raise InputError("guided search needs optuna", field="guided", value=num_trial) from error
    if num_trial < 1:
        raise InputError("too small", field="guided", value=num_trial, allowed=">= 1")
    spec = models.load(model) if isinstance(model, str) else model
    hw = hardware_vector(catalog.system(system, space.num_device), number_format)
    vector = model_vector(spec, space.seq, stack.dropout)
    known = {f"tp{a} pp{b} dp{c} cp{d}": (a, b, c, d) for a, b, c, d in layouts(spec, space)}

    @functools.lru_cache(maxsize=4)  # rows of a large space fill gigabytes
    def rows(name: str) -> Floats:
        return plan_rows(spec, space, known[name], stack)

    found: dict[tuple[str, int], np.ndarray] = {}

    def objective(trial: "optuna.Trial") -> float:
        name = trial.suggest_categorical("layout", list(known))
        plans = rows(name)
        if not len(plans):
            return 1e9
        left = np.arange(len(plans))
        for column in COLUMNS:  # one axis after the other, among what is still legal
            values = np.unique(plans[left, column])
            if values.size > 1:
                chosen = trial.suggest_float(t.PLAN[column], 0.0, 1.0)
                left = left[plans[left, column] == values[min(int(chosen * values.size), values.size - 1)]]
        place = int(left[0])
        one, seconds, peak = plans[place : place + 1], np.empty(1), np.empty(1)
        score_plans(vector, one, hw, stack.fit, seconds, peak)
        if np.isinf(seconds[0]):
            return 1e6 * float(peak[0] / hw[2])  # the less too large, the better
        found[name, place] = np.concatenate([one[0], seconds, peak])
        return float(seconds[0])

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed)).optimize(objective, n_trials=num_trial)
    if not found:
        raise InputError(f"none of {num_trial} trials fits", field="guided", value=num_trial)
    table = np.array(sorted(found.values(), key=lambda row: float(row[-2]))[:top])
    usd_per_s = catalog.system(system, space.num_device).price_usd_per_h(space.num_device) / 3600
    return frame(table, spec, space, hw, stack, usd_per_s)
