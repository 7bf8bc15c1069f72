"""Laws that hold whatever the scenario, checked from outside on the records of random runs."""

import dataclasses
import itertools
import pathlib
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.errors import InputError
from sim.cli import main
from sim.run.scenario import Scenario
from sim.run.simulate import Simulation, simulate
from workloads.load import load_requests
from workloads.requests import Requests, build

NUM = 12  # scenarios a law
PS = 1e-12
POLICIES = ("vllm_v1", "sarathi", "vllm_v0", "static:max_seq=3", "vllm_v1:max_token=16,max_seq=2")

lengths = st.integers(1, 60)
requests_of = st.lists(st.tuples(st.floats(0, 3).map(lambda s: round(s, 3)), lengths, lengths), min_size=1, max_size=12)


def load(rows: list[tuple[float, int, int]]) -> Requests:
    rows = sorted(rows)
    arrival_s, prompt, output = (np.array(column) for column in zip(*rows, strict=True))
    return build(np.rint(arrival_s * 1e12).astype(np.int64), prompt.astype(np.int64), output.astype(np.int64))


@st.composite
def scenarios(draw: st.DrawFn) -> dict[str, Any]:
    """Fields of a scenario that runs."""
    chosen: dict[str, Any] = {
        "model": draw(st.sampled_from(("gpt2", "llama-3.2-1b"))),
        "system": draw(st.sampled_from(("a100_sxm", "l4", "dgx_h100"))),
        "policy": draw(st.sampled_from(POLICIES)),
        "requests": "batch:n=1,prompt=1,output=1", "fidelity": draw(st.sampled_from(("calibrated", "sol"))),
        "block_token": draw(st.sampled_from((1, 16, 32))), "seed": draw(st.integers(0, 3)),
    }  # fmt: skip
    if chosen["system"] == "dgx_h100":
        chosen |= draw(
            st.sampled_from(({"tp": 2}, {"pp": 2}, {"dp": 2}, {"tp": 2, "pp": 2}, {"dp": 3, "router": "random"}))
        )
    return chosen


def serve(fields: dict[str, Any], rows: list[tuple[float, int, int]], **more: Any) -> Simulation:
    try:
        return simulate(Scenario(**{**fields, **more}), requests=load(rows), record_steps=True)
    except InputError as error:
        pytest.fail(f"refused: {error}")


@settings(max_examples=NUM)
@given(scenarios(), requests_of)
def test_tokens_order_of_times_and_what_is_held(fields: dict[str, Any], rows: list[tuple[float, int, int]]) -> None:
    done = serve(fields, rows)
    frame, steps = done.run.requests, done.run.steps
    assert steps is not None
    assert len(frame) == len(rows)
    assert (frame["status"] == "finished").all()
    assert frame["committed_token"].tolist() == frame["output_token"].tolist()
    clock = ["arrival_s", "scheduled_s", "first_token_s", "last_token_s", "finish_s"]
    for early, late in itertools.pairwise(clock):
        assert (frame[early] <= frame[late] + PS).all(), (early, late)
    assert (frame["ttft_s"] <= frame["e2e_s"] + PS).all()
    # every prompt token that was not cached is computed, and every output token sampled, once
    assert steps["num_sampled"].sum() >= frame["output_token"].sum()
    assert steps["used_block"].max() <= done.setup.num_block
    assert done.metrics["completed"] == len(rows)
    assert done.metrics["total_output_tokens"] == frame["output_token"].sum()


@settings(max_examples=NUM)
@given(scenarios(), requests_of)
def test_steps_of_a_stage_do_not_overlap(fields: dict[str, Any], rows: list[tuple[float, int, int]]) -> None:
    done = serve({**fields, "engine": "none"}, rows)
    steps = done.run.steps
    assert steps is not None
    pp = fields.get("pp", 1)
    for _, own in steps.groupby("replica"):
        order = own.sort_values("start_s", kind="stable")
        starts, ends = order["start_s"].to_numpy(), order["end_s"].to_numpy()
        assert (ends >= starts).all()
        # a step leaves the first stage before the next one enters it: at most pp are under way
        assert (starts[pp:] >= ends[:-pp] - 1e-9).all()


@settings(max_examples=NUM)
@given(scenarios(), requests_of)
def test_little(fields: dict[str, Any], rows: list[tuple[float, int, int]]) -> None:
    """The time integral of the number in the system is the sum of the times in it."""
    frame = serve(fields, rows).run.requests
    events = pd.concat([pd.Series(1, frame["arrival_s"]), pd.Series(-1, frame["finish_s"])]).sort_index(kind="stable")
    held = events.cumsum().to_numpy()[:-1] @ np.diff(events.index.to_numpy())
    assert held == pytest.approx(float((frame["finish_s"] - frame["arrival_s"]).sum()), rel=1e-9, abs=1e-9)


