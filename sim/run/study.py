"""What `ridgeline study` does, as a function: run a study, print its table, write and draw it."""

import importlib
import pathlib

from kernels.errors import InputError
from sim.record.export import write_json


def execute(module: str, plot: str | None, json: str | None) -> str:
    """Run the study `module` (as `studies.zero_bubble`); returns its table as text."""
    study = importlib.import_module(module)
    if plot and pathlib.Path(plot).suffix not in (".svg", ".png", ".pdf"):
        raise InputError("unknown picture format", field="plot", value=plot, allowed=[".svg", ".png", ".pdf"])
    table = study.run()
    if json:
        write_json({"rows": table}, json)
    if plot:
        import matplotlib as mpl

        mpl.use("Agg")
        study.plot(table).savefig(plot, dpi=150)
    return f"{study.CLAIM}\n{table.to_string(index=False, float_format=lambda value: f'{value:.4g}')}"


def stages(module: str, trace: str, model: str, plot: str | None, json: str | None) -> str:
    """Stage cycles of a trace file for a model, by a study that has `stage_table`; as text."""
    if plot:
        raise InputError("a table of stages has no picture", field="plot", value=plot)
    table = importlib.import_module(module).stage_table(pathlib.Path(trace), model)
    if json:
        write_json({"rows": table}, json)
    return str(table.to_string(index=False))


def step(module: str, model: str, size: dict[str, int], plot: str | None, json: str | None) -> str:
    """One decode step of a model on each machine of a study that has `step_table`; as text."""
    if plot:
        raise InputError("a table of one step has no picture", field="plot", value=plot)
    for name, value in size.items():
        if not 1 <= value <= 1_000_000:
            raise InputError("out of range", field=name, value=value, allowed="1 to 1000000")
    table = importlib.import_module(module).step_table(model, size["batch"], size["input"], size["devices"])
    if json:
        write_json({"rows": table}, json)
    return str(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
