"""Laws that hold whatever the load: Little's, independent halves, bytes on links, memory that follows who lives."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from kernels.engine import records as at
from sim.cluster.world import Cluster, serve_pools
from sim.serving.limits import Options
from sim.serving.plugin import find
from tests.sim.cluster.test_meetings import part
from tests.sim.serving.serving_case import load

SPLIT_ROUTER = """
from kernels.engine.routing import num_replica, outstanding

HELP = "of the half that a request's number names, the engine with the fewest requests"


def route(f, i):
    half = num_replica(f) // 2
    first = (i % 2) * half
    best = first
    for k in range(first, first + half):
        if outstanding(f, k) < outstanding(f, best):
            best = k
    return best
"""
WHOLE_ROUTER = SPLIT_ROUTER.replace("num_replica(f) // 2", "num_replica(f)").replace("(i % 2) * half", "0")


def trace(num=240, gap_us=40, seed=2):
    random = np.random.default_rng(seed)
    return load(
        np.cumsum(random.exponential(gap_us, num)).astype(int), random.integers(1, 90, num),
        random.integers(1, 40, num),
    )  # fmt: skip


def chosen(requests, rows):
    picked = (requests.arrival_ps[rows] // 10**6, requests.prompt_token[rows], requests.output_token[rows])
    return load(*picked)


@pytest.mark.parametrize("engine", ["auto", "stepping"])
def test_independent_halves_of_a_cluster_are_two_clusters(tmp_path, engine):
    """Requests of even number on one half of the engines, of odd number on the other: links are an engine's own, so
    neither half knows of the other, and each is what it would be alone, with half of the engines."""
    (tmp_path / "split.py").write_text(SPLIT_ROUTER)
    (tmp_path / "whole.py").write_text(WHOLE_ROUTER)
    both = trace()

    def served(requests, router, share):
        path = str(tmp_path / router)
        pools = [part("prefill", 4 // share, path), part("decode", 6 // share, path)]
        return serve_pools(requests, pools, options=Options(engine=engine))

    together = served(both, "split.py", 1)
    steps = moved = 0
    for side in range(2):
        rows = np.arange(side, len(both), 2)
        alone = served(chosen(both, rows), "whole.py", 2)
        for name in ("first_token_ps", "transfer_ps", "last_token_ps", "end_ps", "produced_token"):
            np.testing.assert_array_equal(together.request[name][rows], alone.request[name], err_msg=name)
        steps += sum(pool.counter["num_step"].sum() for pool in alone.pool.values())
        moved += alone.moved_byte
    assert steps == sum(pool.counter["num_step"].sum() for pool in together.pool.values())
    assert moved == together.moved_byte


@pytest.mark.parametrize("engine", ["auto", "stepping"])
def test_bytes_on_the_links_are_the_kv_that_was_handed_over(engine, monkeypatch):
    requests = trace()
    found = {}
    if engine == "auto":
        from sim.cluster import ahead

        run = ahead.Ahead.finish

        def kept(self):
            run(self)
            found["byte"] = self.flow.link_byte

        monkeypatch.setattr(ahead.Ahead, "finish", kept)
    else:
        from sim.cluster import clock

        run = clock.Clock.finish

        def kept(self):
            run(self)
            found["byte"] = self.fabric.link_byte

        monkeypatch.setattr(clock.Clock, "finish", kept)
    done = serve_pools(requests, [part("prefill", 2), part("decode", 3)], options=Options(engine=engine))
    moved = requests.output_token > 1
    kv_byte = 1000.0 * requests.prompt_token
    assert done.moved_byte == kv_byte[moved].sum()
    out, into = found["byte"][:2], found["byte"][2:]
    for links, column in ((out, "first_replica"), (into, "last_replica")):
        expected = np.bincount(done.request[column][moved], kv_byte[moved], len(links))
        assert links == pytest.approx(expected, rel=1e-9)
    assert out.sum() == pytest.approx(done.moved_byte, rel=1e-9)


def test_littles_law_holds_for_the_kv_of_each_pool():
    """The KV that is held, over time, is the KV of each request times how long it is held: of the pool that prefills
    from its admission to the end of its transfer. One request at a time, so that it can be added up by hand."""
    num = 12
    gap_us = 2000  # longer than any of them takes
    requests = load(np.arange(num) * gap_us, np.full(num, 40), np.full(num, 6))
    done = serve_pools(requests, [part("prefill", 1), part("decode", 1)])
    r = done.request
    # ten blocks of four tokens from the start of the prompt's step until the KV has left
    held_ps = r["first_token_ps"] + r["transfer_ps"] - r["start_ps"]
    assert done.pool["prefill"].kv_token_ps[0, 3] == 40.0 * held_ps.sum()


@pytest.mark.parametrize("engine", ["auto", "stepping"])
@pytest.mark.parametrize("gap_us", [20, 200])
def test_littles_law_holds_for_those_who_prefill_wait_for_links_and_decode(engine, gap_us):
    """However many overlap: blocks held over time, as the engines count them, are each request's blocks times its time.
    A prompt's are taken when its step begins and given back when its KV has left; who decodes is counted with the
    tokens of its end, from its first step on. Both pools have room for all."""
    requests = trace(gap_us=gap_us)
    whole = find("policy", "vllm_v0:max_token=256,max_seq=16")
    first = dataclasses.replace(part("prefill", 2, num_block=8000), policy=whole)
    done = serve_pools(requests, [first, part("decode", 2, num_block=8000)], options=Options(engine=engine))
    r = done.request
    token = -(-requests.prompt_token // 4) * 4
    left_ps = np.where(r["transfer_ps"] >= 0, r["first_token_ps"] + r["transfer_ps"], r["first_token_ps"])
    held = (token * (left_ps - r["start_ps"])).sum()
    assert done.pool["prefill"].kv_token_ps[:, 3].sum() == pytest.approx(held, rel=1e-12)
    there = r["transfer_ps"] >= 0
    decode = done.pool["decode"]
    spent_ps = (r["end_ps"] - left_ps)[there]
    final = (requests.prompt_token + requests.output_token - 1)[there]
    assert decode.kv_token_ps[:, 1].sum() <= (final * spent_ps).sum() * (1 + 1e-12)  # before, it waits


def test_a_pool_that_decodes_holds_rows_of_those_who_came(monkeypatch):
    cluster = Cluster(trace(), [part("prefill", 2), part("decode", 3)], "whole", 0.0, Options())
    assert not cluster.last.world.seq["end_ps"].any()  # nothing is written before a request is handed over
    done = cluster.run()
    there = done.request["transfer_ps"] >= 0
    assert (cluster.last.world.seq["status"][there] == at.FINISHED).all()
    assert not cluster.last.world.seq["arrival_ps"][~there].any()


MEMORY = """
import resource, sys
import numpy as np
from sim.cluster.world import serve_pools
from tests.sim.cluster.test_meetings import part
from tests.sim.serving.serving_case import load

num = int(sys.argv[1])
random = np.random.default_rng(0)
requests = load(np.arange(num) * 60, random.integers(1, 60, num), random.integers(2, 12, num))
done = serve_pools(requests, [part("prefill", 10), part("decode", 10)])
assert (done.request["end_ps"] >= 0).all()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="pages are given back on Linux alone")
def test_memory_of_pools_follows_who_lives():
    """A request that has left keeps its columns, and none of the 248 bytes of its row in either pool."""
    from sim.serving.result import REQUEST_COLUMNS

    def peak_byte(num):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", MEMORY, str(num)], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    few, many = 50_000, 450_000
    each = (peak_byte(many) - peak_byte(few)) / (many - few)
    columns = sum(at.SEQUENCE[field].itemsize for field in REQUEST_COLUMNS.values())
    assert find("router", "least_token").compiled
    # the load, what is on its way, the columns of two pools and of the result, and one row until it is dropped
    assert each < 53 + 8 * 3 + 32 + 2 * columns + 13 * 8 + at.SEQUENCE.itemsize