@settings(max_examples=NUM)
@given(scenarios(), requests_of)
def test_the_same_again_and_one_step_at_a_time(fields: dict[str, Any], rows: list[tuple[float, int, int]]) -> None:
    first, again = serve(fields, rows), serve(fields, rows)
    pd.testing.assert_frame_equal(first.run.requests, again.run.requests)
    assert repr(first.metrics) == repr(again.metrics)
    pd.testing.assert_frame_equal(first.run.requests, serve(fields, rows, run_ahead=False).run.requests)


@settings(max_examples=NUM)
@given(scenarios(), requests_of)
def test_round_robin_is_the_trace_split_by_hand(fields: dict[str, Any], rows: list[tuple[float, int, int]]) -> None:
    fields = {name: value for name, value in fields.items() if name not in ("dp", "router", "tp", "pp")}
    rows = sorted(rows)
    both = serve({**fields, "system": "dgx_h100", "dp": 2, "router": "round_robin"}, rows).run.requests
    for k in (0, 1):
        if rows[k::2]:
            alone = serve({**fields, "system": "dgx_h100"}, rows[k::2]).run.requests
            for name in ("first_token_s", "finish_s"):
                assert both[name].to_numpy()[k::2] == pytest.approx(alone[name].to_numpy(), abs=1e-11)


@settings(max_examples=NUM)
@given(scenarios(), requests_of)
def test_a_router_that_names_the_first_replica_is_one_replica(
    tmp_path_factory: pytest.TempPathFactory, fields: dict[str, Any], rows: list[tuple[float, int, int]]
) -> None:
    fields = {name: value for name, value in fields.items() if name not in ("dp", "router", "tp", "pp")}
    router = tmp_path_factory.getbasetemp() / "first.py"
    router.write_text("COMPILED = False\n\n\ndef route(fleet, request):\n    return 0\n")
    both = serve({**fields, "system": "dgx_h100", "dp": 2, "router": str(router)}, rows).run.requests
    one = serve({**fields, "system": "dgx_h100"}, rows).run.requests
    pd.testing.assert_frame_equal(both, one)


def faster(folder: pathlib.Path, line: str) -> str:
    """A machine that is an H100 but for a line."""
    file = folder / f"m{abs(hash(line))}.toml"
    file.write_text(f'base = "h100_sxm"\ntitle = "faster"\n{line}\n')
    return str(file)


@settings(max_examples=NUM)
@given(requests_of, st.sampled_from(("mem_GBps = 6700", "mem_GiB = 160")), st.sampled_from(("calibrated", "sol")))
def test_a_better_machine_serves_a_request_no_later(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, int, int]], line: str, fidelity: str
) -> None:
    """One at a time: among many, a faster step may change who runs beside whom."""
    better = faster(tmp_path_factory.getbasetemp(), line)
    for row in rows[:3]:
        plain, good = (
            serve({"model": "llama-3.2-1b", "system": system, "fidelity": fidelity}, [(0.0, *row[1:])]).run.requests
            for system in ("h100_sxm", better)
        )
        for name in ("ttft_s", "e2e_s"):
            assert good[name][0] <= plain[name][0] + PS


@settings(max_examples=NUM)
@given(lengths, lengths, st.integers(1, 40), st.integers(1, 40))
def test_more_to_do_takes_no_less(prompt: int, output: int, more_prompt: int, more_output: int) -> None:
    fields = {"model": "llama-3.2-1b", "system": "h100_sxm", "fidelity": "sol"}
    e2e_s = [
        serve(fields, [(0.0, p, o)]).run.requests["e2e_s"][0]
        for p, o in ((prompt, output), (prompt + more_prompt, output), (prompt, output + more_output))
    ]
    assert e2e_s[0] <= e2e_s[1] + PS
    assert e2e_s[0] < e2e_s[2]


@settings(max_examples=NUM)
@given(st.floats(0.15, 0.9), st.floats(1.0, 1.1))
def test_more_memory_holds_no_less(share: float, factor: float) -> None:
    def num_block(given: float) -> int:
        return serve(
            {"model": "llama-3.2-1b", "system": "h100_sxm", "memory_share": given}, [(0.0, 1, 1)]
        ).setup.num_block

    assert num_block(share) <= num_block(min(1.0, share * factor))


@settings(max_examples=2)
@given(scenarios())
def test_the_same_bytes_twice(tmp_path_factory: pytest.TempPathFactory, fields: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    words = ["simulate", "--quiet", *(f"--{name.replace('_', '-')}={value}" for name, value in fields.items()
                                      if name != "requests")]  # fmt: skip
    written = []
    for name in ("a", "b"):
        say = [
            *words,
            "--requests=poisson:rate=5,n=6,prompt=20,output=5",
            "--out",
            str(folder / name),
            "--json",
            str(folder / f"{name}.json"),
        ]
        assert main(say) == 0
        files = sorted((folder / name).iterdir())
        written.append(
            [(folder / f"{name}.json").read_bytes(), *(file.read_bytes() for file in files if file.suffix != ".png")]
        )
    assert written[0] == written[1]


def test_a_scenario_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Scenario().tp = 2  # type: ignore[misc]
    assert len(load_requests("batch:n=1,prompt=1,output=1")) == 1
