"""The console block: vLLM's lines, then what else a run says; sentences that name the bound."""

import dataclasses

import numpy as np

from sim.record.metrics import measure
from sim.show.report import bound_share, bound_words, console
from tests.sim.tiny_run import tiny_run


def test_the_block_has_the_lines_of_the_benchmark() -> None:
    run = tiny_run()
    text = console(run, measure(run, goodput="ttft:2.5"))
    for line in (
        "Successful requests:                                     3",
        "Failed requests:                                         2",
        "Request goodput (req/s):",
        "Mean TTFT (ms):                                   2,000.00",
        "P99 TPOT (ms):",
        "Peak use of KV blocks (%):                           50.00",
        "memory:                                              70.00",  # 4 + 3 of 10 s
        "1 request was refused: longer than the context.",
        "fidelity sol, seed 0,",
    ):
        assert line in text, line
    assert max(map(len, text.splitlines())) <= 80
    assert "Request goodput" not in console(run, measure(run))


def test_what_bounds_it_follows_from_the_records() -> None:
    run = tiny_run()
    assert bound_share(run.operators) == {"memory": 0.7, "compute": 0.2, "host": 0.1}
    words = " ".join(bound_words(run, measure(run)))
    assert "70% of device time is bound by memory bandwidth (most in mlp and attn_decode)." in words
    assert "Replicas are busy 44% of the time: more load would fit." in words  # 7 s of 2 x 8 s
    assert "A replica runs 0.7 requests at once on average." in words  # (3 + 3 + 6 - 1) s in 2 x 8 s
    assert "KV memory runs full (1 preemption)." in words
    assert "in the queue" not in words  # 1 s of 12 s
    waiting = run.requests.assign(queue_s=run.requests["e2e_s"] * 0.9)
    words = " ".join(bound_words(dataclasses.replace(run, requests=waiting), measure(run)))
    assert "Requests spend 90% of their time in the queue: the load is above what this serves." in words


def test_a_bare_run_still_reports() -> None:
    run = tiny_run()
    bare = dataclasses.replace(run, operators=None, steps=None, gap_count=None, totals={}, about={})
    text = console(bare, measure(bare))
    assert "Cost ($) per million tokens:                           n/a" in text
    empty = dataclasses.replace(bare, requests=run.requests.iloc[3:], gap_count=np.zeros(4, np.int64))
    assert "Mean TTFT (ms):                                        n/a" in console(empty, measure(empty))
