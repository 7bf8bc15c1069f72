"""What an engine makes of the calibrated kernels: operators that others take in, its own all-reduce."""

import dataclasses
import pathlib

import numpy as np
import pytest

from kernels import optable as op
from kernels.errors import InputError
from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from sim.serving.engine_profile import load
from sim.serving.step_price import HostTime
from sim.serving.step_time import Batch, Deployment, lowered_for, plan_of, step_of

TOKEN = Batch(0, 0, 16, 1024)


def times_s(where: Deployment, fused: bool) -> dict[str, float]:
    """Seconds by kind of a decode step under TensorRT-LLM's profile, with and without what it fuses."""
    profile = load("trtllm")
    if not fused:
        profile = dataclasses.replace(profile, fused=(), fused_group=())
    lowered, _ = lowered_for(where, profile)
    ops, work = lowered.step(0, plan_of(TOKEN))
    cost = lowered.price(ops, work)
    return {op.KINDS[kind]: float(cost["time_ps"][ops["kind"] == kind].sum()) / 1e12 for kind in np.unique(ops["kind"])}


@pytest.mark.parametrize("tp", [1, 4])
def test_fused_operators_move_bytes_and_launch_nothing(tp: int) -> None:
    where = Deployment("llama-3-70b", "h200_sxm", tp, weight_format="fp8")
    bare, fused = times_s(where, False), times_s(where, True)
    within = {"add", "convert", "kv_write"} | ({"norm"} if tp > 1 else set())
    assert {kind for kind, seconds in fused.items() if seconds < bare[kind]} == within
    assert all(fused[kind] > 0 for kind in within)  # their bytes
    assert {kind for kind, seconds in fused.items() if seconds > bare[kind]} == set()


def test_an_engine_runs_its_own_all_reduce_where_it_was_measured() -> None:
    def all_reduce_s(system: str, name: str) -> float:
        profile = dataclasses.replace(load("none"), all_reduce=name, all_reduce_group=4)
        lowered, _ = lowered_for(Deployment("llama-3-8b", system, 4), profile)
        ops, work = lowered.step(0, plan_of(Batch(0, 0, 1, 128)))
        return float(lowered.price(ops, work)["time_ps"][ops["kind"] == op.ALL_REDUCE].sum())

    assert all_reduce_s("h100_sxm", "TRTLLM") < all_reduce_s("h100_sxm", "")
    assert all_reduce_s("a100_sxm_80gb", "TRTLLM") == all_reduce_s("a100_sxm_80gb", "")  # nobody measured it there


def test_a_simulated_step_has_the_engine_s_kernels() -> None:
    run = simulate(
        Scenario(
            model="llama-3-70b", system="h100_sxm", tp=4, engine="trtllm", policy="trtllm", weight_format="fp8",
            requests="batch:n=1,prompt=128,output=8",
        )
    ).run  # fmt: skip
    lowered, _ = lowered_for(Deployment("llama-3-70b", "h100_sxm", 4, weight_format="fp8"), load("trtllm"))
    middle_s = step_of(lowered, Batch(0, 0, 1, 132))[0]
    assert run.requests["tpot_s"].iloc[0] == pytest.approx(middle_s, rel=0.01)


def test_what_nothing_takes_in_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "mine.toml"
    rest = [f"{name} = 0.0" for name in ("step_s", "seq_s", "token_s", "request_s", "stream_s")]
    path.write_text("\n".join(['title = "t"', 'source = "s"', *rest, 'fused = ["gemm"]']))
    with pytest.raises(InputError, match="fused"):
        load(str(path))
    assert HostTime(fused=("add",)).kernels is not None
