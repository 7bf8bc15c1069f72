"""Duplex: the published decode steps from the operators of any GPU."""

import pytest

from studies import duplex


def test_decode_steps_of_the_published_simulator():
    rows = duplex._steps()
    assert {row["verdict"] for row in rows} == {"reproduced"}  # each within 5 %


def test_order_of_machines_on_grouped_and_full_attention():
    for setup, first, second in ((duplex.DENSE[0], "Duplex", "Bank-PIM"), (duplex.DENSE[1], "Bank-PIM", "Duplex")):
        fast, slow = (duplex.closed_loop(name, setup, 2048, 2048, 64).step_s for name in (first, second))
        assert fast < slow


def test_a_step_never_beats_the_units_bandwidth():
    step = duplex.one("Duplex+PE+ET", duplex.MOE[0], duplex.plan(32, 2048))
    weights = 32 * 8 * 3 * 4096 * 14336 * 2 / 4  # experts of a device
    assert step.expert_s >= 0.9 * weights / (5 * 3.352e12)  # pins and units together; nearly all experts are active
    gpu = duplex.one("GPU", duplex.MOE[0], duplex.plan(32, 2048))
    assert gpu.expert_s == pytest.approx(6.727e-3, rel=0.02)  # published: expert weights alone are 6.727 ms
