"""Attention on one machine, feed-forward on another: prices, memory, joules and rent of both."""

import numpy as np
import pytest

from hw_models import catalog
from hw_models.device import rate
from hw_models.power import rest_w
from kernels.errors import InputError
from kernels.machine import IDLE_W, LINK_BYTE_PER_S, LINK_LATENCY_S, LINK_OUT, Machine
from kernels.optable import P2P
from sim.cluster.simulate import simulate_pools
from sim.cluster.simulate_operation import simulate_operation
from sim.cluster.simulate_pools_operation import simulate_pools_operation
from sim.recommend.deployment import Deployment, PoolOf
from sim.recommend.outcome import run_deployment
from sim.recommend.recommend import recommend
from sim.run.predictor import Batch, BatchTime
from sim.run.results import roofline_frames, write_results
from sim.run.scenario import Scenario
from sim.run.setup import Setup, prepare
from sim.run.simulate import simulate, simulate_intervals
from sim.serving.apart import FfnSide
from sim.serving.result import REQUEST_COLUMNS
from sim.serving.step_price import Lowered, build, step_cost
from sim.show.exports import export
from sim.show.roofline import roofline
from workloads.lowering import Plan

LOAD = "poisson:rate=100,n=40,prompt=uniform:min=20:max=300,output=uniform:min=5:max=60"
NOW = {"link_byte_per_s": np.inf, "latency_s": 0.0}  # a network that takes no time


def scenario(**change: object) -> Scenario:
    base = {
        "model": "llama-3-8b", "system": "h100_sxm", "requests": LOAD, "policy": "vllm_v1:max_token=512,max_seq=64",
        "fidelity": "sol", "engine": "none",
    }  # fmt: skip
    return Scenario(**(base | change))  # type: ignore[arg-type]


def linked(machine: Machine, link_byte_per_s: float, latency_s: float) -> Machine:
    """The machine with other network ports."""
    link = machine.link.copy()
    link[LINK_OUT, [LINK_BYTE_PER_S, LINK_LATENCY_S]] = link_byte_per_s, latency_s
    return machine._replace(link=link)


def step_of(setup: Setup, plan: Plan, num_microbatch: int = 1, **ports: float) -> tuple[int, Lowered]:
    """Picoseconds of a step of a set-up, with these network ports on both machines."""
    machine, ffn = setup.machine, setup.ffn
    if ffn is not None:
        there = linked(ffn.machine, **ports) if ports else ffn.machine
        ffn = FfnSide(there, ffn.placement, num_microbatch)
        machine = linked(machine, **ports) if ports else machine
    price, lowered = build(
        setup.model, setup.formats, setup.placement, machine, max_token=512, max_seq=256, skew=setup.expert_skew,
        ffn=ffn,
    )  # fmt: skip
    return int(step_cost(price, price, plan)[0][0]), lowered


def near_links(lowered: Lowered, num_token: int) -> np.ndarray:
    """Picoseconds of the hand-overs of a step."""
    _, near, _ = lowered.dense_tables(0, [num_token])
    return np.asarray(near.cost["time_ps"][near.ops["kind"] == P2P])


def decodes(num: int, kv_len: int = 1024) -> Plan:
    one = np.ones(num, np.int64)
    return Plan(one, one * kv_len, one > 0, one > 0)


MIXED = Plan(np.array([100, 1, 1]), np.array([100, 500, 900]), np.array([0, 1, 1]) > 0, np.array([1, 1, 1]) > 0)
PLANS = [decodes(1), decodes(64), MIXED]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("model", ["llama-3-8b", "gemma-2-27b"])
def test_one_microbatch_without_a_network_is_one_machine(plan, model):
    plain, _ = step_of(prepare(scenario(model=model)), plan)
    parted, _ = step_of(prepare(scenario(model=model, ffn_system="h100_sxm")), plan, **NOW)
    assert parted == plain


@pytest.mark.parametrize("plan", PLANS)
def test_hand_overs_are_what_the_network_takes(plan):
    # both machines alike: a microsecond a way and 8 KiB a token over 10 GB/s, twice a layer
    token = int(plan.query_len.sum())
    plain, _ = step_of(prepare(scenario()), plan)
    parted, _ = step_of(prepare(scenario(ffn_system="h100_sxm")), plan, link_byte_per_s=1e10, latency_s=1e-6)
    assert (parted - plain) * 1e-12 == pytest.approx(2 * 32 * (1e-6 + token * 4096 * 2 / 1e10), rel=1e-6)


def test_a_slower_network_is_slower_and_its_latency_counts():
    setup = prepare(scenario(ffn_system="h100_sxm"))
    for num in (1, 2, 4):
        took = [step_of(setup, decodes(64), num, link_byte_per_s=rate, latency_s=late)[0]
                for rate, late in ((np.inf, 0.0), (1e10, 0.0), (1e9, 0.0), (1e9, 1e-4))]  # fmt: skip
        assert took == sorted(took)
        assert took[0] < took[2] < took[3]


