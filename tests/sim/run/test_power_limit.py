"""A cap on board power: nothing draws more, prompts pay for it and decodes hardly do, and a kilowatt serves more."""

import pytest

from kernels.errors import InputError
from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from sim.sweep.sweep import sweep

BASE = {"model": "llama-3-8b", "system": "h100_sxm", "goodput": "e2el:1000"}
PROMPTS, DECODES = "batch:n=8,prompt=4000,output=1", "batch:n=32,prompt=64,output=128"


def metrics(requests, limit_w):
    return simulate(Scenario(**BASE, requests=requests, power_limit_W=limit_w)).metrics


@pytest.mark.parametrize("requests", [PROMPTS, DECODES])
def test_no_operator_draws_more_than_the_cap_and_a_lower_one_is_never_faster(requests):
    each = [metrics(requests, limit_w) for limit_w in (700.0, 500.0, 350.0)]
    for found, limit_w in zip(each, (700.0, 500.0, 350.0), strict=True):
        assert found["mean_power_w"] <= found["peak_power_w"] <= limit_w
    assert [found["duration"] for found in each] == sorted(found["duration"] for found in each)
    assert [found["mean_power_w"] for found in each] == sorted((f["mean_power_w"] for f in each), reverse=True)


def test_a_cap_at_the_tdp_changes_nothing():
    assert metrics(PROMPTS, 700.0) == metrics(PROMPTS, 0.0)


def test_decodes_hardly_notice_what_slows_prompts():
    """From 700 to 350 W, as Splitwise measured on its H100: the token phase does not notice, the prompt phase does."""
    slower = [metrics(load, 350.0)["duration"] / metrics(load, 0.0)["duration"] for load in (PROMPTS, DECODES)]
    assert slower[0] > 1.15
    assert slower[1] < 1.05


def test_goodput_a_kilowatt_is_goodput_over_the_power_at_the_wall():
    for limit_w in (0.0, 350.0):
        found = metrics(DECODES, limit_w)
        wall_kw = found["mean_wall_power_w"] / 1e3
        assert found["request_goodput_per_kw"] == pytest.approx(found["request_goodput"] / wall_kw)
    assert metrics(DECODES, 350.0)["request_goodput_per_kw"] > 1.2 * metrics(DECODES, 0.0)["request_goodput_per_kw"]


def test_caps_can_be_swept():
    rows = sweep(Scenario(**BASE, requests=DECODES), over={"power_limit_W": [350, 700]})
    assert rows["request_goodput_per_kw"].is_monotonic_decreasing


def test_what_is_no_cap():
    with pytest.raises(InputError, match=r"power_limit_W = 900\.0: not a power limit"):
        metrics(DECODES, 900.0)
    with pytest.raises(InputError, match="has no effect at peak rates"):
        simulate(Scenario(**BASE, requests=DECODES, power_limit_W=350.0, fidelity="sol"))
