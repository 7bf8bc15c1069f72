"""Guided search over plans with Optuna, for spaces too large to try whole."""

import functools

import numpy as np
import pandas as pd

from hw_models import catalog
from kernels.errors import InputError
from kernels.train_closed import score_plans
from kernels.train_plan import Records
from sim.run.stop import keeping
from sim.training.price import site
from sim.training.search import PriceBook, frame
from sim.training.space import Space, layouts, plan_rows
from sim.training.stack import TrainStack
from workloads import models
from workloads.models.spec import ModelSpec

COLUMNS = (  # axes in the order in which they are chosen: those that leave least first
    "schedule", "num_chunk", "micro_batch", "ep", "recompute", "zero", "sequence_parallel", "grad_byte",
    "optimizer_byte", "tp_overlap", "dp_scheduled", "keep_gathered", "fused_norm", "act_offload", "weight_offload",
    "optimizer_offload", "whole_hop",
)  # fmt: skip


def guided_search(
    model: str | ModelSpec, system: str, space: Space, stack: TrainStack, *, num_trial: int, top: int = 10,
    number_format: str = "bf16", seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """The `top` fastest distinct plans that `num_trial` trials of a tree-structured Parzen estimator found: a trial
    picks a layout, then a value of every axis among what is legal with those before. Ctrl-C leaves what was found until
    then, with `attrs["complete"]` False. Raises `InputError` where none fits."""
    try:
        import optuna
    except ImportError as error:
        raise InputError("guided search needs optuna", field="guided", value=num_trial) from error
    if num_trial < 1:
        raise InputError("too small", field="guided", value=num_trial, allowed=">= 1")
    spec = models.load(model) if isinstance(model, str) else model
    where = site(catalog.system(system, space.num_device), stack, precision=number_format)
    book = PriceBook(spec, space, stack)
    known = {f"tp{a} pp{b} dp{c} cp{d}": (a, b, c, d) for a, b, c, d in layouts(spec, space)}

    @functools.lru_cache(maxsize=4)  # rows of a large space fill gigabytes
    def rows(name: str) -> Records:
        return plan_rows(spec, space, known[name], stack)

    found: dict[tuple[str, int], tuple[float, float, Records]] = {}

    def objective(trial: "optuna.Trial") -> float:
        name = trial.suggest_categorical("layout", list(known))
        plans = rows(name)
        if not len(plans):
            return 1e9
        left = np.arange(len(plans))
        for column in COLUMNS:  # one axis after the other, among what is still legal
            values = np.unique(plans[column][left])
            if values.size > 1:
                chosen = trial.suggest_float(column, 0.0, 1.0)
                left = left[plans[column][left] == values[min(int(chosen * values.size), values.size - 1)]]
        place = int(left[0])
        one, seconds, peak = plans[place : place + 1], np.empty(1), np.empty(1)
        score_plans(one, book.price(one, where), where.stack, where.machine, seconds, peak)
        if np.isinf(seconds[0]):
            return 1e6 * float(peak[0] / where.stack["mem_byte"])  # the less too large, the better
        found[name, place] = float(seconds[0]), float(peak[0]), one[0].copy()
        return float(seconds[0])

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with keeping(found) as work:
        optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed)).optimize(objective, n_trials=num_trial)
    if not found:
        raise InputError(f"none of {num_trial} trials fits", field="guided", value=num_trial)
    best = sorted(found.values(), key=lambda entry: entry[0])[:top]
    plans, values = np.array([entry[2] for entry in best]), np.array([entry[:2] for entry in best])
    fastest = frame(plans, values, spec, space, where, stack)
    fastest.attrs["complete"] = work.complete
    return fastest
