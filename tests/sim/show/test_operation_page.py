"""The page of an operation: the engines that it draws are those that the run had."""

import re

import numpy as np
import pytest

from kernels.errors import InputError
from sim.cluster.operation import Operation, PoolsOperation, from_table
from sim.cluster.simulate_mixed_operation import simulate_mixed_operation
from sim.cluster.simulate_operation import OperatedRun, simulate_operation
from sim.cluster.simulate_pools_operation import simulate_pools_operation
from sim.run.scenario import Scenario
from sim.show.page.operation_page import num_up, operation_page
from sim.show.report import load_words
from tests.sim.show.test_page import Balanced

BASE = Scenario(model="gpt2", system="a100_sxm", requests="poisson:rate=60,n=600,prompt=300,output=30", dp=4)
RULES = {
    "scaler": "outstanding:target=2", "min_engine": 1, "load_GBps": 1.0, "warm_s": 0.5, "repair_s": 2.0,
    "interval_s": 1.0,
    "event": [{"at_s": 4.0, "engine": 0, "kind": "fail"}],
}  # fmt: skip


def operated() -> OperatedRun:
    return simulate_operation(BASE, from_table(dict(RULES)))


def test_engines_that_are_drawn_are_those_of_the_run() -> None:
    done = operated()
    last_s = float(done.events["time_s"].max()) + 1.0
    at, num = num_up(done.events, done.result.paid_s, last_s)
    figures = done.figures.set_index("figure")["value"]
    assert num.max() == figures["most_engines_up"] > num.min()
    what = done.events["what"]
    assert num[-1] == num[0] + (what == "up").sum() - what.isin(["drain", "notice", "fail", "gone"]).sum()
    up_s = float((num[:-1] * np.diff(at)).sum())  # an engine is paid while it takes requests, and while it loads
    assert up_s <= done.result.paid_s.sum() + num[-1] * 1.0 + 1e-9


def test_the_page_holds_what_happened() -> None:
    done = operated()
    text = done.page()
    Balanced(text)
    for word in ("Engines that take requests", "TTFT of those that came", "time (s)", "fail", "engine_hours"):
        assert word in text
    drawn = re.findall(r"<figcaption>([^<]+)", text)
    assert len(drawn) == len(set(drawn)) == 7


def test_pools_are_drawn_apart() -> None:
    done = simulate_pools_operation(BASE, {"dp": 2}, {"dp": 3}, PoolsOperation(prefill=Operation(), decode=Operation()))
    text = operation_page(done)
    Balanced(text)
    assert "prefill</li>" in text
    assert "decode</li>" in text


def test_pools_that_do_both_are_drawn_apart() -> None:
    done = simulate_mixed_operation(BASE, [{"dp": 2}, {"dp": 1}], [from_table(dict(RULES)), Operation()])
    text = done.page()
    Balanced(text)
    assert "pool 0</li>" in text
    assert "pool 1</li>" in text


def test_there_is_no_page_of_nothing() -> None:
    done = operated()
    done.requests["served"] = False
    with pytest.raises(InputError, match="nothing to show"):
        operation_page(done)


DRIFTS = {0.0: "does not grow.", -1e-5: "does not grow.", 0.05: "grows by 5.0% of what", -0.01: "shrinks by 1.0% of"}


@pytest.mark.parametrize(("drift", "words"), DRIFTS.items())
def test_a_queue_grows_shrinks_or_does_not(drift: float, words: str) -> None:
    assert words in load_words({"load_state": "stable", "queue_drift": drift})
