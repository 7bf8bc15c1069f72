"""Inherited constants: shares stay, rates follow the datasheet, uncertainty grows."""

import dataclasses

import pytest

from hw_models import catalog, profile
from hw_models.calibration.inherit import SIGMA, SIGMA_VARIANT, inherited, scaled
from hw_models.device import calibration
from hw_models.forms import FORMS
from hw_models.profile import Kernel

H100 = catalog.device("h100_sxm")
KERNEL = Kernel(
    kind="gemm",
    format="bf16",
    name="a",
    default=True,
    parameter=dict.fromkeys(FORMS["gemm"].names, 1.0),
    spread={"under_10us": 0.03},
)


def test_twice_the_memory_rate_doubles_what_memory_feeds() -> None:
    heir = dataclasses.replace(H100, name="heir", mem_byte_per_s=2 * H100.mem_byte_per_s)
    out = scaled(KERNEL, H100, heir)
    assert out.parameter["write_byte_per_s"] == pytest.approx(2.0)  # epilogue: memory bandwidth a core
    assert out.parameter["mem_eff"] == out.parameter["launch_s"] == out.parameter["core_byte_per_s"] == 1.0
    assert out.spread["under_10us"] == pytest.approx((0.03**2 + SIGMA_VARIANT**2) ** 0.5, abs=1e-4)  # same chip


def test_half_the_clock_doubles_latencies_and_half_the_cores_the_share_of_each() -> None:
    heir = dataclasses.replace(H100, name="heir", clock_hz=H100.clock_hz / 2, num_core=H100.num_core // 2)
    out = scaled(KERNEL, H100, heir)
    assert out.parameter["step_s"] == pytest.approx(2.0)
    assert out.parameter["row_s"] == pytest.approx(4.0)  # half the cores at half the clock
    assert out.parameter["core_byte_per_s"] == pytest.approx(2.0)
    assert out.spread["under_10us"] == pytest.approx((0.03**2 + SIGMA**2) ** 0.5, abs=1e-4)  # another chip


def test_a_device_with_its_own_profile_inherits_nothing() -> None:
    own = profile.load("h100_sxm")
    assert inherited(own, H100, H100) is own
    assert calibration(H100)[0] == own


def test_h200_is_priced_by_the_h100_that_it_is_a_variant_of() -> None:
    heir = catalog.device("h200")
    fitted, name = calibration(heir)
    assert name == "h100_sxm"
    base = profile.load("h100_sxm").find("gemm", "bf16")
    mine = fitted.find("gemm", "bf16")
    assert base is not None
    assert mine is not None
    ratio = heir.mem_byte_per_s / H100.mem_byte_per_s
    assert mine.parameter["write_byte_per_s"] == pytest.approx(base.parameter["write_byte_per_s"] * ratio)
    assert mine.parameter["compute_eff"] == base.parameter["compute_eff"]
