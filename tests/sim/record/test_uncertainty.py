"""Resampled kernels: the median stays, the interval is that of the spread, draws repeat."""

import math

import numpy as np
import pytest

from hw_models import catalog
from hw_models.device import machine
from hw_models.forms import FORMS
from hw_models.profile import ErrorSummary, Kernel, Profile, fit_array
from kernels.errors import InputError
from kernels.formats import FORMAT_CODE
from kernels.machine import Machine
from kernels.optable import ACT, GEMM, KINDS, NORM, empty
from kernels.price import price_table
from sim.record.load_state import OVERLOADED, load_state
from sim.record.uncertainty import resampled, sigma_of, spreads, uncertainty

SIGMA = 0.1
NAMES = {kind: FORMS[kind].names if kind in FORMS else () for kind in KINDS}


def kernel(kind: str, sigma: float, held_out: bool = True) -> Kernel:
    ideal = dict(zip(FORMS[kind].names, FORMS[kind].ideal, strict=True))
    parameter = {name: 1e18 if math.isinf(value) else value for name, value in ideal.items()} | {"launch_s": 1e-6}
    parameter["mem_eff"] = 0.1
    error = ErrorSummary(n=100, mape=sigma, median=sigma, p90=sigma, bias=0.0, sigma=sigma)
    part = {"held_out": error} if held_out else {"train": error}
    return Kernel(kind=kind, format="bf16", name="k", default=True, parameter=parameter, **part)  # type: ignore[arg-type]


PROFILE = Profile(device="d", kernel=(kernel("norm", SIGMA), kernel("act", 3 * SIGMA, held_out=False)))
MACHINE = machine(catalog.system("h100_sxm"))._replace(fit=fit_array(PROFILE))


def norms(arrays: Machine) -> dict[str, float]:
    """Seconds of a norm bound by memory, of an activation, and of a multiply that the profile does not know."""
    ops, work = empty(3)
    ops["kind"], ops["fmt"] = (NORM, ACT, GEMM), FORMAT_CODE["bf16"]
    ops["m"] = ops["n"] = ops["k"] = 1024
    ops["act_byte"] = ops["write_byte"] = 1e9
    time = price_table(ops, work, arrays)["time_ps"] * 1e-12
    return {"norm_s": time[0], "act_s": time[1], "gemm_s": time[2], "name": "not a number"}  # type: ignore[dict-item]


def test_an_interval_is_that_of_the_kernels_spread_around_the_plain_run() -> None:
    found = uncertainty(norms, MACHINE, PROFILE, 400, seed=1).intervals.set_index("metric")
    for metric, sigma in (("norm_s", SIGMA), ("act_s", 3 * SIGMA)):
        row = found.loc[metric]
        # a 90 % interval of a log-normal ends at exp(+-1.645 sigma); a tail quantile of 400 draws is known to
        # sqrt(0.05 x 0.95 / 400) / 0.103 = 0.11 standard deviations, the median to 0.06: four of each are allowed
        assert math.log(row["high"] / row["plain"]) == pytest.approx(1.645 * sigma, abs=0.44 * sigma)
        assert math.log(row["low"] / row["plain"]) == pytest.approx(-1.645 * sigma, abs=0.44 * sigma)
        assert math.log(row["median"] / row["plain"]) == pytest.approx(0.0, abs=0.25 * sigma)
    assert found.loc["gemm_s", "relative"] == 0.0  # speed of light has no spread
    assert "name" not in found.index


def test_draws_repeat_and_do_not_depend_on_their_number() -> None:
    many = uncertainty(norms, MACHINE, PROFILE, 6, seed=3).replicates
    assert uncertainty(norms, MACHINE, PROFILE, 6, seed=3).replicates.equals(many)
    assert uncertainty(norms, MACHINE, PROFILE, 3, seed=3).replicates.equals(many.iloc[:3])
    assert not uncertainty(norms, MACHINE, PROFILE, 6, seed=4).replicates.equals(many)


