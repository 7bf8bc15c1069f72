"""Figures of a finished simulation by name, returned and not shown."""

from typing import TYPE_CHECKING

from kernels.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sim.run.simulate import Simulation

KINDS = ("latency", "load", "roofline")


def figure(done: "Simulation", kind: str) -> "Figure":
    """One of `KINDS`; an `InputError` for another, and where no request was served that it could show."""
    if kind not in KINDS:
        raise InputError("no such figure", field="kind", value=kind, allowed=KINDS)
    try:
        from sim.show import plots
    except ImportError:
        raise InputError("figures need the extra: pip install 'ridgeline[plot]'", field="kind", value=kind) from None
    title = done.setup.title
    if kind == "load":
        return plots.load_over_time(done.run, f"Load: {title}")
    if not done.served:
        raise InputError("no request was served", field="kind", value=kind, allowed="load")
    if kind == "latency":
        return plots.latency_cdf(done.run, f"Latency: {title}")
    from sim.run.results import roofline_figure

    return roofline_figure(done)
