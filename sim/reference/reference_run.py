"""A scenario on a real device: the same policies plan each step, a reference model executes it, the clock follows.

The serving engine steps one iteration at a time over its own arrays. Each plan goes to the model as spans of new
tokens over paged KV, and the time that it takes stands in place of the price (`mode="live"`), or beside it while
the clock keeps the price (`mode="replay"`: the very plans that the simulator emitted). Weights are random and
tokens arbitrary: time depends on shapes alone.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from kernels.engine import records as at
from kernels.errors import InputError
from kernels.units import PS_PER_S, to_ps
from sim.reference.calibrate_run import MAX_GRAPH
from sim.run.scenario import Scenario
from sim.run.simulate import Simulation, policy_of, simulate
from sim.serving.plan import plan_rows
from workloads.load import load_requests
from workloads.requests import Requests

METRICS = (  # what is compared, in the names of the metrics
    "mean_ttft_ms", "median_ttft_ms", "p90_ttft_ms", "p99_ttft_ms", "mean_tpot_ms", "median_tpot_ms", "p90_tpot_ms",
    "p99_tpot_ms", "mean_e2el_ms", "p99_e2el_ms", "output_throughput", "request_throughput",
)  # fmt: skip
MODES = ("live", "replay")


class Executor:
    """Executes the plan of a lane on a model, and keeps what each step took.

    `model`: has `step(spans) -> (tokens, seconds)` and takes spans made by `span(query_len, kv_len, block)`; `live`:
    whether the clock follows. Raises `InputError` where the model's KV blocks do not suffice.
    """

    def __init__(self, model: Any, span: Callable[..., Any], num_block: int, block_token: int, live: bool) -> None:
        self._model, self._span, self._live = model, span, live
        self._block_token, self._free = block_token, list(range(num_block - 1, -1, -1))
        self._held: dict[int, list[int]] = {}
        self.measured_s: list[float] = []
        self.simulated_s: list[float] = []  # the price of the same plan

    def __call__(self, engine: at.Engine, lane: int) -> int:
        self.simulated_s.append(float(engine.lane[lane]["end_ps"] - engine.me["now_ps"]) / PS_PER_S)
        self._release(engine.seq)
        spans = []
        for row in plan_rows(engine, lane):
            query_len = max(int(row["token"] + row["pad"]), 1)  # an idle row computes one token that nobody keeps
            kv_len = int(row["start"]) + query_len
            spans.append(self._span(query_len, kv_len, self._blocks(int(row["sequence"]), kv_len)))
        _, seconds = self._model.step(spans)
        self.measured_s.append(seconds)
        return to_ps(seconds) if self._live else -1

    def _release(self, seq: at.Records) -> None:
        """Takes back the blocks of sequences that no longer hold KV."""
        for i in [i for i in self._held if _gone(seq[i])]:
            self._free.extend(self._held.pop(i))

    def _blocks(self, i: int, kv_len: int) -> list[int]:
        held = self._held.setdefault(i, [])
        while len(held) * self._block_token < kv_len:
            if not self._free:
                raise InputError(
                    "the reference model's KV is full: it shares no blocks", field="prefix_cache", value=True,
                    allowed="false",
                )  # fmt: skip
            held.append(self._free.pop())
        return held


def _gone(sequence: Any) -> bool:
    """Whether a sequence holds no KV: it has ended, or was preempted and has nothing scheduled."""
    ended = sequence["status"] in (at.FINISHED, at.REFUSED, at.ABORTED, at.LEAVING)
    return bool(ended or sequence["kv"] + sequence["ahead"] == 0)


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """One scenario simulated and measured.

    `steps`: a row a step of the measured run: its plan and the seconds `simulated_s` (the price of that very plan)
    and `measured_s`. `requests`: a row a request with both latencies. `summary`: a row a metric with `simulated`,
    `measured` and `error` (simulated / measured - 1).
    """

    simulated: Simulation
    measured: Simulation
    steps: pd.DataFrame
    requests: pd.DataFrame
    summary: pd.DataFrame

    def __repr__(self) -> str:
        return f"<Comparison: {len(self.requests):,} requests, {len(self.steps):,} steps, simulated and measured>"

    def _repr_html_(self) -> str:
        from sim.show.tables import html_frame

        return html_frame(repr(self).strip("<>"), self.summary, top=30)


def reference_run(
    scenario: Scenario,
    device: str = "cpu",
    *,
    mode: str = "live",
    requests: Requests | None = None,
    model: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Serve the scenario's load on `device` ("cpu" or "cuda"), and simulate it on the scenario's system.

    Raises `InputError` for what one device cannot run: several devices, swapping, formats torch has no model in.
    `model`: a built reference model, to be used again.
    """
    _check(scenario, mode)
    load = load_requests(scenario.requests, scenario.seed) if requests is None else requests
    simulated = simulate(scenario, requests=load, record_steps=True)
    num_block = _num_block(simulated, load)
    if model is None:
        model = build(simulated, device, num_block)
    from hw_models.reference.model import Span

    num_block = min(num_block, model.num_block)
    longest = min(num_block * scenario.block_token, simulated.setup.max_model_len)
    _warm_up(model, Span, scenario.block_token, min(_step_limits(scenario)[0] or longest, longest))
    executor = Executor(model, Span, num_block, scenario.block_token, mode == "live")
    measured = simulate(scenario, requests=load, record_steps=True, progress=progress, execute=executor)
    steps = _steps(measured, executor)
    return Comparison(simulated, measured, steps, _requests(simulated, measured), _summary(simulated, measured, steps))


