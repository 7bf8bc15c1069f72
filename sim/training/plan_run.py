"""What `ridgeline plan` does, as a function."""

import pandas as pd

from hw_models import catalog
from kernels.errors import InputError
from sim.record.export import write_json
from sim.training.search import batch_tradeoff, exhaustive, replay_best, search_sizes
from sim.training.space import axes_table, named_space
from sim.training.stack import default_stack, load_stack
from workloads import models

MIN_STEP = 10_000.0  # steps to the target at endless batch, where none is given
ALWAYS = ("tp", "pp", "dp", "schedule", "micro_batch", "step_s", "peak_byte", "mfu", "step_usd", "replayed_s")


def _sizes(text: str, field: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise InputError("whole numbers above 0 with commas between", field=field, value=text)
    return [int(part) for part in parts]


def execute(
    model: str, system: str, gpus: str, batch: str, space: str, seq: int, cp: str, max_tp: int, format: str,
    stack: str | None, top: int, guided: int | None, critical_batch: float | None, min_steps: float | None,
    json: str | None,
) -> tuple[str, bool]:  # fmt: skip
    """Search and return the text, and whether all of it was done (Ctrl-C leaves what was found until then); several
    sizes or a critical batch compare the best plan of each."""
    for field, value in (("top", top), ("seq", seq), ("max_tp", max_tp)):
        if value < 1:
            raise InputError("too small", field=field, value=value, allowed=">= 1")
    if critical_batch is None and min_steps is not None:
        raise InputError("has no effect: needs --critical-batch", field="min_steps", value=min_steps)
    if critical_batch is not None and guided is not None:
        raise InputError("--critical-batch tries every plan", field="guided", value=guided, allowed="one of the two")
    devices, batches = _sizes(gpus, "gpus"), _sizes(batch, "batch")
    spaces = [
        named_space(space, device, size, seq=seq, max_tp=max_tp, cps=tuple(_sizes(cp, "cp")))
        for device in devices
        for size in batches
    ]
    if critical_batch is not None:
        min_step = MIN_STEP if min_steps is None else min_steps
        table = batch_tradeoff(model, system, spaces, critical_batch=critical_batch, min_step=min_step, stack=stack,
                               number_format=format)  # fmt: skip
        complete = bool(table.attrs["complete"])
        if json:
            write_json({"tradeoff": table} | _mark(complete), json)
        return _text(table), complete
    if len(batches) > 1:
        raise InputError("several batches are compared by --critical-batch", field="batch", value=batch)
    constants = load_stack(stack or default_stack(catalog.system(system, devices[0]).device.name))
    if len(devices) > 1:
        best, front, count = search_sizes(model, system, spaces, stack=constants, top=top, number_format=format)
        complete = bool(best.attrs["complete"])
        if json:
            write_json({"count": count, "best": best, "front": front} | _mark(complete), json)
        return "\n".join(
            [_count(count), "fastest:", _text(best), "Pareto front of step time, memory and cost:", _text(front)]
        ), complete
    (only,) = spaces
    if guided is not None:
        from sim.training.guided import guided_search

        best = guided_search(model, system, only, constants, num_trial=guided, top=top, number_format=format)
        front, count = best.iloc[:0], {"plan": guided, "fit": len(best)}
    else:
        best, front, count = exhaustive(model, system, only, stack=constants, top=top, number_format=format)
    complete, how = bool(best.attrs["complete"]), "fastest, in closed form:"
    if complete:
        try:
            best = replay_best(best, model, system, only, constants, format)
            complete, how = bool(best.attrs["complete"]), "fastest, replayed exactly:"
        except KeyboardInterrupt:  # in the first replay: the closed forms are what there is
            complete = False
    if json:
        axes = axes_table(models.load(model), only)
        write_json({"count": count, "axes": axes, "best": best, "front": front} | _mark(complete), json)
    lines = [_count(count), how, _text(best)]
    if len(front):
        lines += ["Pareto front of step time and memory (and, of one size, cost):", _text(front)]
    return "\n".join(lines), complete


def _mark(complete: bool) -> dict[str, bool]:
    return {} if complete else {"complete": False}


def _count(count: dict[str, int]) -> str:
    return f"{count['plan']} plans tried, {count['fit']} fit"


def _text(table: pd.DataFrame) -> str:
    shown = table.loc[:, [name for name in table.columns if name in ALWAYS or table[name].nunique() > 1]].copy()
    for name in [name for name in shown.columns if name.endswith("peak_byte")]:
        shown[name.replace("_byte", "_GiB")] = shown.pop(name) / 2**30
    return shown.to_string(index=False, float_format=lambda value: f"{value:.4g}")