def test_microbatches_are_no_faster_than_the_slower_side_and_no_slower_than_one_after_another():
    setup = prepare(scenario(ffn_system="h100_sxm"))
    plan = decodes(96, 8192)
    price, _ = build(setup.model, setup.formats, setup.placement, setup.machine, max_token=512, max_seq=256)
    attends = int(step_cost(price, price, plan)[0][0]) - int(price.dense_ps[0, 96])  # and the head
    for num in (2, 3, 4):
        took, lowered = step_of(setup, plan, num)
        ends, near, far = (int(table.cost["time_ps"].sum()) for table in lowered.dense_tables(0, [96]))
        links = int(near_links(lowered, 96).sum())
        assert max(ends + near - links + attends, far) < took < ends + near + attends + far


def test_balanced_sides_come_near_the_maximum_in_place_of_the_sum():
    # four attention groups before one feed-forward side, keys enough that both take about as long
    setup = prepare(scenario(attn_dp=4, ffn_system="h100_sxm"))
    one, lowered = step_of(setup, decodes(256, 2000), 1, **NOW)
    _, _near, far = lowered.dense_tables(0, [256])
    far_ps = int(far.cost["time_ps"].sum())
    near_ps = one - far_ps
    two, parts = step_of(setup, decodes(256, 2000), 2, **NOW)
    twice = int(parts.dense_tables(0, [256])[2].cost["time_ps"].sum())  # weights are read for each microbatch
    assert two < 0.75 * (near_ps + twice)
    assert two == pytest.approx(max(near_ps, twice), rel=0.15)


def test_attention_groups_share_the_feed_forward_side():
    # of 4 groups each has a quarter of the tokens; the other side has all of them, weights read once
    one, four = (prepare(scenario(attn_dp=groups, ffn_system="h100_sxm")) for groups in (1, 4))
    _, wide = step_of(four, decodes(64))
    _, narrow = step_of(one, decodes(64))
    (_, near4, far4), (_, near1, far1) = wide.dense_tables(0, [64]), narrow.dense_tables(0, [64])
    name = near4.ops["name"][0] == b"qkv_proj"
    assert near4.ops["m"][0, name][0] * 4 == near1.ops["m"][0, name][0] == 64
    assert (far4.ops["m"] == far1.ops["m"]).all()
    assert (near4.num_device, far4.num_device) == (4, 1)
    assert four.num_device == 5
    assert four.num_block > 3.9 * one.num_block


