"""The trace of two pools: a request passes prompt, link and decode one after another, and an arrow follows it."""

import json
from collections import defaultdict

import numpy as np
import pytest

from kernels.errors import InputError
from sim.cli import main
from sim.cluster.world import serve_pools
from sim.show.pool_trace import LINKS, pool_events
from tests.sim.cluster.test_meetings import part
from tests.sim.serving.serving_case import load

RANDOM = np.random.default_rng(4)
REQUESTS = load(np.sort(RANDOM.integers(0, 4000, 60)), RANDOM.integers(1, 60, 60), RANDOM.integers(1, 20, 60))


@pytest.fixture(scope="module")
def done():
    return serve_pools(REQUESTS, [part("prefill", 2), part("decode", 3)])


def test_slices_of_a_row_do_not_overlap_but_where_one_holds_the_other(done):
    rows = defaultdict(list)
    for event in pool_events(done):
        if event["ph"] == "X":
            rows[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for each in rows.values():
        for begin, end in each:
            for other, until in each:
                apart = end <= other + 1e-9 or until <= begin + 1e-9
                holds = begin <= other + 1e-9 and until <= end + 1e-9
                inside = other <= begin + 1e-9 and end <= until + 1e-9
                assert apart or holds or inside


def test_an_arrow_follows_each_request_that_was_handed_over(done):
    moved = np.flatnonzero(done.request["transfer_ps"] >= 0)
    assert 0 < len(moved) < len(REQUESTS)  # some end with their first token
    arrow = defaultdict(dict)
    slices = defaultdict(list)
    for event in pool_events(done):
        if event["ph"] in "stf":
            arrow[event["id"]][event["ph"]] = event
        elif event["ph"] == "X" and event["name"].startswith("request"):
            slices[event["name"]].append(event)
    assert sorted(arrow) == moved.tolist()
    for i, each in arrow.items():
        assert each["s"]["ts"] <= each["t"]["ts"] <= each["f"]["ts"]
        prompt, transfer, decode = slices[f"request {i}"]
        assert transfer["pid"] == LINKS
        assert prompt["ts"] + prompt["dur"] == pytest.approx(transfer["ts"], abs=2e-3)
        assert transfer["ts"] + transfer["dur"] == pytest.approx(decode["ts"], abs=2e-3)
        assert decode["ts"] + decode["dur"] == pytest.approx(done.request["last_token_ps"][i] / 1e6, abs=2e-3)
        assert each["f"]["pid"] == decode["pid"]


def test_the_links_are_busy_for_the_time_of_all_transfers(done):
    spent = sum(one["dur"] for one in pool_events(done) if one["ph"] == "X" and one["pid"] == LINKS)
    r = done.request["transfer_ps"]
    assert spent == pytest.approx(r[r >= 0].sum() / 1e6, abs=0.1)


def test_what_is_no_trace(done):
    with pytest.raises(InputError, match="too many trace events"):
        pool_events(done, max_event=100)
    with pytest.raises(InputError, match="not pools with links between"):
        pool_events(serve_pools(REQUESTS, [part("mixed", 2)]))


def test_the_command_writes_it(tmp_path):
    file = tmp_path / "trace.json"
    words = ["pools", "--model", "llama-3.2-1b", "--system", "dgx_h100", "--prefill", "dp=1", "--decode", "dp=2"]
    assert main([*words, "--requests", "poisson:rate=20,n=20,prompt=200,output=20", "--trace", str(file)]) == 0
    found = json.loads(file.read_text())["traceEvents"]
    assert sum(event["ph"] == "f" for event in found) == 20
    assert {event["args"]["name"] for event in found if event["ph"] == "M"} >= {"prefill engine 0", "decode engine 1"}
