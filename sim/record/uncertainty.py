"""How sure a result is: kernels resampled within the spread of their residuals, an interval on every metric.

A fitted kernel is off by a factor that its profile tells the spread of (`sigma`, of the logarithm of predicted over
measured time). Errors of one kernel's calls go together, since the same form is wrong in the same way step after
step, so that a replicate draws one factor `exp(sigma z)` a kind and number format and scales all of its times by
it. The draw preserves the **median**: times are fitted on log error, so a fit is the median of what the device
does, half of the replicates are faster and half slower, and the middle of an interval is the plain run. (Preserving
the mean would shift every replicate by `-sigma^2 / 2`, 0.5 % at a spread of 10 %.)
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from hw_models.profile import Kernel, Profile
from kernels.errors import InputError
from kernels.formats import FORMATS, Format
from kernels.machine import Machine
from kernels.optable import KINDS
from sim.serving.slower import scale_slots

RunMachine = Callable[[Machine], Mapping[str, float]]
UNKNOWN_SIGMA = 0.15  # of a kernel whose profile tells no spread, as between two generations of one vendor
COVERAGE = 0.9


def sigma_of(kernel: Kernel) -> float:
    """Spread of one kernel: of the shapes held out where there are any, else of those it was fitted on; of one that
    was inherited from a relative (and measured nowhere) the mean square over its size classes.

    >>> sigma_of(Kernel(kind="gemm", format="bf16", name="k", parameter={}))
    0.15
    """
    for part in (kernel.held_out, kernel.train):
        if part is not None and part.n > 0 and part.sigma > 0:
            return part.sigma
    if kernel.spread:
        return float(np.sqrt(np.mean(np.square(list(kernel.spread.values())))))
    return UNKNOWN_SIGMA


def spreads(profile: Profile) -> dict[tuple[str, str], float]:
    """Sigma by kind and number format, of the default kernels of a profile."""
    return {(k.kind, k.format): sigma_of(k) for k in profile.kernel if k.default}


def resampled(
    machine: Machine, profile: Profile, rng: np.random.Generator, names: Mapping[str, tuple[str, ...]]
) -> Machine:
    """One replicate: every kernel of `machine` faster or slower by a factor of its own.

    `names`: slots of each kind's fit vector (`hw_models.forms.FORMS`). A format priced by a relative's constants moves
    with the relative, and by how unsure that is. Kernels at speed of light (of which the profile says nothing) stay.
    """
    fit = machine.fit.copy()
    factor = {key: float(np.exp(sigma * rng.standard_normal())) for key, sigma in sorted(spreads(profile).items())}
    from hw_models.forms import FORMAT_RELATIVES, UNMEASURED_SIGMA

    other = {name: float(np.exp(UNMEASURED_SIGMA * rng.standard_normal())) for name in sorted(f.name for f in FORMATS)}
    for code, kind in enumerate(KINDS):
        for fmt, form in enumerate(FORMATS):
            line = (form.name, *FORMAT_RELATIVES.get(form.name, ()), "any")
            priced = next((name for name in line if (kind, name) in factor), None)
            if priced is not None:
                own = factor[kind, priced] * (1.0 if _as_wide(priced, form) else other[form.name])
                scale_slots(fit[code, fmt], names[kind], own)
    return machine._replace(fit=fit)


def _as_wide(priced: str, form: Format) -> bool:
    """Whether a kernel of the format `priced` moves and multiplies values of the same widths."""
    same = [other for other in FORMATS if other.name == priced]
    return not same or (same[0].weight_bit, same[0].act_bit) == (form.weight_bit, form.act_bit)


@dataclasses.dataclass(frozen=True)
class Uncertainty:
    """`intervals`: a row a metric with `plain` (no resampling), `low`, `median`, `high` and `relative` (half of the
    interval over the plain value); `replicates`: a row a replicate, a column a metric; `load_state`: how many of the
    replicates are in each state, which near saturation is what the simulator's own error leaves open."""

    intervals: pd.DataFrame
    replicates: pd.DataFrame
    load_state: Mapping[str, int]


def uncertainty(
    run: RunMachine, machine: Machine, profile: Profile, num: int, seed: int = 0, coverage: float = COVERAGE
) -> Uncertainty:
    """Intervals that hold `coverage` of `num` replicates of `run(machine) -> metrics`.

    Deterministic in `seed`; a replicate's draws do not depend on how many there are. Raises `InputError` for fewer
    than two replicates.
    """
    if num < 2:
        raise InputError("too few to tell an interval", field="uncertainty", value=num, allowed="2 or more")
    from hw_models.forms import FORMS

    names = {kind: FORMS[kind].names if kind in FORMS else () for kind in KINDS}
    plain = _numbers(run(machine))
    draws = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(num)]
    found = [run(resampled(machine, profile, rng, names)) for rng in draws]
    rows = [_numbers(one) for one in found]
    states = dict(Counter(str(one["load_state"]) for one in found if "load_state" in one).most_common())
    frame = pd.DataFrame(rows, columns=list(plain))
    edge = (1 - coverage) / 2
    low, middle, high = (frame.quantile(q) for q in (edge, 0.5, 1 - edge))
    intervals = pd.DataFrame({"metric": list(plain), "plain": list(plain.values())})
    for label, column in (("low", low), ("median", middle), ("high", high)):
        intervals[label] = column.reindex(list(plain)).to_numpy(float)
    width = (intervals["high"] - intervals["low"]) / 2
    intervals["relative"] = width / intervals["plain"].abs().where(intervals["plain"] != 0)
    intervals.attrs["load_state"] = states
    return Uncertainty(intervals, frame, states)


def _numbers(metrics: Mapping[str, object]) -> dict[str, float]:
    """The metrics that are numbers."""
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float | np.number) and not isinstance(value, bool)
    }
