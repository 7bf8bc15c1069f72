"""Dispatch and combine: copies against counting, closed forms at light, and what holds for every profile."""

import itertools
import math

import numpy as np
import pytest

from hw_models import catalog, profile
from hw_models.calibration.exchange_fit import fit_kernel, reached, shapes
from hw_models.device import best_fidelity, calibration, fit_rows, machine
from kernels import optable as op
from kernels.expert_exchange import (
    EXCHANGE_FIT,
    EXCHANGE_SHAPE,
    IDEAL_EXCHANGE,
    LL_MAX_TOKEN,
    LOW_LATENCY,
    copies,
    distinct,
    exchange_s,
)
from kernels.price import price_table

UP, OUT, CORE = 450e9, 50e9, 132.0
LINK = np.array([[UP, 0.0, 8.0], [OUT, 0.0, 64.0], [64e9, 0.0, 1.0]])
IDEAL = np.array(IDEAL_EXCHANGE)


def shape(token=4096.0, byte=7392.0, topk=8.0, expert=256.0, group=8.0, node=1.0, limit=0.0, core=0.0) -> np.ndarray:
    return np.array([token, byte, topk, expert, group, node, limit, core])


def fit(**values: float) -> np.ndarray:
    vector = IDEAL.copy()
    for name, value in values.items():
        vector[EXCHANGE_FIT.index(name)] = value
    return vector


