"""Search over plans: every plan of a space in closed form, memory first; the best ones replayed exactly."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hw_models import catalog
from hw_models.spec import System
from kernels.errors import InputError
from kernels.train_closed import score_plans
from kernels.train_plan import Floats, Records
from sim.run.stop import keeping
from sim.training.critical_batch import StepCurve
from sim.training.price import Site, pieces, site
from sim.training.space import AXES, Space, layouts, plan_rows, to_plan
from sim.training.stack import TrainStack, default_stack, load_stack
from sim.training.step import train
from workloads import models
from workloads.models.spec import ModelSpec
from workloads.training import TrainPlan
from workloads.training_flop import model_flop

ENERGY = ("wall_j_per_token", "node_w")  # of what `sim.training.step.train` says, beside each replayed plan


def exhaustive(
    model: str | ModelSpec, system: str | System, space: Space, *, stack: str | TrainStack | None = None, top: int = 10,
    number_format: str = "bf16",
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:  # fmt: skip
    """(the `top` fastest plans that fit, the Pareto front of step time and memory, counts of plans tried and fitting).

    Ctrl-C ends the search: of the layouts tried until then, with `attrs["complete"]` of the first frame False. Raises
    `InputError` where nothing fits.
    """
    spec = models.load(model) if isinstance(model, str) else model
    machine = catalog.system(system, space.num_device) if isinstance(system, str) else system
    chosen = known_stack(stack, machine)
    where, book = site(machine, chosen, precision=number_format), PriceBook(spec, space, chosen)
    kept: list[tuple[Records, Floats, int, int]] = []  # the fastest and the front of each layout, and counts
    with keeping(kept) as work:
        for layout in layouts(spec, space):
            rows = plan_rows(spec, space, layout, chosen)
            if not len(rows):
                continue
            seconds, peak = np.empty(len(rows)), np.empty(len(rows))
            table = book.price(rows, where)
            num_fit = score_plans(rows, table, where.stack, where.machine, seconds, peak)
            best = np.argsort(seconds, kind="stable")[:top]
            found = np.union1d(best[np.isfinite(seconds[best])], pareto(seconds, peak))
            kept.append((rows[found], np.column_stack([seconds[found], peak[found]]), len(rows), num_fit))
    count = {"plan": sum(part[2] for part in kept), "fit": sum(part[3] for part in kept)}
    if not count["plan"]:
        raise InputError("no layout: tp divides the heads, dp the batch, cp the sequence", field="num_device",
                         value=space.num_device)  # fmt: skip
    plans, values = np.concatenate([part[0] for part in kept]), np.concatenate([part[1] for part in kept])
    if not len(plans):
        if not work.complete:
            raise KeyboardInterrupt
        raise InputError(f"none of {count['plan']} plans fits in {where.stack['mem_byte'] / 2**30:.1f} GiB",
                         field="num_device", value=space.num_device)  # fmt: skip
    seconds, peak = values.T
    fastest = np.argsort(seconds, kind="stable")[:top]
    fast, front = (
        frame(plans[index], values[index], spec, space, where, chosen) for index in (fastest, pareto(seconds, peak))
    )
    fast.attrs["complete"] = work.complete
    return fast, front, count


def known_stack(stack: str | TrainStack | None, machine: System) -> TrainStack:
    """A stack by its name, or today's on a machine."""
    if isinstance(stack, TrainStack):
        return stack
    return load_stack(stack or default_stack(machine.device.name))


class PriceBook:
    """Prices of the distinct layer shapes of a space: each is lowered and priced once, every plan looks its own up."""

    KEY = ("tp", "cp", "ep", "micro_batch", "sequence_parallel", "recompute", "fused_norm", "grad_byte")

    def __init__(self, model: ModelSpec, space: Space, stack: TrainStack) -> None:
        self.model, self.space, self.stack = model, space, stack
        self.known: dict[tuple[float, ...], int] = {}
        self.table: list[Records] = []

    def price(self, rows: Records, where: Site) -> Records:
        """Sets `piece` of every row; returns `[distinct, 3]` of LAYER_DTYPE, all priced so far."""
        code = rows["piece"].astype(np.int64)
        first = np.full(int(code.max()) + 1, -1)
        first[code[::-1]] = np.arange(len(rows))[::-1]  # the first row of every shape
        place, new = np.zeros(len(first), np.int64), []
        for shape in np.flatnonzero(first >= 0).tolist():
            row = rows[first[shape]]
            key = (
                *(float(row[name]) for name in self.KEY),
                float(row["zero"] >= 2),
                float(row["dp"] * (row["ep"] > 1)),
            )
            if key not in self.known:
                self.known[key] = len(self.known)
                new.append(to_plan(row, self.space, self.stack))
            place[shape] = self.known[key]
        if new:
            self.table.append(pieces(self.model, new, where))
        rows["piece"] = place[code]
        return np.concatenate(self.table)


