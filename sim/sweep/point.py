"""One point of a sweep: a scenario's row, whatever came of it."""

from collections.abc import Mapping
from typing import Any

from kernels.errors import InputError
from sim.run.scenario import from_mapping

SERVED, NOTHING, REFUSED = "served", "nothing served", "refused"  # of a row's `status`


def run_point(key: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a point: `status`, `why` (of a point that is refused, or serves nothing), its devices, whose
    `calibration` it has, a `note` on what had no effect, and the metrics that `sim.record.metrics` defines; no time of
    a clock on a wall.

    Raises `InputError` where what the scenario's files hold is no longer what `key` was made of.
    """
    from sim.run.simulate import simulate
    from sim.sweep.content import Contents

    scenario = from_mapping(fields)
    try:
        done = simulate(scenario)
        if not done.result.complete:
            raise KeyboardInterrupt
        about = done.run.about
        said: dict[str, Any] = {"num_device": int(done.run.totals["num_device"])}
        said |= {"calibration": about["calibration"], "note": "; ".join(about.get("note", ()))}
        row: dict[str, Any] = {"status": SERVED, "why": "", **said, **done.metrics}
        if not done.served:
            request = done.run.request
            why = ", ".join(sorted(set(request.words("reason")) - {""}))
            row |= {"status": NOTHING, "why": why}
    except InputError as error:
        row = {"status": REFUSED, "why": str(error)}
    if Contents().key(scenario) != key:
        raise InputError("a file that it names, or what it holds, is another than when the sweep began: start again",
                         field="scenario", value=key)  # fmt: skip
    return row
