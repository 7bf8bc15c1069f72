"""Data-parallel traffic of a step beside its schedule and on shared links."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kernels.errors import InputError
from kernels.train_plan import BODY
from sim.training.price import piece, site
from sim.training.stack import load_stack
from sim.training.step import train
from workloads import models
from workloads.training import TrainPlan

GPT = models.load("gpt3-13b")
FSDP = TrainPlan(dp=16, batch=32, micro_batch=1, zero=3, dp_traffic="scheduled", attention="flash2", fused_norm=True)
STACK = "megatron-2022"


def summary(plan: TrainPlan, **more: Any) -> dict[str, Any]:
    return train(GPT, "dgx_a100", plan, stack=STACK, **more).summary


def layer_byte(plan: TrainPlan) -> float:
    """Bytes of a gathered layer."""
    from hw_models import catalog

    where = site(catalog.system("dgx_a100", plan.num_device), load_stack(STACK), plan.attention)
    return float(piece(GPT, plan, where)[BODY]["dense"]) * 2


def test_the_rate_limiter_trades_memory_for_exposure() -> None:
    found = [summary(replace(FSDP, gather_limit=limit)) for limit in (1, 2, 4, 0)]
    exposed = [s["exposed_dp_s"] for s in found]
    assert exposed[0] > exposed[1] >= exposed[2] >= exposed[3]
    # one, two, four or all 40 layers in bf16
    layer = layer_byte(FSDP)
    assert np.diff([s["mem_buffer_byte"] for s in found]) == pytest.approx([layer, 2 * layer, 36 * layer])


def test_breadth_first_needs_less_traffic_than_depth_first() -> None:
    # FSDP over 8 replicas: a gather and a scatter a chunk and batch against one every operation (Lamy-Poirier 2023)
    base = replace(FSDP, tp=2, pp=4, dp=8, batch=64, interleave=5, keep_gathered=True)
    wide, deep = (summary(replace(base, schedule=name)) for name in ("breadth-first", "interleaved-1f1b"))
    assert wide["dp_s"] < deep["dp_s"] / 3
    assert wide["exposed_dp_s"] <= deep["exposed_dp_s"] * (1 + 1e-9)


def test_one_replica_has_no_traffic() -> None:
    found = summary(TrainPlan(tp=8, batch=8, dp_traffic="scheduled", attention="flash2"))
    assert found["exposed_dp_s"] == found["dp_s"] == 0


@pytest.mark.parametrize("change", [{"pp": 1}, {"pp": 4, "dp": 4}, {"zero": 1}])
def test_shared_links_never_make_a_step_faster(change: dict[str, Any]) -> None:
    plan = replace(FSDP, **({"tp": 8, "dp": 4} | change))
    alone, shared = summary(plan), summary(plan, fidelity="replay")
    assert shared["step_s"] >= alone["step_s"] * (1 - 1e-6)
    # 24 of 108 cores work for the collective while it runs: no more than 108/84 of the time, but where ports are shared
    assert shared["contention_s"] <= (108 / 84 - 1) * alone["step_s"] + shared["dp_s"]
    assert shared["fidelity"] == "replay"


def test_a_narrow_network_is_felt_where_stages_are_leaves_apart() -> None:
    plan = TrainPlan(tp=8, pp=2, dp=64, batch=256, attention="flash2", fused_norm=True)
    wide, narrow = (summary(plan, fidelity="replay", oversubscription=ratio, num_replica=64) for ratio in (1.0, 8.0))
    assert wide["step_s"] < narrow["step_s"]


def test_what_cannot_be_replayed_is_refused() -> None:
    with pytest.raises(InputError, match="as many devices of each node"):
        summary(TrainPlan(tp=2, dp=6, batch=6, attention="flash2"), fidelity="replay")
    with pytest.raises(InputError, match="fidelity"):
        summary(TrainPlan(attention="flash2"), fidelity="exact")
    with pytest.raises(InputError, match="num_replica"):
        summary(TrainPlan(tp=8, dp=2, batch=2, attention="flash2"), fidelity="replay", num_replica=3)


def test_hops_of_gpipe_are_exposed_while_it_fills_and_drains() -> None:
    # (m + p - 1)(F + B) + 2 (p - 1) c: no stage waits for a hop in between
    found = train(
        "gpt3-13b", "dgx_h100", TrainPlan(pp=4, batch=16, schedule="gpipe", attention="flash3"), stack="sol"
    ).summary
    assert found["hop_s"] > 0
    assert found["exposed_pp_s"] == pytest.approx(2 * 3 * found["hop_s"], rel=1e-6)  # hops are whole picoseconds


def test_a_hop_leaves_its_node_only_where_ranks_do() -> None:
    # 16 stages of one device on two nodes: one of fifteen hops crosses, so that a step is hardly slower than on links
    # that never do
    from hw_models import catalog
    from sim.training.price import plan_record
    from sim.training.step import build_order, hop_times
    from workloads.pipeline import compile_order

    plan = TrainPlan(pp=16, batch=32, attention="flash2")
    where = site(catalog.system("dgx_a100", 16), load_stack(STACK), "flash2")
    hops, longest = hop_times(compile_order(build_order(plan)), plan_record(GPT, plan), where)
    assert len(hops) == 15
    assert sum(hop == max(hops) for hop in hops) == 1
    assert max(hops) == round(longest * 1e12)


def test_sharded_training_loses_with_scale() -> None:
    # as many tokens a device: rings of more nodes have more hops, and what nothing hides grows; half a batch loses more
    def rate(num: int, micro: int) -> float:
        plan = replace(FSDP, dp=num, batch=num * micro, micro_batch=micro, dp_traffic="fitted")
        return float(train("gpt3-13b", "dgx_h100", plan, stack="llm-foundry").summary["token_per_s_per_device"])

    few, many, small = rate(128, 8), rate(512, 8), rate(512, 2)
    assert 0.85 < many / few < 0.995
    assert small / rate(128, 2) < many / few


def test_exchanges_of_experts_hide_under_another_microbatch_and_keep_cores() -> None:
    plan = TrainPlan(dp=8, ep=8, batch=8, seq=4096, attention="flash3", fused_norm=True, dispatch="deepep")
    bare, half, hidden = (
        train("mixtral-8x22b", "hgx_h800", replace(plan, ep_overlap=share), stack="megatron-core").summary
        for share in (0.0, 0.5, 1.0)
    )
    assert half["exposed_ep_s"] == pytest.approx(bare["exposed_ep_s"] / 2)
    assert hidden["exposed_ep_s"] == 0  # compute is longer here
    # 24 of 132 cores are the exchange's while it runs: what it hides is not free
    saved = bare["step_s"] - hidden["step_s"]
    assert 0 < saved < bare["exposed_ep_s"]
