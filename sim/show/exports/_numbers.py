"""What several formats need: finished requests, latencies and their statistics."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kernels.errors import NothingServedError

if TYPE_CHECKING:
    from sim.record.columns import Columns
    from sim.run.simulate import Simulation

Floats = npt.NDArray[np.float64]


def served(done: "Simulation") -> "Columns":
    """The requests that finished; a run without one has nothing to export."""
    if not done.served:
        raise NothingServedError("no request was served, so that there is nothing to export", field="export")
    return done.run.request.rows(done.run.request.equal("status", "finished"))


def quantiles(values: Floats, percents: Sequence[float], names: Sequence[str]) -> dict[str, float]:
    """Percentiles (linear, as numpy and vLLM's benchmark have it) under these names."""
    return dict(zip(names, np.percentile(values, list(percents)).tolist(), strict=True))


def num_device(done: "Simulation") -> int:
    """Devices of all replicas."""
    return int(done.run.totals["num_device"])


def config(done: "Simulation") -> Mapping[str, Any]:
    """The scenario as a mapping."""
    found = done.run.about["config"]
    assert isinstance(found, Mapping)
    return found
