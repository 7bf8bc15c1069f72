"""Admission control: a full queue turns away who comes, and nobody else."""

import dataclasses
import math

import numpy as np
import pytest

from kernels.errors import InputError
from sim.cluster.simulate import simulate_pools
from sim.run.scenario import Scenario
from sim.run.simulate import simulate

BASE = Scenario(model="gpt2", system="a100_sxm", requests="poisson:rate=400,n=800,prompt=300,output=40", max_queue=3)


def loss(rate: float, num: int) -> tuple[float, float]:
    """Share of Poisson arrivals that a server of one sequence turns away, and seconds that it takes for each."""
    one = Scenario(model="gpt2", system="a100_sxm", engine="none", max_num_seq=1, max_queue=1,
                   requests=f"poisson:rate={rate},n={num},prompt=400,output=1")  # fmt: skip
    done = simulate(one)
    request = done.run.requests
    served = request[request["status"] == "finished"]
    took = served["finish_s"] - served["scheduled_s"]
    assert took.max() == pytest.approx(took.min())
    assert set(request["reason"][request["status"] == "refused"]) <= {"the queue was full"}
    return float((request["status"] == "refused").mean()), float(took.mean())


@pytest.mark.parametrize("use", [0.5, 1.0, 2.0])
def test_what_one_server_with_one_place_turns_away_is_the_closed_form(use: float) -> None:
    """M/D/1/2: departures leave the system empty with probability exp(-use), so that 1 - 1 / (use + exp(-use)) are
    lost (the embedded chain of an M/G/1 queue with a finite room)."""
    _, service_s = loss(100.0, 50)
    share, _ = loss(use / service_s, 20_000)
    assert share == pytest.approx(1 - 1 / (use + math.exp(-use)), abs=0.012)


def test_nobody_waits_behind_more_and_the_engines_agree() -> None:
    done = simulate(BASE, record_steps=True)
    assert done.run.steps is not None
    assert 0 < done.metrics["failed"] < len(done.run.requests)
    assert done.run.steps["num_waiting"].max() <= BASE.max_queue
    one_by_one = simulate(dataclasses.replace(BASE, run_ahead=False))
    np.testing.assert_array_equal(done.run.request["status"], one_by_one.run.request["status"])
    np.testing.assert_array_equal(done.run.request["finish_s"], one_by_one.run.request["finish_s"])


def test_a_queue_with_room_for_all_changes_nothing() -> None:
    plain, roomy = (simulate(dataclasses.replace(BASE, max_queue=num)) for num in (0, 800))
    np.testing.assert_array_equal(plain.run.request["finish_s"], roomy.run.request["finish_s"])
    assert roomy.metrics["failed"] == 0


def test_a_shorter_queue_turns_away_more_and_answers_sooner() -> None:
    runs = [simulate(dataclasses.replace(BASE, max_queue=num)).metrics for num in (1, 4, 16, 64)]
    assert [run["failed"] for run in runs] == sorted((run["failed"] for run in runs), reverse=True)
    assert [run["p99_ttft_ms"] for run in runs] == sorted(run["p99_ttft_ms"] for run in runs)


def test_what_was_handed_over_is_never_turned_away() -> None:
    """A pool that decodes takes whatever the other one has computed, however many wait there."""
    done = simulate_pools(dataclasses.replace(BASE, max_queue=1), {"dp": 4, "max_queue": 0}, {"max_num_seq": 2})
    assert done.requests["served"].all()
    with pytest.raises(InputError, match="max_queue = 1: a pool that decodes turns nobody away"):
        simulate_pools(BASE, {"dp": 4}, {"max_queue": 1})


def test_turns_behind_one_that_was_turned_away_are_let_go() -> None:
    done = simulate(dataclasses.replace(BASE, requests="poisson:rate=200,n=300,prompt=300,output=40,turns=3"))
    assert (done.run.requests["status"] != "unfinished").all()


@pytest.mark.parametrize("most", [2, 8])
def test_no_more_are_here_than_may_be(most: int) -> None:
    done = simulate(dataclasses.replace(BASE, max_queue=0, max_in_flight=most, engine="none"), record_steps=True)
    assert done.run.steps is not None
    assert (done.run.steps["num_running"] + done.run.steps["num_waiting"]).max() == most
    assert done.metrics["failed"] > 0
    assert done.metrics["max_concurrent_requests"] <= most


def test_a_queue_has_a_length() -> None:
    with pytest.raises(InputError, match="max_queue"):
        dataclasses.replace(BASE, max_queue=-1)