@pytest.mark.parametrize(("expert", "topk", "part"), [(6, 2, 3), (8, 3, 2), (8, 8, 4), (4, 1, 4), (9, 4, 3)])
def test_distinct_parts_are_those_of_all_draws(expert: int, topk: int, part: int) -> None:
    draws = list(itertools.combinations(range(expert), topk))
    mean = np.mean([len({e * part // expert for e in draw}) for draw in draws])
    assert distinct(expert, topk, part) == pytest.approx(mean)


def test_node_limited_routing_reaches_no_more_nodes() -> None:
    free, limited = copies(shape(group=64.0, node=8.0)), copies(shape(group=64.0, node=8.0, limit=4.0))
    assert free[1] == pytest.approx(8 * (1 - math.comb(224, 8) / math.comb(256, 8)))
    assert limited[1] <= 4 < free[1]
    assert limited[0] < free[0]


def test_light_of_one_node_and_of_several() -> None:
    device, _ = copies(shape())
    one = exchange_s(shape(), CORE, LINK, IDEAL)
    assert one[0] == one[1] == pytest.approx(4096 * 7392 * device * 7 / 8 / UP)
    device, node = copies(shape(group=32.0, node=4.0))
    light_s = max(4096 * 7392 * node * 3 / 4 / OUT, 4096 * 7392 * device / 4 * 7 / 8 / UP)
    seconds, found_s, _ = exchange_s(shape(group=32.0, node=4.0), CORE, LINK, IDEAL)
    assert found_s == pytest.approx(light_s)
    assert found_s <= seconds <= 1.2 * found_s  # where two limits meet


def test_a_row_an_expert_sends_them_all_over_the_network() -> None:
    low = fit(ll_a_row_an_expert=1.0, ll_max_token=128.0)
    few, many = shape(token=100.0, group=32.0, node=4.0), shape(token=1000.0, group=32.0, node=4.0)
    assert exchange_s(few, CORE, LINK, low)[0] == pytest.approx(100 * 7392 * 8 * 3 / 4 / OUT, rel=0.01)
    assert exchange_s(many, CORE, LINK, low) == exchange_s(many, CORE, LINK, IDEAL)  # the other kernel


def test_cores_limit_what_is_copied() -> None:
    slow = fit(core_byte_per_s=1e10, num_core=20.0)
    device, _ = copies(shape())
    assert exchange_s(shape(), CORE, LINK, slow)[0] == pytest.approx(4096 * 7392 * device / 2e11, rel=0.05)
    half = exchange_s(shape(core=10.0), CORE, LINK, slow)[0]
    assert half == pytest.approx(4096 * 7392 * device / 1e11, rel=0.05)
    alone = fit(core_byte_per_s=1e10)  # one core an expert, and the device has more experts than cores
    assert exchange_s(shape(), CORE, LINK, alone)[0] == pytest.approx(4096 * 7392 * device * 7 / 8 / UP, rel=0.2)


def test_one_device_or_no_token_sends_nothing() -> None:
    for none in (shape(group=1.0), shape(token=0.0)):
        assert exchange_s(none, CORE, LINK, IDEAL)[:2] == (0.0, 0.0)


@pytest.mark.parametrize("name", ["h100_sxm", "a100_sxm", "b200", "l40s", "h200", "mi300x"])
def test_every_profile_is_slower_than_light_and_monotone(name: str) -> None:
    built = catalog.system(name, 64)
    arrays = machine(built, best_fidelity(built.device))
    assert LL_MAX_TOKEN == 2 * LOW_LATENCY
    for kind, (group, node) in itertools.product((op.DISPATCH, op.COMBINE), ((2, 1), (8, 1), (32, 4), (64, 8))):
        for latest in (
            arrays.fit[kind, 0],
            np.r_[arrays.fit[kind, 0][:LL_MAX_TOKEN], 0.0, arrays.fit[kind, 0][LL_MAX_TOKEN + 1 :]],
        ):
            last = 0.0
            for token in np.geomspace(1, 1e5, 40):
                seconds, light_s, _ = exchange_s(
                    shape(token=token, group=group, node=node), built.device.num_core, arrays.link, latest
                )
                assert seconds >= light_s > 0
                if latest[LL_MAX_TOKEN] == 0.0:
                    assert seconds >= last
                last = seconds


def test_a_machine_that_nobody_measured_takes_the_library_s_messages() -> None:
    built = catalog.system("a100_sxm", 8)
    arrays = machine(built, "calibrated")
    peers = calibration(built.device)[0].find("all_to_all", "any")
    assert peers is not None
    at = EXCHANGE_FIT.index("up_eff")
    assert arrays.fit[op.DISPATCH, 0, at] == peers.parameter["simple_eff"]
    assert profile.fit_array(None)[op.DISPATCH, 0, at] == 1.0  # light


def test_a_row_of_the_table_is_the_kernel_s_price() -> None:
    built = machine(catalog.system("h100_sxm", 16), "calibrated")
    ops, work = op.empty(2)
    ops["kind"], ops["m"], ops["n"], ops["topk"], ops["num_expert"] = [op.DISPATCH, op.COMBINE], 64, 7392, 8, 256
    ops["group_size"], ops["group_node"], ops["link_byte"] = 16, 2, 64 * 7392 * 6.5
    cost = price_table(ops, work, built)
    for i in range(2):
        wanted = exchange_s(shapes(ops)[i], 132.0, built.link, built.fit[ops["kind"][i], ops["fmt"][i]])[0]
        assert cost["time_ps"][i] == pytest.approx(wanted * 1e12, abs=1)
    assert len(EXCHANGE_SHAPE) == shapes(ops).shape[1]
    named = fit_rows(catalog.system("h100_sxm", 16), calibration(catalog.device("h100_sxm"))[0],
                     named={("dispatch", "bf16"): "deepep_normal"})  # fmt: skip
    assert named[op.DISPATCH, 2, LL_MAX_TOKEN] == 0.0 < built.fit[op.DISPATCH, 2, LL_MAX_TOKEN]


def test_a_fit_claims_no_more_of_the_links_than_its_rows_reach() -> None:
    token = np.geomspace(64, 65536, 24)
    ops, _ = op.empty(len(token))
    ops["kind"], ops["m"], ops["n"], ops["topk"], ops["num_expert"] = op.COMBINE, token, 14336, 8, 256
    ops["group_size"], ops["group_node"] = 8, 1
    link = machine(catalog.system("h100_sxm", 8)).link
    least = np.array([exchange_s(one, CORE, link, IDEAL)[1] for one in shapes(ops)])
    seconds = 3e-5 + 2 * least  # half of the links where the start no longer counts
    share = reached(ops, seconds, "h100_sxm")
    assert 0.45 < share < 0.5
    found = fit_kernel(ops, seconds, "h100_sxm", "deepep_normal", "rows", share)
    assert found.parameter["up_eff"] <= share * (1 + 1e-4)  # five figures are written
    assert found.held_out is not None
    assert found.held_out.mape < 0.05


def test_a_rounding_of_one_is_one_after_the_other_and_a_large_one_the_longest() -> None:
    two = shape(group=16.0, node=2.0)
    inside, ports = (
        exchange_s(two, CORE, np.array([[UP * a, 0, 8], [OUT * b, 0, 64], [64e9, 0, 1]]), fit(rounding=1.0))[0]
        for a, b in ((1.0, 1e9), (1e9, 1.0))
    )
    last = [exchange_s(two, CORE, LINK, fit(rounding=power))[0] for power in (1.0, 4.0, 64.0)]
    assert last[0] == pytest.approx(inside + ports)
    assert last[0] > last[1] > last[2] == pytest.approx(max(inside, ports))
