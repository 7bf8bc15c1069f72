"""What `ridgeline plan` does, as a function."""

from typing import Any

import pandas as pd

from hw_models import catalog
from kernels.digits import MOST, whole
from kernels.errors import InputError
from sim.record.export import write_json
from sim.show.tables import table as text_table
from sim.training.critical_batch import Hyperbola, StepCurve, read_steps
from sim.training.job import SOFTWARE
from sim.training.search import ENERGY, batch_tradeoff, exhaustive, replay_best, search_sizes
from sim.training.space import axes_table, named_space
from sim.training.stack import default_stack, load_stack
from workloads import jobs, models
from workloads.models.spec import ModelSpec
from workloads.training import MOST_SIZE

SEQ = 2048  # tokens of a sequence, where nobody says
MIN_STEP = 10_000.0  # steps to the target at endless batch, where none is given
ALWAYS = ("tp", "pp", "dp", "schedule", "micro_batch", "step_s", "peak_byte", "mfu", "step_usd", "replayed_s", *ENERGY)


def _sizes(text: str, field: str, most: int = MOST) -> list[int]:
    found = [whole(part, most) for part in text.split(",")]
    sizes = [number for number in found if number]
    if len(sizes) < len(found):
        raise InputError(
            "not whole numbers with commas between", field=field, value=text[:80], allowed=f"1 to {most} each"
        )
    return sizes


def job_workload(job: str, gpus: str | None, set_aside: str) -> dict[str, Any]:
    """Model, batch, sequence, format and devices of a job's own file, as `execute` takes them; its stack too."""
    world = whole(gpus or "") or 0
    found = jobs.read(job, num_device=world, set_aside=[name for name in set_aside.split(",") if name])
    return {"model": found.model or found.model_name or None, "batch": str(found.plan["batch"]),
            "seq": found.plan.get("seq"), "format": found.precision, "gpus": gpus or str(found.num_device),
            "stack": SOFTWARE.get(found.software)}  # fmt: skip


def execute(
    system: str, space: str, cp: str, max_tp: int, top: int, *, model: str | ModelSpec | None = None,
    gpus: str | None = None, batch: str | None = None, seq: int | None = None, format: str | None = None,
    stack: str | None = None, job: str | None = None, set_aside: str = "", guided: int | None = None,
    critical_batch: float | None = None, min_steps: float | None = None, steps: str | None = None,
    json: str | None = None,
) -> tuple[str, bool]:  # fmt: skip
    """Search and return the text, and whether all of it was done (Ctrl-C leaves what was found until then); several
    sizes or a critical batch compare the best plan of each. A job's own file
    (`job`) gives the model and the batch, what is given beside it overrides it."""
    given: dict[str, Any] = {
        "model": model, "gpus": gpus, "batch": batch, "seq": seq, "format": format, "stack": stack,
    }  # fmt: skip
    if job is not None:
        given = job_workload(job, gpus, set_aside) | {name: value for name, value in given.items() if value is not None}
    elif set_aside:
        raise InputError("goes with --from", field="set_aside", value=set_aside)
    for name in ("model", "gpus", "batch"):
        if given[name] is None:
            raise InputError("is missing", field=name, value=None)
    return _execute(
        given["model"], system, given["gpus"], given["batch"], space, SEQ if given["seq"] is None else given["seq"],
        cp, max_tp,
        given["format"] or "bf16", given["stack"], top, guided, critical_batch, min_steps, json, steps,
    )  # fmt: skip


def _execute(
    model: str | ModelSpec, system: str, gpus: str, batch: str, space: str, seq: int, cp: str, max_tp: int, format: str,
    stack: str | None, top: int, guided: int | None, critical_batch: float | None, min_steps: float | None,
    json: str | None, steps: str | None = None,
) -> tuple[str, bool]:  # fmt: skip
    for field, value, most in (("top", top, MOST), ("seq", seq, MOST_SIZE["seq"]), ("max_tp", max_tp, MOST)):
        if not 1 <= value <= most:
            raise InputError("out of range", field=field, value=value, allowed=f"1 to {most}")
    if critical_batch is None and min_steps is not None:
        raise InputError("has no effect: needs --critical-batch", field="min_steps", value=min_steps)
    if critical_batch is not None and guided is not None:
        raise InputError("--critical-batch tries every plan", field="guided", value=guided, allowed="one of the two")
    if steps is not None and (critical_batch is not None or guided is not None):
        raise InputError("stands alone: no critical batch, no guided search", field="steps", value=steps)
    devices, batches = _sizes(gpus, "gpus"), _sizes(batch, "batch", MOST_SIZE["batch"])
    spaces = [
        named_space(space, device, size, seq=seq, max_tp=max_tp, cps=tuple(_sizes(cp, "cp")))
        for device in devices
        for size in batches
    ]
    if critical_batch is not None or steps is not None:
        curve: StepCurve = read_steps(steps) if steps else Hyperbola(min_steps or MIN_STEP, critical_batch or 0.0)
        table = batch_tradeoff(model, system, spaces, steps=curve, stack=stack, number_format=format)
        complete = bool(table.attrs["complete"])
        if json:
            write_json({"tradeoff": table} | _mark(complete), json)
        return _text(table), complete
    if len(batches) > 1:
        raise InputError("several batches are compared by --critical-batch or --steps", field="batch", value=batch)
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
        axes = axes_table(models.load(model) if isinstance(model, str) else model, only)
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
    return text_table(shown)
