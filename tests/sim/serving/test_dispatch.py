"""What units in the memory do under the serving engine: the same integers by every way of running, and physics."""

import numpy as np
import pytest

from hw_models import catalog, dispatch
from kernels.errors import InputError
from kernels.optable import BOUND_PIM_COMPUTE, MOE
from kernels.serving import layout as at
from kernels.serving.price import pack
from sim.run.scenario import Scenario
from sim.run.setup import prepare
from sim.run.simulate import simulate
from sim.serving.result import REQUEST_COLUMNS
from sim.serving.step_price import build, step_cost
from studies._co_process import POLICIES, step
from workloads import models
from workloads.lowering import Plan

LOAD = "poisson:rate=200,n=24,prompt=uniform:min=50:max=400,output=uniform:min=5:max=40"


def scenario(**change: object) -> Scenario:
    base = {
        "model": "mixtral-8x7b", "system": "duplex_x8", "tp": 4, "ep": 4, "requests": LOAD, "fidelity": "sol",
        "policy": "sarathi:max_token=192,max_seq=12", "max_model_len": 2048,
    }  # fmt: skip
    return Scenario(**(base | change))  # type: ignore[arg-type]


@pytest.mark.parametrize("dispatch_", ["", "best:beside=attention", "pim", "op_b", "xpu"])
def test_run_ahead_stepping_and_replay_are_the_same_integers(dispatch_):
    ahead = simulate(scenario(dispatch=dispatch_)).result
    stepping = simulate(scenario(dispatch=dispatch_, run_ahead=False)).result
    replay = simulate(scenario(dispatch=dispatch_, fidelity="replay")).result if dispatch_ == "" else None
    for name in REQUEST_COLUMNS:
        np.testing.assert_array_equal(ahead.request[name], stepping.request[name], err_msg=name)
    for name in ("attn_ps", "attn_nj", "attn_kb", "attn_mflop", "stage_busy_ps"):
        np.testing.assert_array_equal(getattr(ahead, name), getattr(stepping, name), err_msg=name)
    assert ahead.counter["beside_ps"][0] == stepping.counter["beside_ps"][0]
    assert (ahead.counter["beside_ps"][0] > 0) == (dispatch_ in ("", "best:beside=attention"))
    assert replay is None or replay.engine == "replay"


def test_replay_runs_attention_of_prompts_and_decodes_on_two_engines():
    # `replay` serves again on SimPy with an engine each, at calibrated prices here: the same clock as the step prices
    one = simulate(scenario(fidelity="replay"))
    two = simulate(scenario(fidelity="calibrated", engine="vllm_0.15"))
    assert two.result.counter["beside_ps"][0] > 0
    for name in REQUEST_COLUMNS:
        np.testing.assert_array_equal(one.result.request[name], two.result.request[name], err_msg=name)


def test_accounts_add_up_with_engines_side_by_side():
    done = simulate(scenario(), record_steps=True)
    spent, result = done.accounts, done.result
    saved = result.counter["beside_ps"].sum()
    assert spent.time_ps.sum() - saved == result.stage_busy_ps.sum()  # a joint time is counted by both engines
    steps = result.step
    assert steps is not None
    assert spent.energy_nj.sum() == steps[:, at.LOG_COLUMNS.index("energy_nj")].sum()
    totals = done.run.totals
    parts = [value for name, value in totals.items() if name.startswith("energy_") and name != "energy_j"]
    assert sum(parts) == pytest.approx(totals["energy_j"])
    assert min(parts) >= 0
    assert totals["energy_pim_memory_j"] > 0
    assert done.metrics["peak_power_w"] >= done.metrics["mean_power_w"] > 0


