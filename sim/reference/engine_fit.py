"""Fits an engine profile's constants on measured load tests: once for all models, never a model at a time.

    python -m sim.reference.engine_fit ../shared/data/serving/vllm_h100_measured.csv --engine vllm_0.15

The device's time comes from its calibration; what is fitted is the host's that the device does not hide: seconds a
step, a sequence of a step, a step that holds a prompt, and a request before its first step. Each stage that is not
overloaded is served for a short while at its constant rate, after a warm-up in which every prompt has been seen and
before others that keep the load up.
Least squares on the logarithm of mean TTFT and mean end-to-end latency, with a loss that grows only linearly for
the stages that something else has disturbed. A second fit a model leaves that model out; what it is then off by
is the error to expect on a model that nobody has measured.
"""

import argparse
import dataclasses
import datetime
import pathlib
import sys
import textwrap
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from kernels.engine.price import StepPrice
from kernels.units import PS_PER_S, to_ps
from sim.record.write import write_files
from sim.run.setup import Setup
from sim.serving.engine import serve
from sim.serving.engine_profile import EngineProfile, load
from sim.serving.limits import Limits
from sim.serving.plugin import Plugin, find
from workloads.requests import Requests

Floats = npt.NDArray[np.float64]

NAMES: tuple[str, ...] = ("step_s", "seq_s", "prefill_s", "request_s")
START = (1e-4, 1e-6, 1e-3, 6e-3)  # where the search starts, which is also its scale
METRICS: tuple[str, ...] = ("ttft", "e2e", "tpot")
WARM_S, SPAN_S = 12.0, 20.0  # all prompts have come by in the first, and the second is a whole number of rounds or many
COOL_S = 20.0  # others go on coming while those of the span are served: a load that ends speeds its last requests up
DISTURBED = 0.05  # of the logarithm: beyond it the loss grows linearly


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One stage, ready to be served under any host times."""

    run: str
    model: str
    setup: Setup
    price: StepPrice
    policy: Plugin
    limits: Limits
    requests: Requests
    measured: Floats  # [METRICS] seconds


def cases(file: str | pathlib.Path, engine: str, run: tuple[str, ...] = ()) -> list[Case]:
    """The stages of a file that are not overloaded; of the named runs where any are named."""
    from sim.run.setup import prepare
    from sim.run.simulate import limits_of, policy_of
    from sim.serving.limits import max_seq, max_token
    from sim.serving.step_price import build
    from sim.validate.serving import overloaded, read, scenario_of
    from workloads.load import load_requests

    profile = _with(load(engine), np.zeros(len(NAMES)))
    frame = read(pathlib.Path(file))
    found = []
    for name, stages in frame.groupby("run", sort=False):
        if run and name not in run:
            continue
        for _, stage in stages[~overloaded(stages)].iterrows():
            short = stages[stages["stage"] == stage["stage"]].assign(duration_s=WARM_S + SPAN_S + COOL_S)
            scenario = scenario_of(short, engine)
            setup, policy = prepare(scenario), policy_of(scenario)
            limits = limits_of(setup, profile)
            price, _ = build(
                setup.model,
                setup.formats,
                setup.placement,
                setup.machine,
                max_token=max_token(policy, limits),
                max_seq=max_seq(policy),
                skew=setup.expert_skew,
                host=profile.host_time(),
            )
            measured = np.array([stage[f"{metric}_mean_s"] for metric in METRICS], float)
            requests = load_requests(scenario.requests, 0)
            found.append(Case(str(name), str(stage["model"]), setup, price, policy, limits, requests, measured))
    return found


def simulated(case: Case, profile: EngineProfile) -> Floats:
    """`[METRICS]` means in seconds of the requests that arrive in the span between warm-up and end."""
    host_ps = np.array(profile.host_time().vector_ps(case.setup.model.num_layer, 0.0), np.int64)
    price = case.price._replace(host_ps=host_ps)
    request = serve(cast(Any, case.requests), price, case.policy, find("router", "round_robin"), case.limits).request
    came = request["arrival_ps"]
    some = (came >= to_ps(WARM_S)) & (came < to_ps(WARM_S + SPAN_S))
    arrival, first, end = (request[name][some] / PS_PER_S for name in ("arrival_ps", "first_token_ps", "end_ps"))
    ttft, e2e = float(np.mean(first - arrival)), float(np.mean(end - arrival))
    token = float(np.mean(request["output_token"][some]))
    return np.array([ttft + profile.stream_s, e2e + profile.stream_s, (e2e - ttft) / (token - 1)])


def errors(some: list[Case], profile: EngineProfile) -> Floats:
    """Logarithms of simulated over measured, `[case, METRICS]`."""
    return np.array([np.log(simulated(case, profile) / case.measured) for case in some])


def fit(some: list[Case], base: EngineProfile, start: Floats | None = None, max_round: int = 8) -> EngineProfile:
    """`base` with the constants of `NAMES` fitted on these cases."""
    from scipy.optimize import least_squares

    scale = np.array(START)

    def residual(x: Floats) -> Floats:
        return errors(some, _with(base, x * scale))[:, :2].ravel()

    found = least_squares(
        residual,
        np.ones(len(NAMES)) if start is None else start / scale,
        bounds=(0.0, 100.0),
        loss="soft_l1",
        f_scale=DISTURBED,
        diff_step=np.full(len(NAMES), 0.1),
        max_nfev=max_round,
        xtol=1e-4,
    )
    return _with(base, found.x * scale)


def _with(base: EngineProfile, values: Floats) -> EngineProfile:
    found: dict[str, Any] = {name: float(value) for name, value in zip(NAMES, values, strict=True)}
    return dataclasses.replace(base, **found)


def mean_error(logs: Floats) -> dict[str, float]:
    """Mean absolute fraction by metric."""
    return {metric: float(np.abs(np.expm1(logs[:, i])).mean()) for i, metric in enumerate(METRICS)}


def left_out(some: list[Case], fitted: EngineProfile) -> dict[str, float]:
    """Errors on each model's stages with constants fitted on the other models' alone."""
    start = np.array([getattr(fitted, name) for name in NAMES])
    logs = []
    for model in dict.fromkeys(case.model for case in some):
        other = fit([case for case in some if case.model != model], fitted, np.maximum(start, 1e-9), max_round=4)
        logs.append(errors([case for case in some if case.model == model], other))
    return mean_error(np.concatenate(logs))


def write(path: pathlib.Path, profile: EngineProfile) -> None:
    """The profile as TOML, constants to four digits; fields at their defaults are left out."""
    import tomli_w

    usual = {field.name: field.default for field in dataclasses.fields(profile)}
    values = {name: value for name, value in dataclasses.asdict(profile).items() if value != usual[name]}
    values |= {name: float(f"{value:.4g}") for name, value in values.items() if name.endswith(("_s", "_factor"))}
    scheduler = {name: value for name, value in values.pop("scheduler", {}).items() if value}
    memory, limits = values.pop("memory", {}), values.pop("step_limit", ())
    fitted, captured = values.pop("fit", {}), ", ".join(str(size) for size in values.pop("captured", ()))
    sizes = textwrap.fill(captured, 116, initial_indent="  ", subsequent_indent="  ")
    parts = [tomli_w.dumps(values)]
    parts += [f"captured = [\n{sizes},\n]\n"] if captured else []
    parts += [tomli_w.dumps({"scheduler": scheduler})] if scheduler else []
    parts += [tomli_w.dumps({"memory": memory})] if memory else []
    parts += [tomli_w.dumps({"step_limit": list(limits)})] if limits else []
    parts += [tomli_w.dumps({"fit": fitted})] if fitted else []
    write_files({path: "\n".join(parts).encode()})


def main(words: list[str] | None = None) -> int:
    from sim.serving.engine_profile import Fit

    parser = argparse.ArgumentParser(
        prog="python -m sim.reference.engine_fit", description="fit an engine profile on load tests"
    )
    parser.add_argument("file", metavar="FILE", help="CSV of load tests, as `ridgeline validate serving` reads it")
    parser.add_argument("--engine", default="vllm_0.15", help="profile whose other fields are kept")
    parser.add_argument("--out", required=True, metavar="TOML", help="where the fitted profile goes")
    given = parser.parse_args(words)
    some = cases(given.file, given.engine)
    fitted = fit(some, load(given.engine))
    logs = errors(some, fitted)
    for case, log in zip(some, logs, strict=True):
        print(f"{case.run:32s}" + "".join(f"  {m} {np.expm1(v):+.3f}" for m, v in zip(METRICS, log, strict=True)))
    rounded = {
        kind: {metric: round(value, 4) for metric, value in found.items()}
        for kind, found in (("error", mean_error(logs)), ("left_out_error", left_out(some, fitted)))
    }
    print({name: getattr(fitted, name) for name in NAMES}, rounded)
    data = pathlib.Path(given.file).name
    out = f"sim/serving/engines/{given.engine}.toml"
    command = f"python -m sim.reference.engine_fit ../shared/data/serving/{data} --engine {given.engine} --out {out}"
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    done = Fit(data, command, today, len(some), rounded["error"], rounded["left_out_error"])
    source = f"fit of {', '.join(NAMES)} on {len(some)} stages of {data}; stated: plan_ahead, captured (the engine's)"
    write(pathlib.Path(given.out), dataclasses.replace(fitted, source=source, fit=done))
    return 0


if __name__ == "__main__":
    sys.exit(main())