def test_kv_has_the_room_of_the_weights_that_went():
    plain, parted = prepare(scenario()), prepare(scenario(ffn_system="h100_sxm", ffn_tp=2))
    assert parted.ffn is not None
    went = plain.budget.weight["ffn"]
    assert went == 32 * 3 * 4096 * 14336 * 2
    assert parted.ffn.weight == {"ffn": went // 2, "expert": 0}
    narrower = plain.budget.activation - parted.budget.activation  # no tensor of 3 x 14336 channels
    assert parted.budget.kv - plain.budget.kv == went + narrower
    assert narrower > 0
    assert parted.num_block * 16 * 131072 == pytest.approx(parted.budget.kv, rel=1e-3)


@pytest.mark.parametrize("change", [
    {}, {"num_microbatch": 3}, {"attn_dp": 2, "num_microbatch": 2, "ffn_tp": 2},
    {"model": "mixtral-8x7b", "tp": 2, "ffn_ep": 4, "ffn_system": "h20", "num_microbatch": 2},
])  # fmt: skip
def test_running_ahead_and_stepping_are_the_same_integers_and_the_books_add_up(change):
    fields = {"ffn_system": "h100_sxm"} | change
    ahead, stepping = (simulate(scenario(**fields, run_ahead=run_ahead)) for run_ahead in (True, False))
    for name in REQUEST_COLUMNS:
        np.testing.assert_array_equal(ahead.result.request[name], stepping.result.request[name], err_msg=name)
    np.testing.assert_array_equal(ahead.result.stage_busy_ps, stepping.result.stage_busy_ps)
    saved = int(ahead.result.counter["beside_ps"].sum())
    assert (saved > 0) == (fields.get("num_microbatch", 1) > 1)
    assert int(ahead.accounts.time_ps.sum()) - saved == int(ahead.result.stage_busy_ps.sum())


def test_a_batch_costs_what_a_step_costs():
    fields = {"ffn_system": "h100_sxm", "num_microbatch": 3, "fidelity": "sol", "engine": "none"}
    batch = BatchTime("llama-3-8b", "h100_sxm", policy="vllm_v1:max_token=512,max_seq=64", **fields)
    setup = prepare(scenario(ffn_system="h100_sxm"), 512, 64)
    for plan, asked in ((decodes(48), Batch(decode=[1023] * 48)), (MIXED, Batch(prefill=[100], decode=[499, 899]))):
        assert batch.picoseconds(asked) == step_of(setup, plan, 3)[0]
    assert batch.predict_decode_latency(48, 1023) == pytest.approx(step_of(setup, decodes(48), 3)[0] * 1e-9)
    assert batch.predict_prefill_latency(2, 90) == pytest.approx(1e3 * batch.seconds(Batch(prefill=[90, 90])))


def test_joules_rent_and_devices_are_of_both_machines():
    plain = simulate(scenario())
    done = simulate(scenario(ffn_system="h20", ffn_tp=2, num_microbatch=2))
    totals, idle = done.run.totals, done.accounts.side_idle_w
    assert totals["num_device"] == 3
    h20_usd = prepare(scenario(system="h20")).price_usd_per_h
    assert totals["usd_per_h"] == pytest.approx(plain.run.totals["usd_per_h"] + 2 * h20_usd)
    assert idle[0] > 0
    assert idle[1] > 0
    parts = sum(value for name, value in totals.items() if name.startswith("energy_") and name != "energy_j")
    assert parts == pytest.approx(totals["energy_j"])
    assert totals["energy_j"] > done.result.span_ps * 1e-12 * sum(idle)
    assert sum(done.accounts.side_nj(side) for side in range(2)) * 1e-9 == pytest.approx(totals["energy_j"])
    assert "feed-forward on 2 h20" in done.run.about["machines"]
    assert "and 2 h20" in done.setup.title
    assert "machines" not in plain.run.about


def test_what_knows_one_machine_refuses_two_and_a_page_says_so(tmp_path):
    fields = scenario(ffn_system="h20", requests="batch:n=4,prompt=60,output=6")
    done = simulate(fields)
    assert "Not drawn: the layers of this run are on two machines" in done.page()
    written = write_results(done, tmp_path)
    assert "latency.png" in {path.name for path in written}
    assert "roofline.png" not in {path.name for path in written}
    for ask in (
        lambda: roofline(fields), lambda: recommend(fields, 1.0, 0.1), lambda: simulate_operation(fields),
        lambda: export(done, "llm_d"), lambda: export(done, "inferencex"), lambda: export(done, "vllm_serve"),
        lambda: roofline_frames(done), lambda: simulate_intervals(scenario(ffn_system="h20", fidelity="calibrated"), 2),
        lambda: simulate_pools_operation(scenario(), {}, {"ffn_system": "h20"}),
    ):  # fmt: skip
        with pytest.raises(InputError, match="ffn_system"):
            ask()


def test_a_pool_that_decodes_may_be_two_machines():
    done = simulate_pools(
        scenario(engine="vllm_0.15", fidelity="calibrated"), {"dp": 1}, {"ffn_system": "h20", "num_microbatch": 2}
    )
    assert (done.result.request["end_ps"] > 0).all()


@pytest.mark.parametrize(("change", "field"), [
    ({"pp": 2}, "pp"), ({"speculate": "chain:k=2,accept=0.5"}, "speculate"), ({"fidelity": "replay"}, "fidelity"),
    ({"lora_rank": "8"}, "lora_rank"), ({"attention": "relay"}, "attention"), ({"price_USDph": 2.0}, "price_USDph"),
    ({"ffn_system": "neupims_x8"}, "ffn_system"), ({"ffn_ep": 2}, "ffn_ep"), ({"ffn_tp": 5}, "ffn_tp"),
    ({"model": "nemotron-h-8b"}, "ffn_system"), ({"model": "mixtral-8x22b"}, "ffn_system"),
    ({"ffn_system": "", "ffn_tp": 2}, "ffn_tp"), ({"ffn_system": "", "num_microbatch": 2}, "num_microbatch"),
    ({"model": "mixtral-8x7b", "ep": 2, "tp": 2, "ffn_ep": 8}, "ep"), ({"ffn_system": "rtx_9090"}, "rtx_9090"),
])  # fmt: skip
def test_what_is_not_done_is_refused_by_name(change, field):
    with pytest.raises(InputError, match=field):
        simulate(scenario(**({"ffn_system": "h100_sxm"} | change)))


@pytest.mark.parametrize("roles", [("prefill", "decode"), ("mixed", "mixed")])
def test_a_deployment_counts_devices_and_watts_of_both_machines(roles: tuple[str, str]) -> None:
    """Three devices that do next to nothing draw what being awake takes, each at its own wall."""
    light = scenario(requests="poisson:rate=0.5,n=6,prompt=50,output=2")
    changes: tuple[tuple[str, object], ...] = (("ffn_system", "b200"),)
    found = run_deployment(Deployment(light, (PoolOf((), roles[0]), PoolOf(changes, roles[1]))))
    awake = [(one, rate(one.device)[IDLE_W]) for one in map(catalog.system, ("h100_sxm", "h100_sxm", "b200"))]
    idle = sum(watts + rest_w(one, watts, 1) for one, watts in awake)
    assert found["num_device"] == 3
    assert idle < found["mean_wall_power_w"] < 1.1 * idle