def test_a_mixed_step_hides_the_shorter_attention():
    setup = prepare(scenario(dispatch="pim:beside=attention,routing=even"))
    apart = prepare(scenario(dispatch="pim"))
    query, kv = np.array([64, 1, 1, 1]), np.array([64, 900, 1000, 700])
    plan = Plan(query, kv, query == 1, np.ones(4, bool))
    time = {}
    for name, one in (("beside", setup), ("apart", apart)):
        price, _ = build(one.model, one.formats, one.placement, one.machine, max_token=192, max_seq=12)
        time[name] = int(step_cost(pack(price), price, plan)[0][0])
    alone = [Plan(query[s], kv[s], query[s] == 1, np.ones(len(query[s]), bool)) for s in (slice(0, 1), slice(1, 4))]
    price, _ = build(apart.model, apart.formats, apart.placement, apart.machine, max_token=192, max_seq=12)
    attention = []
    for part in alone:  # what attention takes by itself: the step less its dense operators and head
        num = int(part.query_len.sum())
        total = int(step_cost(price, price, part)[0][0])
        attention.append(total - int(price.dense_ps[0, num] + price.head_ps[len(part.query_len)]))
    assert time["apart"] - time["beside"] == min(attention)  # bank bundles: neither slows the other


def test_where_operators_go():
    base = scenario(dispatch="xpu")
    done = {name: simulate(scenario(dispatch=name)) for name in ("xpu", "pim", "best", "op_b", "")}
    gpu = simulate(scenario(system="dgx_h100"))
    # everything on the xPU is an H100 but for the links of the published configuration
    h100 = simulate(scenario(system="h100_sxm")) if base.tp == 1 else gpu
    same = done["xpu"].accounts
    assert same.time_ps[same.kind == MOE].sum() == h100.accounts.time_ps[h100.accounts.kind == MOE].sum()
    assert not (same.bound >= BOUND_PIM_COMPUTE).any()
    experts = done["pim"].accounts.kind == MOE
    assert (done["pim"].accounts.bound[experts] >= BOUND_PIM_COMPUTE).all()
    span = {name: one.metrics["mean_e2el_ms"] for name, one in done.items()}
    assert span["best"] <= min(span["xpu"], span["pim"], span["op_b"]) * 1.001
    assert span["op_b"] < span["pim"]  # a prompt's experts are above the units' reach


def test_the_look_up_prices_experts_in_every_route():
    setup = prepare(scenario(), 192, 12)
    assert len(setup.machine.expert) == 193
    price, _ = build(setup.model, setup.formats, setup.placement, setup.machine, max_token=192, max_seq=12)
    first = setup.machine.expert[12, 0]
    assert price.dense_ps[0, 12] > 32 * first * 1e12  # 32 layers of experts and the rest
    each = prepare(scenario(dispatch="best:routing=uniform"), 192, 12)  # no split to be decided by a look-up
    assert (np.diff(each.machine.expert[:, 0]) >= 0).all()  # more tokens take no less
    step_s = step(
        models.load("mixtral-8x7b"),
        setup.system,
        POLICIES["pim+pe"],
        Plan(np.ones(12, np.int64), np.full(12, 100), np.ones(12, bool), np.ones(12, bool)),
        tp=4,
    ).expert_s
    assert step_s == pytest.approx(32 * setup.machine.expert[12, 0], rel=0.03)  # 32 layers; other draws of the routing


@pytest.mark.parametrize(
    ("system", "text", "word"),
    [
        ("bank_pim", "co_process", "block"), ("h100_sxm", "pim", "no units"), ("duplex_x8", "warp", "no such dispatch"),
        ("duplex_x8", "best:beside=everything", "no such beside"), ("duplex_x8", "best:op_per_byte=4", "only op_b"),
        ("duplex_x8", "best:speed=2", "no such option"),
    ],
)  # fmt: skip
def test_what_a_device_cannot_do_is_refused(system, text, word):
    with pytest.raises(InputError, match=word):
        dispatch.parse(text, catalog.system(system).device)


def test_a_skew_is_not_drawn():
    with pytest.raises(InputError, match="uniformly"):
        prepare(scenario(expert_skew=1.0))
    assert not len(prepare(scenario(expert_skew=1.0, dispatch="best")).machine.expert)


@pytest.mark.parametrize("system", ["hbm_pim", "aim", "bank_pim", "bankgroup_pim", "attacc"])
def test_every_part_serves(system):
    small = scenario(model="gpt2", system=system, tp=1, ep=1, requests="batch:n=4,prompt=64,output=16", max_model_len=0)
    done = simulate(small)
    assert done.metrics["completed"] == 4
    assert done.run.totals["energy_pim_memory_j"] > 0