def search_sizes(
    model: str | ModelSpec, system: str, spaces: Sequence[Space], *, stack: str | TrainStack | None = None,
    top: int = 10, number_format: str = "bf16",
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:  # fmt: skip
    """As `exhaustive` over several spaces: the fastest of all, and the Pareto front of step time, memory and cost.

    Plans of one number of devices cost by their time alone; between numbers of devices time and cost part. Sizes where
    nothing fits are left out; raises `InputError` where none of them does. Ctrl-C as in `exhaustive`.
    """
    fast: list[pd.DataFrame] = []
    fronts, count = [], {"plan": 0, "fit": 0}
    refused: InputError | None = None
    with keeping(fast) as work:
        for space in spaces:
            try:
                best, front, tried = exhaustive(model, system, space, stack=stack, top=top, number_format=number_format)
            except InputError as error:
                refused = error
                continue
            fronts.append(front)
            count = {key: count[key] + tried[key] for key in count}
            fast.append(best)
            if not best.attrs["complete"]:
                raise KeyboardInterrupt
    if not fast:
        raise refused or InputError("no size to search", field="spaces", value=0)
    front = pd.concat(fronts, ignore_index=True)
    kept = front[undominated(front[["step_s", "peak_byte", "step_usd"]].to_numpy())]
    best = pd.concat(fast).sort_values("step_s", kind="stable").head(top).reset_index(drop=True)
    best.attrs = {"complete": work.complete}
    return best, kept.sort_values("step_s", ignore_index=True), count


def pareto(seconds: Floats, peak: Floats) -> Any:
    """Indices of what nothing beats in both, by rising time; infinite times never.

    >>> pareto(np.array([1.0, 2.0, 3.0]), np.array([5.0, 6.0, 4.0])).tolist()
    [0, 2]
    """
    order = np.lexsort((peak, seconds))
    order = order[np.isfinite(seconds[order])]
    least = np.minimum.accumulate(peak[order])
    better = np.ones(len(order), bool)
    better[1:] = peak[order][1:] < least[:-1]
    return order[better]


def undominated(values: Floats) -> npt.NDArray[np.bool_]:
    """Rows that no other row beats or equals in every column and beats in one.

    >>> undominated(np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 4.0], [2.0, 1.0, 4.0]])).tolist()
    [True, False, True]
    """
    out = np.ones(len(values), bool)
    for i, row in enumerate(values):
        out[i] = not ((values <= row).all(axis=1) & (values < row).any(axis=1)).any()
    return out


def frame(
    rows: Records, values: Floats, model: ModelSpec, space: Space, where: Site, stack: TrainStack
) -> pd.DataFrame:
    """Plans as rows: their layout and what was chosen, step time, MFU, peak memory, cost of a step. `values` are
    `[n, 2]` seconds and bytes."""
    usd_per_s = where.system.price_usd_per_h(space.num_device) / 3600
    records = []
    for row, (step_s, peak) in zip(rows, values, strict=True):
        plan = to_plan(row, space, stack)
        chosen = {name: getattr(plan, name) for name in ("tp", "pp", "dp", "cp", *AXES)}
        records.append({
            "num_device": space.num_device, **chosen, "step_s": step_s, "peak_byte": peak,
            "mfu": model_flop(model, plan) / (step_s * space.num_device * where.peak_flop_per_s),
            "step_usd": step_s * usd_per_s,
        })  # fmt: skip
    return pd.DataFrame(records)


def replay_best(
    best: pd.DataFrame,
    model: str | ModelSpec,
    system: str | System,
    space: Space,
    stack: TrainStack,
    number_format: str,
) -> pd.DataFrame:
    """Exact step time and memory of each row of `best` beside the closed form; what fits first, then by exact time.
    Ctrl-C leaves the rows replayed until then, with `attrs["complete"]` False."""
    records: list[dict[Any, Any]] = []
    with keeping(records) as work:
        for record in best.to_dict("records"):
            chosen = {str(key): record[key] for key in ("tp", "pp", "dp", "cp", *AXES)}
            usual = {name: value for name, value in stack.usual().items() if name not in chosen}
            if chosen["ep"] == 1:
                usual["ep_overlap"] = 0.0
            plan = TrainPlan(**usual, **chosen, batch=space.batch, seq=space.seq)
            summary = train(model, system, plan, stack=stack, number_format=number_format).summary
            records.append(record | {"replayed_s": summary["step_s"], "replayed_peak_byte": summary["mem_total_byte"],
                                     "bubble_rate": summary["bubble_rate"], "fits": summary["fits"],
                                     **{name: summary[name] for name in ENERGY}})  # fmt: skip
    replayed = pd.DataFrame(records).sort_values(["fits", "replayed_s"], ascending=[False, True], ignore_index=True)
    replayed.attrs["complete"] = work.complete
    return replayed


def batch_tradeoff(
    model: str | ModelSpec, system: str, spaces: Sequence[Space], *, steps: StepCurve, stack: str | None = None,
    number_format: str = "bf16",
) -> pd.DataFrame:  # fmt: skip
    """The best plan of each space judged by time and cost to a target loss, not by throughput.

    `steps` says how many steps a batch takes (`sim.training.critical_batch`): with a critical batch size a larger batch
    saves steps below it, above it only tokens are spent. Ctrl-C leaves the spaces searched until then, with
    `attrs["complete"]` False.
    """
    records: list[dict[Any, Any]] = []
    with keeping(records) as work:
        for space in spaces:
            best, _, _ = exhaustive(model, system, space, stack=stack, top=1, number_format=number_format)
            if not best.attrs["complete"]:
                raise KeyboardInterrupt
            step_s = float(best["step_s"].iloc[0])
            num_step = steps.at(space.batch)
            machine = catalog.system(system, space.num_device)
            hours = num_step * step_s / 3600
            records.append({
                "batch": space.batch, **best.iloc[0].to_dict(), "num_step": num_step,
                "target_h": hours, "target_usd": hours * machine.price_usd_per_h(space.num_device),
                "token": num_step * space.batch * space.seq,
            })  # fmt: skip
    out = pd.DataFrame(records)
    out.attrs["complete"] = work.complete
    out["pareto"] = np.isin(np.arange(len(out)), pareto(out["target_h"].to_numpy(), out["target_usd"].to_numpy()))
    return out
