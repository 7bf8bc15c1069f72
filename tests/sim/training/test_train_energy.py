"""Joules of a training step: awake all step long, never above the cap, as many as its operators draw."""

from dataclasses import replace

import pytest

from hw_models import catalog
from hw_models.power import draw, rest_w
from sim.training.step import train
from workloads.training import TrainPlan

PLAN = TrainPlan(tp=2, dp=4, batch=8, seq=4096, zero=1, attention="flash3", fused_norm=True, sequence_parallel=True)
MODEL = "llama-3-8b"


@pytest.fixture(scope="module")
def summary() -> dict[str, float]:
    return train(MODEL, "dgx_h100", PLAN).summary


def test_a_device_draws_between_awake_and_its_cap(summary: dict[str, float]) -> None:
    watt = draw(catalog.device("h100_sxm"))
    assert watt.awake_w < summary["device_w"] <= watt.awake_w + watt.dynamic_w


def test_joules_are_watts_times_the_step(summary: dict[str, float]) -> None:
    assert summary["energy_j"] == pytest.approx(8 * summary["device_w"] * summary["step_s"])
    assert summary["energy_j_per_token"] == pytest.approx(summary["energy_j"] / (8 * 4096))
    box_w = rest_w(catalog.system("dgx_h100", 8), 8 * summary["device_w"], 8)
    assert summary["rest_j"] == pytest.approx(box_w * summary["step_s"])
    assert summary["node_w"] == pytest.approx(8 * summary["device_w"] + box_w)


def test_recomputation_draws_for_what_runs_again(summary: dict[str, float]) -> None:
    again = train(MODEL, "dgx_h100", replace(PLAN, recompute="full")).summary
    assert 1.2 < again["energy_j"] / summary["energy_j"] < 1.45  # a third of the passes runs twice


def test_waiting_draws_what_is_awake() -> None:
    # of a pipeline with one microbatch one of four ranks works at a time
    alone = replace(PLAN, tp=1, pp=4, dp=1, batch=1, sequence_parallel=False, zero=0)
    busy = train(MODEL, "dgx_h100", replace(alone, batch=32)).summary
    idle = train(MODEL, "dgx_h100", alone).summary
    assert idle["bubble_rate"] > 0.7
    assert busy["bubble_rate"] < 0.2
    assert idle["device_w"] < 0.6 * busy["device_w"]
    assert idle["energy_j_per_token"] > busy["energy_j_per_token"]