def build(simulated: Simulation, device: str, num_block: int) -> Any:
    """The reference model of a simulation's scenario on `device`."""
    from hw_models.reference import require_torch

    require_torch()
    from hw_models.reference.model import build_model, graph_batches

    setup = simulated.setup
    captured = graph_batches(device, min(_step_limits(setup.scenario)[1], MAX_GRAPH))
    return build_model(
        setup.model, device, setup.formats.attention, num_block, setup.scenario.block_token, captured,
        setup.scenario.seed, setup.system.device.num_core,
    )  # fmt: skip


def _check(scenario: Scenario, mode: str) -> None:
    if mode not in MODES:
        raise InputError("no such mode", field="mode", value=mode, allowed=MODES)
    for name in ("tp", "pp", "dp", "ep", "attn_dp"):
        if getattr(scenario, name) > 1:
            raise InputError(
                "the reference model runs on one device", field=name, value=getattr(scenario, name), allowed="1"
            )
    if scenario.preemption == "swap":
        raise InputError(
            "the reference model keeps no KV on the host", field="preemption", value="swap", allowed="recompute"
        )
    if scenario.kv_format not in (scenario.weight_format, "auto"):
        raise InputError(
            "the reference model stores KV in the format of its weights", field="kv_format", value=scenario.kv_format,
            allowed=scenario.weight_format,
        )  # fmt: skip


def _num_block(simulated: Simulation, load: Requests) -> int:
    """KV blocks that this load can hold at once, of those that the engine has (and one a sequence for padding)."""
    block = simulated.setup.scenario.block_token
    longest = np.sort(-(-(load.prompt_token.astype(np.int64) + load.output_token + block) // block))[::-1]
    return int(min(simulated.setup.num_block, longest[: _step_limits(simulated.setup.scenario)[1]].sum())) + 1


def _step_limits(scenario: Scenario) -> tuple[int, int]:
    """Tokens (0: no limit) and sequences a step at most: the policy's own where the scenario leaves them open."""
    value = policy_of(scenario).value
    return int(value["max_token"]), int(value["max_seq"])


def _warm_up(model: Any, span: Callable[..., Any], block_token: int, longest: int) -> None:
    """Steps whose first call is slow (allocation, thread pools, captured graphs), before the clock runs; prompts of
    up to `longest` tokens."""
    short = min(8, longest - 1)
    for query_len, kv_len in ((short, short), (1, short + 1), (longest, longest), (1, short + 1)):
        model.step([span(query_len, kv_len, range(-(-kv_len // block_token)))])


def _steps(measured: Simulation, executor: Executor) -> pd.DataFrame:
    """The steps of the measured run, each with the price of its plan."""
    frame = pd.DataFrame(measured.run.steps).reset_index(drop=True)
    return frame.assign(
        simulated_s=executor.simulated_s, measured_s=executor.measured_s,
        error=np.array(executor.simulated_s) / np.array(executor.measured_s) - 1,
    )  # fmt: skip


def _requests(simulated: Simulation, measured: Simulation) -> pd.DataFrame:
    """A row a request: latencies simulated and measured."""
    frames = {"simulated": simulated.run.requests, "measured": measured.run.requests}
    columns: dict[str, Any] = {}
    for label, frame in frames.items():
        for name in ("ttft_s", "tpot_s", "e2e_s"):
            columns[f"{name}_{label}"] = frame[name].to_numpy(float)
    return pd.DataFrame(columns)


def _summary(simulated: Simulation, measured: Simulation, steps: pd.DataFrame) -> pd.DataFrame:
    rows = [("mean_step_s", float(steps["simulated_s"].mean()), float(steps["measured_s"].mean()))]
    both = [name for name in METRICS if name in simulated.metrics and name in measured.metrics]
    rows += [(name, float(simulated.metrics[name]), float(measured.metrics[name])) for name in both]
    frame = pd.DataFrame(rows, columns=["metric", "simulated", "measured"])
    frame["error"] = frame["simulated"] / frame["measured"] - 1
    return frame
