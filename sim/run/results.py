"""The files of a finished simulation: metrics, tables, plots and a timeline, written whole or not at all."""

import pathlib
from typing import TYPE_CHECKING

from sim.record.export import benchmark_json, figure_bytes, run_files, write_json
from sim.record.provenance import canonical
from sim.record.write import write_files
from sim.run.ffn_part import one_machine
from sim.run.simulate import Simulation

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def metrics_file(done: Simulation, path: str | pathlib.Path, intervals: "pd.DataFrame | None" = None) -> None:
    """The metrics as vLLM's benchmark saves them, with the provenance (and the `intervals`) under `ridgeline`."""
    content = benchmark_json(done.run, done.metrics, details=True)
    if intervals is not None:
        states = {"load_state_resampled": intervals.attrs.get("load_state", {})}
        content["ridgeline"] = content["ridgeline"] | {"intervals": canonical(intervals.to_dict("records"))} | states
    write_json(content, path)


def write_results(done: Simulation, folder: pathlib.Path, form: str = "csv", plots: bool = True) -> list[pathlib.Path]:
    """Everything a run leaves in `folder`; returns the files. Plots need the extra `plot`."""
    from sim.show.trace_events import events, fitting_stop_s, trace_bytes

    files = run_files(done.run, done.metrics, folder, form=form)
    files[folder / "timeline.json"] = trace_bytes(events(done.run, stop_s=fitting_stop_s(done.run)), done.run.about)
    if plots:
        files |= {folder / name: content for name, content in _figures(done).items()}
    return write_files(files)


def _figures(done: Simulation) -> dict[str, bytes]:
    kinds = ["load", "latency", "roofline"] if done.served else ["load"]  # there are latencies, and a typical step
    if done.setup.ffn is not None:  # whose roofs?
        kinds = [kind for kind in kinds if kind != "roofline"]
    return {f"{kind}.png": figure_bytes(done.plot(kind), done.run.about) for kind in kinds}


def roofline_figure(done: Simulation) -> "Figure":
    """The operators of a mean prefill and a mean decode step of this run under its device's roofs."""
    from sim.show.roofline import draw

    return draw(*roofline_frames(done), done.setup.scenario)


def roofline_frames(done: Simulation) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """The frames of `sim.show.roofline.roofline` for a mean prefill and a mean decode step of this run. Raises
    `InputError` where its layers are on two machines."""
    import pandas as pd

    from sim.show.roofline import operators, roofs, typical_plans

    one_machine(done.setup.scenario, "a roofline is of")
    requests, tpot_ms = done.run.requests, done.metrics["mean_tpot_ms"] or 0.0
    batch = max(1, round(done.metrics["output_throughput"] * tpot_ms / 1e3 / done.setup.placement.dp))
    context = max(1, int((requests["prompt_token"] + requests["committed_token"] / 2).mean()))
    plans = typical_plans(batch, context, max(1, int(requests["prompt_token"].mean())))
    points = pd.concat([operators(done.setup, phase, plan) for phase, plan in plans.items()], ignore_index=True)
    return points, roofs(done.setup)
