"""Duplex: the published decode steps from the operators of any GPU, and its closed loops on the serving engine."""

import numpy as np
import pytest

from hw_models import catalog
from hw_models.edap import edap
from kernels.errors import InputError
from studies import _serve, duplex
from studies._co_process import FLOP_J


def test_decode_steps_of_the_published_simulator():
    rows = duplex._steps()
    assert {row["verdict"] for row in rows} == {"reproduced"}  # each within 5 %


def test_any_model_batch_and_length_has_a_step():
    for model, devices in (("glam-143b", 8), ("opt-66b", 4), ("grok-1", 16)):
        table = duplex.step_table(model, 32, 512, devices).set_index("system")
        assert (table["step_ms"] > 0).all()
        assert table.loc["Duplex", "step_ms"] < table.loc["GPU", "step_ms"]
        assert table.loc["Duplex", "energy_J"] < table.loc["GPU", "energy_J"]
    with pytest.raises(InputError, match="nodes are of eight"):
        duplex.step_table("grok-1", 32, 512, 12)


def test_order_and_gain_of_closed_loops():
    loops = duplex.grid(duplex.MOE[:1], ("GPU", "Bank-PIM", "Duplex", duplex.FULL), (256,), (32, 64))
    gain = {name: duplex.ratio(loops, name, "GPU") for name in ("Bank-PIM", "Duplex", duplex.FULL)}
    assert gain[duplex.FULL][1] == pytest.approx(2.05, rel=0.1)  # published, 256 in and out, batch 64
    assert gain["Bank-PIM"][1] == pytest.approx(1.18, rel=0.1)
    for bank, plain, full in zip(*gain.values(), strict=True):
        assert 1 < bank < full
        assert 1 < plain < full
    # never faster than four times the pins with the xPU beside it
    assert max(gain[duplex.FULL]) < 5


def test_a_step_never_beats_the_units_bandwidth():
    step = duplex.decode_step("Duplex+PE+ET", duplex.MOE[0], 32, 2048)
    weights = 32 * 8 * 3 * 4096 * 14336 * 2 / 4  # experts of a device
    assert step.expert_s >= 0.9 * weights / (5 * 3.352e12)  # pins and units together; nearly all experts are active
    gpu = duplex.decode_step("GPU", duplex.MOE[0], 32, 2048)
    assert gpu.expert_s == pytest.approx(6.727e-3, rel=0.02)  # published: expert weights alone are 6.727 ms


def test_edap_is_energy_times_delay_times_area():
    duplex_, n, k = catalog.device("duplex"), 16384, 4096
    pim = duplex_.pim
    assert pim is not None
    byte, flop = n * k * 2, 2 * 8 * n * k
    second = byte / pim.byte_per_s  # 8 Op/B: the ridge, compute is as long
    assert second == pytest.approx(flop / pim.flop_per_s, rel=0.01)
    joule = byte * (1.81e-12 * 8 + 0.909e-9 / 1024) + flop * FLOP_J
    assert edap(duplex_, 8, n, k) == pytest.approx(joule * second * (9 * 121 + 17.8), rel=0.01)
    with pytest.raises(InputError, match="EDAP needs"):
        edap(catalog.device("h100_sxm"), 8, n, k)


def test_quantiles_count_weights():
    assert _serve.weighted(np.array([1.0, 2.0, 3.0]), np.array([1, 8, 1]), (0.05, 0.5, 0.99)) == [1.0, 2.0, 3.0]
