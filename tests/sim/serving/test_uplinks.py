"""Ways to the host: devices of a replica share a PCIe switch in every fidelity, replicas share one in the replay."""

import dataclasses
import functools

import numpy as np
import pytest

from hw_models import catalog
from hw_models.device import machine
from kernels.engine.price import HOST_BLOCK
from kernels.errors import InputError
from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from sim.serving.engine import serve
from sim.serving.limits import Limits, Options
from sim.serving.plugin import find
from sim.serving.replay import Replay
from sim.serving.step_price import build
from sim.serving.uplinks import uplinks
from tests.sim.serving.serving_case import load, same
from workloads import formats, models, placement
from workloads.placement import Placement

PCIE5 = 63.015e9  # bytes a second a direction, of a device and of a switch's way up
BLOCK_BYTE = 1e6  # on each device


@functools.cache
def priced(tp=1, pp=1, system="dgx_h100"):
    model = models.load("llama-3.2-1b")
    arrays = machine(catalog.system(system))
    return build(model, formats.Formats(), placement.make(model, tp, pp), arrays, max_token=256, max_seq=8,
                 block_token=8, block_byte=BLOCK_BYTE)  # fmt: skip


@pytest.mark.parametrize(("tp", "pp", "sharing"), [(1, 1, 1), (2, 1, 2), (1, 2, 2), (4, 1, 2), (8, 1, 2)])
def test_devices_of_a_replica_share_the_switch_that_the_node_file_names(tp, pp, sharing):
    # a DGX H100 has two devices behind each switch: both of a replica's move their parts at once
    price, _ = priced(tp, pp)
    assert price.host_ps[HOST_BLOCK] == round(sharing * BLOCK_BYTE / PCIE5 * 1e12)


def test_devices_on_the_sockets_have_their_links_to_themselves():
    node = catalog.system("h100_nvl_x8").node
    assert node.num_pcie_switch == 0
    price, _ = priced(4, 1, "h100_nvl_x8")
    assert price.host_ps[HOST_BLOCK] == round(BLOCK_BYTE / node.host_link.byte_per_s * 1e12)


def twins(num_replica, num=10):
    """Each request once for every replica, at the same time: with turns in order, the replicas do the same."""
    random = np.random.default_rng(4)
    at_us = np.repeat(np.sort(random.integers(0, 20_000, num)), num_replica)
    return load(at_us, np.repeat(random.integers(1, 90, num), num_replica),
                np.repeat(random.integers(1, 60, num), num_replica))  # fmt: skip


def limits(num_replica):
    return Limits(num_block=24, block_token=8, max_context_token=160, num_replica=num_replica, preemption="swap",
                  host_block=200)  # fmt: skip


def replayed(num_replica, placed, record=False):
    price, lowered = priced(placed.tp)
    links = uplinks(catalog.system("dgx_h100").node, placed)
    plugins = find("policy", "vllm_v1:max_token=64,max_seq=6"), find("router", "round_robin")
    trace = twins(num_replica)
    options = Options(record_steps=record)
    replay = Replay(trace, price, lowered, *plugins, limits(num_replica), options, links)
    found = replay.result()
    return serve(trace, price, *plugins, limits(num_replica), options), found, replay, links


@pytest.mark.parametrize(("tp", "dp"), [(2, 2), (1, 1)])
def test_without_a_contender_the_replay_is_the_calibrated_run(tp, dp):
    alone, found, replay, links = replayed(dp, Placement(tp=tp, dp=dp), record=True)
    assert links.num_shared == 0
    assert found.counter["num_swap"].sum() > 0
    same(alone, found)
    assert replay.contended_ps == 0


def test_two_replicas_that_swap_at_once_behind_one_switch_take_twice_as_long():
    alone, found, replay, links = replayed(2, Placement(tp=1, dp=2), record=True)
    assert links.num_shared == 1
    moved = found.counter["num_moved_block"]
    assert moved[0] == moved[1] > 0
    block_ps = int(priced()[0].host_ps[HOST_BLOCK])
    assert replay.contended_ps == moved.sum() * block_ps  # as much again as alone
    # bytes are conserved: each device's over its link, both over the switch
    moved_byte = moved.sum() * BLOCK_BYTE
    assert replay.fabric.link_byte[links.num_link - 1] == pytest.approx(moved_byte, rel=1e-6)
    assert replay.fabric.link_byte[:2] == pytest.approx([moved_byte / 2] * 2, rel=1e-6)
    assert found.request["end_ps"].max() > alone.request["end_ps"].max()
    assert (found.request["end_ps"] >= alone.request["end_ps"]).all()
    assert found.stage_busy_ps.sum() == alone.stage_busy_ps.sum() + replay.contended_ps
    assert found.step[:, 3].max() == found.span_ps


def test_replicas_on_other_switches_do_not_meet():
    links = uplinks(catalog.system("dgx_h100").node, Placement(tp=1, dp=8))
    assert links.num_shared == 4
    assert [route[0, 1] for route in links.route] == [8, 8, 9, 9, 10, 10, 11, 11]
    assert uplinks(catalog.system("dgx_h100").node, Placement(tp=4, dp=4)).num_shared == 0  # on two nodes
    assert uplinks(catalog.system("dgx_h100").node, Placement(tp=3, dp=2)).share == (PCIE5 / 2, PCIE5 / 2)
    assert uplinks(catalog.system("h100_nvl_x8").node, Placement(dp=8)).num_shared == 0


def test_a_replay_says_what_contends_and_refuses_what_it_has_no_links_for():
    base = Scenario(model="gpt2", system="dgx_h100", dp=2, requests="poisson:rate=200,n=12,prompt=40,output=6")
    plain, replay = (simulate(dataclasses.replace(base, fidelity=name)) for name in ("calibrated", "replay"))
    for column, values in plain.result.request.items():
        np.testing.assert_array_equal(values, replay.result.request[column], err_msg=column)
    assert any("nothing contends" in text for text in replay.run.about["note"])
    swaps = dataclasses.replace(base, fidelity="replay", preemption="swap", swap_GiB=4.0)
    assert any("behind one PCIe switch" in text for text in simulate(swaps).run.about["note"])
    load_text = "poisson:rate=200,n=12,prompt=40,output=6,num_adapter=3"
    with pytest.raises(InputError, match="fetches of adapters"):
        simulate(dataclasses.replace(base, fidelity="replay", requests=load_text, lora_rank="8"))