def test_one_factor_scales_all_of_a_kernels_time() -> None:
    drawn = resampled(MACHINE, PROFILE, np.random.default_rng(0), NAMES)
    slot = {name: index for index, name in enumerate(FORMS["norm"].names)}
    here, plain = drawn.fit[NORM, FORMAT_CODE["bf16"]], MACHINE.fit[NORM, FORMAT_CODE["bf16"]]
    factor = here[slot["launch_s"]] / plain[slot["launch_s"]]
    assert factor != 1.0
    assert plain[slot["mem_eff"]] / here[slot["mem_eff"]] == pytest.approx(factor)
    assert here[slot["p"]] == plain[slot["p"]]  # a shape, not a time
    fp16 = drawn.fit[NORM, FORMAT_CODE["fp16"]]
    assert (fp16 == here).all()  # priced by the constants of bf16, so off by the same factor
    assert (drawn.fit[GEMM] == MACHINE.fit[GEMM]).all()
    assert (MACHINE.fit == fit_array(PROFILE)).all()  # the plain machine is left alone


def test_the_spread_is_of_shapes_held_out_where_there_are_any() -> None:
    assert spreads(PROFILE) == {("norm", "bf16"): SIGMA, ("act", "bf16"): 3 * SIGMA}
    both = kernel("norm", SIGMA).model_copy(update={"train": summary(0.02)})
    assert sigma_of(both) == SIGMA


def summary(sigma: float) -> ErrorSummary:
    return ErrorSummary(n=5, mape=0.0, median=0.0, p90=0.0, bias=0.0, sigma=sigma)


def test_one_replicate_is_no_interval() -> None:
    with pytest.raises(InputError, match="2 or more"):
        uncertainty(norms, MACHINE, PROFILE, 1)


def test_an_inherited_kernel_is_less_sure_than_its_relatives() -> None:
    from hw_models.device import calibration

    own, _ = calibration(catalog.device("h100_sxm"))
    heir, relative = calibration(catalog.device("mi300x"))  # another vendor's: 0.25 of the logarithm is added
    assert relative != "mi300x"
    sure, unsure = (found.find("gemm", "bf16") for found in (own, heir))
    assert sure is not None
    assert unsure is not None
    assert sigma_of(sure) < 0.15
    assert sigma_of(unsure) > 0.25


@pytest.mark.parametrize("system", ["l40s", "h200"], ids=["fitted on probes", "inherited"])
def test_every_metric_of_a_run_has_an_interval_that_repeats(system: str) -> None:
    from sim.run.scenario import Scenario
    from sim.run.simulate import simulate, simulate_intervals

    scenario = Scenario(model="llama-3.2-1b", system=system, requests="poisson:rate=4,n=6,prompt=200,output=8")
    found = simulate_intervals(scenario, 3)
    assert found.equals(simulate_intervals(scenario, 3))
    metrics = simulate(scenario).metrics
    numbers = {
        name for name, value in metrics.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }
    assert set(found["metric"]) == numbers
    rows = found.set_index("metric")
    for name in ("mean_ttft_ms", "mean_tpot_ms"):
        assert rows.loc[name, "low"] < rows.loc[name, "high"]
        assert rows.loc[name, "plain"] == metrics[name]


def test_near_saturation_the_verdict_is_as_unsure_as_the_kernels() -> None:
    """A server that keeps up just so: overloaded (a queue that grows by 2 % of what arrives) where the draw of its one
    kernel is above 2 %, which is P(z > 0.2) = 0.42 of draws at a spread of 10 %."""
    plain = norms(MACHINE)["norm_s"]
    arrival = np.arange(1000.0)

    def states(use: float) -> dict[str, int]:
        def run(arrays: Machine) -> dict[str, object]:
            service = use * norms(arrays)["norm_s"] / plain
            first = np.maximum.accumulate(arrival - service * np.arange(1000)) + service * np.arange(1, 1001)
            return {"load_state": load_state(arrival, first).state}

        return dict(uncertainty(run, MACHINE, PROFILE, 200, seed=2).load_state)  # type: ignore[arg-type]

    assert states(0.5) == {"stable": 200}
    assert states(2.0) == {OVERLOADED: 200}
    assert 0.32 < states(1.0)[OVERLOADED] / 200 < 0.52
