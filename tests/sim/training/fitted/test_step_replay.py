"""A training step on links: the fast path where nothing contends, slower where it does, bytes by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hw_models import catalog
from hw_models.routes import Routes
from kernels import training as t
from kernels.errors import InputError
from sim.fabric.replay import Times, replay_fast
from sim.training.fitted.stack import hardware_vector, load
from sim.training.fitted.step import PS, build_order, stage_table, train
from sim.training.fitted.step_replay import StepWork, flows, run_on_links, step_work
from sim.training.fitted.traffic import TrafficTimes, replay_with_traffic, traffic
from workloads import models
from workloads.pipeline import compile_order
from workloads.training import TrainPlan, model_vector, plan_vector

GPT = models.load("gpt3-13b")
FIT = load("megatron-a100").fit
BASE = TrainPlan(tp=8, pp=4, dp=4, batch=32, zero=1)


def both(plan: TrainPlan, hop_s: float | None = None) -> tuple[StepWork, TrafficTimes, Times, Routes]:
    """The graph, the fast path's times, and those on links without slowdown of compute."""
    machine = catalog.system("dgx_a100", plan.num_device)
    hw, vector, laid = hardware_vector(machine), model_vector(GPT, plan.seq), plan_vector(plan)
    arrays = compile_order(build_order(plan))
    laid[t.NUM_CHUNK] = arrays.num_stage / plan.pp
    times, table = stage_table(vector, laid, hw, FIT, arrays, plan)
    hop = round(times[0, t.HOP_S] * PS)
    beside = traffic(arrays, vector, laid, hw, FIT)
    graph, routes = step_work(arrays, table, hop, beside), Routes(machine)
    found = run_on_links(graph, flows(graph, vector, laid, hw, FIT, routes), routes, slowed=False)
    fast = replay_with_traffic(arrays, table, hop, beside)
    assert np.array_equal(replay_fast(graph.todo).end_ps[graph.last], fast.end)  # the same graph, durations alone
    return graph, fast, found, routes


@pytest.mark.parametrize(
    "change",
    [{"pp": 1, "dp": 4}, {"pp": 1, "dp": 4, "zero": 3}, {"pp": 1, "dp": 4, "zero": 3, "gather_limit": 1}, {"dp": 1},
     {"dp": 1, "schedule": "zb-h1"}, {"pp": 1, "tp": 2, "dp": 16, "zero": 2}],
)  # fmt: skip
def test_where_nothing_contends_it_is_the_fast_path(change: dict[str, Any]) -> None:
    # replicas without a pipeline, or a pipeline without replicas: no port carries two transfers at once
    graph, fast, found, _ = both(replace(BASE, **change))
    # times of flows are whole picoseconds: one a transfer at most
    assert np.abs(found.end_ps[graph.last] - fast.end).max() <= len(graph.collective) + 1
    assert abs(found.end_ps.max() - max(fast.end.max(), fast.network.max())) <= len(graph.collective) + 1


@pytest.mark.parametrize("change", [{}, {"schedule": "dualpipe", "batch": 32, "zero": 0}, {"zero": 3}])
def test_shared_ports_never_make_it_faster(change: dict[str, Any]) -> None:
    graph, fast, found, _ = both(replace(BASE, **change))
    assert found.end_ps.max() >= fast.end.max() - len(graph.collective)
    assert (found.start_ps[graph.first] >= 0).all()


def test_every_device_sends_its_gradients_through_its_port() -> None:
    plan = replace(BASE, pp=1)
    _, _, found, routes = both(plan)
    names = np.array([routes.name(i) for i in range(routes.num_link)])
    ports = np.char.find(names, "/nic") > 0
    out = found.link_byte[ports & (np.char.find(names, ">leaf") > 0)]
    # 3 of 4 parts of fp32 gradients and of bf16 weights, over 70 % of the link's rate
    value = t.layer_value(model_vector(GPT, 2048), plan_vector(plan))[0] * 40 + 2 * GPT.vocab / 8 * GPT.hidden
    assert out == pytest.approx(np.full(32, 0.75 * (4 + 2) * value / FIT[t.OUT]), rel=0.02)


def test_collectives_slow_the_compute_beside_them() -> None:
    plan = replace(BASE, pp=1, zero=3, seq=8192, dp_traffic="scheduled")
    calm = train(GPT, "dgx_a100", plan, stack="megatron-a100").summary
    slowed = train(GPT, "dgx_a100", plan, stack="megatron-a100", fidelity="replay").summary
    # 24 of 108 cores work for the collective while it runs: no more than 108/84 of the time
    assert 0 < slowed["contention_s"] <= (108 / 84 - 1) * calm["step_s"]
    assert slowed["fidelity"] == "replay"


def test_a_narrow_network_is_felt_where_stages_are_leaves_apart() -> None:
    # every hop of 64 replicas leaves its leaf at once; rings of neighbours hardly do
    plan = TrainPlan(tp=8, pp=2, dp=64, batch=256)
    wide, narrow = (
        train(GPT, "dgx_a100", plan, stack="megatron-a100", fidelity="replay", oversubscription=ratio, num_replica=64)
        for ratio in (1.0, 8.0)
    )
    assert wide.summary["step_s"] < narrow.summary["step_s"]


def test_groups_that_lie_unevenly_on_nodes_are_refused() -> None:
    with pytest.raises(InputError, match="as many devices of each node"):
        train("gpt2", "dgx_a100", TrainPlan(tp=2, dp=6, batch=6), fidelity="replay")
    with pytest.raises(InputError, match="fidelity"):
        train("gpt2", "dgx_a100", TrainPlan(), fidelity="exact")
