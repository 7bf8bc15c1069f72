"""Sub-batch interleaving under the serving engine: equal integers by every way of running, and the stage model's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_models import catalog
from kernels.errors import InputError
from kernels.machine import MAIN_SHARE, PIM_SHARE, RATES
from kernels.overlap import pair_cycle
from kernels.serving.price import decode_cost, pack
from kernels.serving.sub_batch import halves, passes
from sim.run.scenario import Scenario
from sim.run.setup import prepare
from sim.run.simulate import simulate
from sim.serving.result import REQUEST_COLUMNS
from sim.serving.step_price import build, step_cost
from studies._interleave import Shape, in_turn, pair
from workloads.lowering import Plan

LOAD = "poisson:rate=400,n=40,prompt=uniform:min=20:max=200,output=uniform:min=5:max=40"


def scenario(**change: object) -> Scenario:
    base = {
        "model": "gpt3-7b", "system": "neupims_x8", "tp": 4, "requests": LOAD, "fidelity": "calibrated",
        "policy": "vllm_v1:max_token=256,max_seq=24", "weight_format": "fp16", "kv_format": "fp16",
        "dispatch": "own:sub_batch_from=8",
    }  # fmt: skip
    return Scenario(**(base | change))  # type: ignore[arg-type]


def decodes(batch: int, kv_len: int) -> Plan:
    one = np.ones(batch, np.int64)
    return Plan(one, one * kv_len, one > 0, one > 0)


def cost_ps(batch: int, kv_len: int, **change: object) -> int:
    """Picoseconds of a decode step of one stage."""
    setup = prepare(scenario(**change))
    price, _ = build(setup.model, setup.formats, setup.placement, setup.machine, max_token=1024, max_seq=1024)
    return int(step_cost(price, price, decodes(batch, kv_len))[0].sum())


@pytest.mark.parametrize("pp", [1, 2])
def test_run_ahead_stepping_and_replay_are_the_same_integers(pp):
    ahead = simulate(scenario(pp=pp)).result
    stepping = simulate(scenario(pp=pp, run_ahead=False)).result
    for name in REQUEST_COLUMNS:
        np.testing.assert_array_equal(ahead.request[name], stepping.request[name], err_msg=name)
    np.testing.assert_array_equal(ahead.stage_busy_ps, stepping.stage_busy_ps)
    assert ahead.counter["beside_ps"][0] == stepping.counter["beside_ps"][0] != 0
    replay = simulate(scenario(pp=pp, fidelity="replay")).result  # two SimPy engines
    for name in REQUEST_COLUMNS:
        np.testing.assert_array_equal(ahead.request[name], replay.request[name], err_msg=name)


def test_a_step_is_the_sum_of_the_published_stages():
    # halves of 128: A + B + 31 (C + D) + E + F, each pair under the device's shares, from the same prices
    setup = prepare(scenario())
    price, _ = build(setup.model, setup.formats, setup.placement, setup.machine, max_token=1024, max_seq=1024)
    packed = pack(price)
    attend = float(decode_cost(packed, 0, 128, 128 * 300, 300)[0])
    before, layer, num_layer = halves(packed, 0, 256)
    part = catalog.device("neupims").pim
    assert part is not None
    rest = layer[0] - before[0]
    ends = before[0] + pair(part, before[1], attend) + pair(part, rest, attend) + rest
    expected = ends + (num_layer - 1) * 2 * pair(part, layer[0], attend)
    expected += float(price.head_ps[256])
    assert cost_ps(256, 300) == pytest.approx(expected, abs=num_layer)  # a pass is rounded to a picosecond


def test_a_layer_beside_the_study_of_its_published_simulator():
    # both from the same constants; the engine adds all-reduces (13 us a layer on these links) and the model's head
    price = cost_ps(256, 1024, dispatch="own:beside=nothing")
    seq_len, channel = np.full(256, 1024), np.arange(256) % 32
    stages = in_turn(catalog.device("neupims"), Shape(4096, 32, 4), seq_len, channel)
    assert stages.layer * 32 * 1000 == pytest.approx(price, rel=0.15)  # cycles of 1 ns; all-reduces are in the price


def test_the_switch_is_the_devices_own_and_interleaving_pays_at_large_batches():
    alone = "own:beside=nothing"
    assert cost_ps(255, 300, dispatch="own") == cost_ps(255, 300, dispatch=alone)  # below the device's 256
    # all-reduces, which the published simulator leaves out, run twice: 512 sequences of 300 tokens or 256 of 600 pay
    assert cost_ps(512, 300, dispatch="own") < cost_ps(512, 300, dispatch=alone)
    assert cost_ps(256, 600, dispatch="own") < cost_ps(256, 600, dispatch=alone)
    assert cost_ps(16, 300) > cost_ps(16, 300, dispatch=alone)  # both halves read the weights


@settings(max_examples=60, deadline=None)
@given(
    before=st.floats(0, 1e6), rest=st.floats(0, 1e7), attend=st.floats(0, 1e7),
    main=st.floats(0.5, 1), units=st.floats(0.5, 1),
)  # fmt: skip
def test_passes_last_as_long_as_the_longer_engine_and_no_longer_than_both(before, rest, attend, main, units):
    rate = np.ones(len(RATES))
    rate[MAIN_SHARE], rate[PIM_SHARE] = main, units
    a, b, c, d, e, f = passes((before, before), (before + rest, before + rest), attend, rate)
    assert c == d
    for found, work in ((b, before), (c, before + rest), (e, rest)):
        assert max(work, attend) - 1 <= found <= work + attend + 1
        assert found == pytest.approx(pair_cycle(work, attend, main, units), abs=1)
    assert a + f == pytest.approx(before + rest, abs=1.5)


@pytest.mark.parametrize(
    ("system", "text", "word"),
    [
        ("neupims_x8", "own:beside=nothing,sub_batch_from=4", "only beside=sub_batch"),
        ("neupims_x8", "own:sub_batch_from=x", "not a whole number"),
        ("h100_sxm", "best:beside=sub_batch", "no units"),
        ("neupims_blocked", "best:beside=sub_batch", "block"),
    ],
)
def test_what_cannot_be_split_is_refused(system, text, word):
    with pytest.raises(InputError, match=word):
        prepare(scenario(system=system, dispatch=text, tp=1, model="llama-3-8b"))
