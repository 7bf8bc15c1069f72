"""A scenario whose requests are programs: each request of the load is a job, each job a live program."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from kernels.engine.records import FINISHED, REASONS
from kernels.errors import InputError
from kernels.units import PS_PER_S
from sim.cluster.live import Live, LiveResult
from sim.cluster.parts import pool_part
from sim.cluster.program_files import Job, find
from sim.run.scenario import Scenario, check_scenarios
from sim.serving.limits import Options
from workloads.load import load_requests
from workloads.requests import check_no_image

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True, eq=False)
class ProgramRun:
    """What came of programs and of their requests."""

    result: LiveResult
    programs: "pd.DataFrame"  # a row a program: seconds, requests, tokens, what it says of itself
    requests: "pd.DataFrame"  # a row a request: its program, seconds, tokens, why it ended
    summary: "pd.DataFrame"  # a row a figure

    def __repr__(self) -> str:
        return f"<ProgramRun: {len(self.programs):,} programs, {len(self.requests):,} requests>"

    def _repr_html_(self) -> str:
        from sim.show.tables import html_frame

        return html_frame(repr(self).strip("<>"), self.summary, top=20)


def simulate_programs(
    scenario: Scenario, program: str = "chain_of_thought", *, order: str = "request",
    outside: Mapping[str, int] | None = None,
) -> ProgramRun:  # fmt: skip
    """Serves the scenario's load as live programs of one kind (`sim.cluster.programs`, or a path).

    A request of the load says when its program begins, its prompt, and the answer that it would give if nobody stopped
    it. `order`: of the waiting queue (`sim.cluster.live.ORDERS`), in place of the scenario's. Raises `InputError` for
    loads whose requests wait for each other or share prefixes, which is what programs do, and for what `simulate`
    refuses.
    """
    check_scenarios(scenario)
    if scenario.fidelity == "replay":
        raise InputError("programs have no operator-by-operator replay", field="fidelity", value="replay")
    if scenario.order != "fcfs":
        raise InputError("programs have an order of their own", field="order", value=scenario.order, allowed="fcfs")
    for field in ("kv_tiers", "kv_evict"):
        if (value := getattr(scenario, field)) != Scenario.__dataclass_fields__[field].default:
            raise InputError("prefixes of programs stay in their engines' own memory", field=field, value=value,
                             allowed="the default")  # fmt: skip
    kind = find(program)
    load = load_requests(scenario.requests, scenario.seed)
    check_no_image(load, "in programs")
    if (load.parent >= 0).any() or len(load.unit_id):
        raise InputError("programs are made of single requests", field="requests", value=scenario.requests,
                         allowed="a load without sessions and shared prefixes")  # fmt: skip
    if load.max_concurrency:
        raise InputError("programs begin when the load says", field="max_concurrency", value=load.max_concurrency,
                         allowed="0")  # fmt: skip
    live = Live(pool_part(scenario, "mixed", link_byte_per_s=1.0), Options(seed=scenario.seed), order=order,
                outside=outside)  # fmt: skip
    for i in range(len(load)):
        job = Job(int(load.prompt_token[i]), int(load.output_token[i]), int(load.predicted_token[i]))
        live.add(kind.body(job), arrival_ps=int(load.arrival_ps[i]), name=kind.name)
    result = live.run()
    if not result.complete and not (result.program["end_ps"] >= 0).any():
        raise KeyboardInterrupt
    idle = sorted(set(outside or {}) - live.called)
    if idle and result.complete:
        raise InputError("has no effect: no program calls it", field="outside", value=idle[0])
    programs, requests = program_table(result), request_table(result)
    return ProgramRun(result, programs, requests, summary_table(result, programs))


def program_table(result: LiveResult) -> "pd.DataFrame":
    """A row a program."""
    import pandas as pd

    p = result.program
    table = pd.DataFrame({
        "arrival_s": p["arrival_ps"] / PS_PER_S,
        "e2e_s": np.where(p["end_ps"] >= 0, (p["end_ps"] - p["arrival_ps"]) / PS_PER_S, np.nan),
        "num_request": p["num_request"], "prompt_token": p["prompt_token"], "produced_token": p["produced_token"],
        "num_stopped": p["stopped"],
    })  # fmt: skip
    for name in dict.fromkeys(name for note in result.note for name in note):
        table[name] = [note.get(name, np.nan) for note in result.note]
    return table


def request_table(result: LiveResult) -> "pd.DataFrame":
    """A row a request."""
    import pandas as pd

    r = result.pool.request
    first = np.where(r["first_token_ps"] >= 0, (r["first_token_ps"] - r["arrival_ps"]) / PS_PER_S, np.nan)
    return pd.DataFrame({
        "program": result.of, "arrival_s": r["arrival_ps"] / PS_PER_S, "ttft_s": first,
        "e2e_s": (r["end_ps"] - r["arrival_ps"]) / PS_PER_S, "prompt_token": r["prompt_token"],
        "cached_token": r["cached_token"], "output_token": r["output_token"], "produced_token": r["produced_token"],
        "served": r["status"] == FINISHED, "reason": [REASONS[code] for code in r["reason"]],
    })  # fmt: skip


def summary_table(result: LiveResult, programs: "pd.DataFrame") -> "pd.DataFrame":
    """Figures of the whole run."""
    import pandas as pd

    e2e = programs["e2e_s"].dropna().to_numpy(float)  # of those that have ended
    span_s = result.pool.span_ps / PS_PER_S
    produced = float(programs["produced_token"].sum())
    rows = [
        ("programs", float(len(programs)), ""),
        ("requests", float(programs["num_request"].sum()), ""),
        ("mean time of a program", float(e2e.mean()), "s"),
        *((f"p{q} of it", float(np.quantile(e2e, q / 100)), "s") for q in (50, 90, 99)),
        ("tokens produced", produced, ""),
        ("tokens produced a second", produced / span_s if span_s > 0 else 0.0, "tok/s"),
        ("requests stopped", float(programs["num_stopped"].sum()), ""),
        ("prompt tokens found in the cache", float(result.pool.counter["num_hit_token"].sum()), ""),
        ("prompt tokens", float(programs["prompt_token"].sum()), ""),
    ]
    return pd.DataFrame(rows, columns=["figure", "value", "unit"])
