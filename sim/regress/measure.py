"""What a scenario gives today: results, prices of fixed steps, and what the scheduler decided.

Three things move a result: the price of an operator, a decision of the engine, and a file that the scenario names. So
beside the results an entry keeps operators priced in *probes*, steps that no scheduler decides (a price that moved
shows there, whatever the batches became), and the steps' shapes (a decision that moved shows there, whatever they
cost).
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hw_models.device import cost
from kernels.engine.price import HOST_FIELDS
from kernels.engine.records import LOG_COLUMNS
from kernels.optable import KINDS
from sim.regress.baseline import DECIDED, Entry, Price, Probe, Spent, Steps
from sim.run.ffn_part import one_machine
from sim.run.scenario import Scenario
from sim.run.setup import Setup
from sim.run.simulate import Simulation, simulate
from sim.serving.accounts import HOST
from sim.serving.result import ServeResult
from workloads.files import read_byte
from workloads.load import load_requests
from workloads.lowering import Plan, lower_step

NUM_FIRST = 64  # steps kept as numbers
MAX_STEP = 2_000_000  # tokens to generate up to which steps are recorded
MEASURES = ("_ps", "_nj", "_kb", "_mflop", "_bound")  # counters that hold prices, not decisions
MAX_FILE_BYTE = 1 << 40
AROUND_ZERO = "queue_drift"  # a metric whose relative change says nothing


def measure(
    name: str, scenario: Scenario, probe: Sequence[Probe] = (), progress: Callable[[int, int], None] | None = None
) -> Entry | None:
    """The entry of a scenario as it runs now, priced in the `probe`s of its baseline, or in its own typical steps.

    None where the run was stopped. Raises `InputError` as `simulate` does.
    """
    load = load_requests(scenario.requests, scenario.seed)
    short = int(load.output_token.sum()) + len(load.output_token) <= MAX_STEP
    done = simulate(scenario, requests=load, record_steps=short, progress=progress)
    if not done.result.complete:
        return None
    probe = list(probe) or typical(done)
    return Entry(
        name=name,
        scenario={
            field.name: value
            for field in dataclasses.fields(scenario)
            if (value := getattr(scenario, field.name)) != field.default
        },
        file=digests(scenario),
        metric={
            key: value
            for key, value in done.metrics.items()
            if (value is None or isinstance(value, int | float)) and key != AROUND_ZERO
        },
        decision={
            key: int(value.sum())
            for key, value in done.result.counter.items()
            if not key.endswith(MEASURES) and key != "num_plan"
        },
        steps=steps_of(done.result),
        host_ps=dict(zip(HOST_FIELDS, done.result.price.host_ps.tolist(), strict=True)),
        probe=probe,
        price=[row for index, one in enumerate(probe) for row in prices(done.setup, index, one)],
        spent=spent_of(done),
    )


def typical(done: Simulation) -> list[Probe]:
    """Steps around which this run spent its time: decodes of one sequence, of the mean and of the largest batch; the
    mean and the longest prompt."""
    request, metrics = done.run.request, done.metrics
    if not done.served:
        return []
    prompt = np.asarray(request["prompt_token"])
    context = max(1, round(float((prompt + np.asarray(request["committed_token"]) / 2).mean())))
    tpot_s = (metrics["mean_tpot_ms"] or 0.0) / 1e3
    batches = {1, max(1, round(metrics["output_throughput"] * tpot_s / done.setup.placement.dp))}
    batches.add(max(1, metrics["max_concurrent_requests"] // done.setup.placement.dp))
    lengths = {max(1, round(float(prompt.mean()))), int(prompt.max())}
    found = [Probe(phase="decode", num_seq=num, query_token=1, kv_token=context) for num in sorted(batches)]
    return found + [Probe(phase="prefill", num_seq=1, query_token=num, kv_token=num) for num in sorted(lengths)]


def prices(setup: Setup, index: int, probe: Probe) -> list[Price]:
    """Operators of a probe, all layers, stages added up."""
    one_machine(setup.scenario, "prices are recorded of")
    one = np.ones(probe.num_seq, np.int64)
    plan = Plan(one * probe.query_token, one * probe.kv_token, one == int(probe.phase == "decode"), one == 1)
    total: dict[tuple[str, str], list[int]] = {}
    for stage in range(setup.placement.pp):
        ops, work = lower_step(setup.model, setup.formats, setup.placement, stage, plan, setup.expert_skew)
        ops = ops[ops["count"] > 0]
        for row, price in zip(ops, cost(ops, work, setup.machine), strict=True):
            pair = total.setdefault((row["name"].decode(), KINDS[row["kind"]]), [0, 0])
            pair[0] += int(price["time_ps"])
            pair[1] += int(price["energy_nj"])
    return [
        Price(probe=index, operator=name, kind=kind, time_ps=pair[0], energy_nj=pair[1])
        for (name, kind), pair in total.items()
    ]


def spent_of(done: Simulation) -> list[Spent]:
    """Time of each operator over the run, the longest first."""
    total: dict[tuple[str, str], int] = {}
    rows = zip(done.accounts.name, done.accounts.kind.tolist(), done.accounts.time_ps.tolist(), strict=True)
    for name, code, time_ps in rows:
        key = (name, "host" if code == HOST else KINDS[code])
        total[key] = total.get(key, 0) + max(time_ps, 0)
    ordered = sorted(total.items(), key=lambda item: (-item[1], item[0]))
    return [Spent(operator=name, kind=kind, time_ps=time_ps) for (name, kind), time_ps in ordered]


def steps_of(result: ServeResult) -> Steps | None:
    """What each step did, in order of replica and start."""
    if result.step is None:
        return None
    log = result.step[np.argsort(result.step[:, 0], kind="stable")]
    shape = np.ascontiguousarray(log[:, [LOG_COLUMNS.index(name) for name in ("replica", *DECIDED)]], np.dtype("<i8"))
    digest = hashlib.blake2b(shape.tobytes(), digest_size=8).hexdigest()
    return Steps(num=len(shape), digest=digest, first=shape[:NUM_FIRST, 1:].tolist())


def digests(scenario: Scenario) -> dict[str, str]:
    """Of each file that a field names: its content's digest."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(scenario):
        value = getattr(scenario, field.name)
        path = value.partition(":")[0] if isinstance(value, str) else ""
        if path and os.path.isfile(path):
            found[path] = hashlib.blake2b(read_byte(path, MAX_FILE_BYTE), digest_size=8).hexdigest()
    return found
