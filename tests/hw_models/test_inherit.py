"""Inherited constants: shares stay, rates follow the datasheet, uncertainty grows."""

import dataclasses

import pytest

from hw_models import catalog, profile
from hw_models.calibration.inherit import (
    ATTENDED,
    BY_KIND,
    L2_READ,
    SIGMA,
    SIGMA_VARIANT,
    inherited,
    power_ratio,
    scaled,
)
from hw_models.device import calibration, cost, machine
from hw_models.forms import FORMS
from hw_models.profile import Kernel
from kernels.collective import COLLECTIVE_FIT
from kernels.formats import FORMAT_CODE
from kernels.moe_tile import BY_TOKEN, TUNED_A100
from kernels.optable import ALL_REDUCE, GEMM, empty

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
    assert out.parameter["row_byte_per_s"] == pytest.approx(2.0)
    assert out.parameter["write_byte_per_s"] == 1.0  # an epilogue stores into L2
    assert out.parameter["mem_eff"] == out.parameter["launch_s"] == out.parameter["core_byte_per_s"] == 1.0
    assert out.spread["under_10us"] == pytest.approx((0.03**2 + SIGMA_VARIANT**2) ** 0.5, abs=1e-4)  # same chip


def test_half_the_clock_doubles_latencies_and_half_the_cores_the_share_of_each() -> None:
    heir = dataclasses.replace(H100, name="heir", clock_hz=H100.clock_hz / 2, num_core=H100.num_core // 2)
    out = scaled(KERNEL, H100, heir)
    assert out.parameter["step_s"] == out.parameter["launch_s"] == pytest.approx(2.0)
    assert out.parameter["row_s"] == pytest.approx(4.0)  # half the cores at half the clock
    assert out.parameter["core_byte_per_s"] == pytest.approx(2.0)
    assert out.spread["under_10us"] == pytest.approx((0.03**2 + SIGMA**2) ** 0.5, abs=1e-4)  # another chip


def test_a_device_with_its_own_profile_inherits_nothing() -> None:
    own = profile.load("h100_sxm")
    assert inherited(own, H100, H100) is own
    taken = {(kernel.kind, kernel.format, kernel.name): kernel.parameter for kernel in calibration(H100)[0].kernel}
    measured = {(kernel.kind, kernel.format, kernel.name): kernel.parameter for kernel in own.kernel}
    assert {key: taken[key] for key in measured} == measured
    # what engines run and nobody measured here stands beside it (`hw_models.engine_kernels`)
    assert {kind for kind, _, _ in taken.keys() - measured.keys()} == {"gemm", "moe"}


def test_h200_is_an_h100_with_faster_memory() -> None:
    """Same cores, clock, L2 and links: only what memory feeds changes, as its datasheet rate does."""
    heir = catalog.device("h200")
    fitted, name = calibration(heir)
    assert name == "h100_sxm"
    ratio = heir.mem_byte_per_s / H100.mem_byte_per_s
    rules = {"row_byte_per_s": ratio, "all_byte_per_s": ratio, "sum_byte_per_s": ratio, "ramp_byte": ratio}
    rules |= {"l2_ratio": 1 / ratio, "switched_copy": 1 / ratio, "host_copy": 1 / ratio}
    heirs = {(kernel.kind, kernel.format, kernel.name): kernel for kernel in fitted.kernel}
    for base in profile.load("h100_sxm").kernel:
        mine = heirs[base.kind, base.format, base.name]
        for parameter, value in base.parameter.items():
            times = rules.get(parameter, 1.0) if (base.kind, parameter) not in BY_KIND else 1.0
            least = 1.0 if parameter == "l2_ratio" and base.kind.startswith("attn") else 0.0  # no cache is slower
            assert mine.parameter[parameter] == pytest.approx(max(least, value * times)), (base.kind, parameter)


def test_h200_gains_where_memory_binds_and_nowhere_else() -> None:
    """A matrix multiply of one row streams its weights and gains most of 4.8 / 3.35; one of 8192 rows gains nothing; an
    all-reduce of a node runs on the same links."""
    times = []
    for name in ("h100_sxm", "h200"):
        ops, work = empty(3)
        ops["kind"], ops["fmt"] = [GEMM, GEMM, ALL_REDUCE], FORMAT_CODE["bf16"]
        ops["m"], ops["n"], ops["k"] = [1, 8192, 0], [28672, 8192, 0], [8192, 8192, 0]
        size = ops["m"] * ops["k"], ops["n"] * ops["k"], ops["m"] * ops["n"]
        ops["act_byte"], ops["weight_byte"], ops["write_byte"] = (2.0 * byte for byte in size)
        ops["flop"] = 2.0 * ops["m"] * ops["n"] * ops["k"]
        ops["link_byte"], ops["group_size"], ops["group_node"] = [0, 0, 1e5], [1, 1, 8], 1
        times.append(cost(ops, work, machine(catalog.system(name, 8), "calibrated"))["time_ps"].astype(float))
    gain = times[0] / times[1]
    assert 1.3 < gain[0] < 4800 / 3352
    assert gain[1] == pytest.approx(1.0, abs=0.01)
    assert gain[2] == 1.0


def test_a_machine_without_a_switch_inherits_no_reduction_in_it() -> None:
    h100 = machine(catalog.system("dgx_h100"), "calibrated").fit[ALL_REDUCE]
    pcie = machine(catalog.system("h100_pcie", 2), "calibrated").fit[ALL_REDUCE]
    for name in ("nvls_eff", "switched_max_byte"):
        assert h100[0, COLLECTIVE_FIT.index(name)] > 0 == pcie[0, COLLECTIVE_FIT.index(name)]


def test_a_board_with_power_to_spare_is_not_held_as_its_relative_is() -> None:
    """L40S: 350 W for 362 TFLOP/s, which its products cannot use. RTX 4090: 450 W for 165 TFLOP/s."""
    reached = {}
    for name in ("l40s", "rtx_4090"):
        built = catalog.system(name)
        ops, work = empty(1)
        size = 8192
        ops["kind"], ops["fmt"], ops["m"], ops["n"], ops["k"] = GEMM, FORMAT_CODE["bf16"], size, size, size
        ops["flop"], ops["weight_byte"] = 2.0 * size**3, 2.0 * size**2
        ops["act_byte"] = ops["write_byte"] = 2.0 * size**2
        seconds = float(cost(ops, work, machine(built, "calibrated"))["time_ps"][0]) * 1e-12
        reached[name] = 2.0 * size**3 / seconds / built.device.peak("bf16")
    assert reached["l40s"] < 0.7
    assert 0.8 < reached["rtx_4090"] <= 1.0


def test_the_same_watts_a_flop_pass_on_the_clock_as_it_is() -> None:
    fitted = profile.load("h100_sxm")
    for name in ("h200", "gh200", "h800"):
        assert power_ratio(fitted, H100, catalog.device(name)) == pytest.approx(1.0)
    assert power_ratio(fitted, H100, catalog.device("h20")) > 1.0  # a sixth of the products
    assert power_ratio(fitted, H100, catalog.device("h100_pcie")) < 1.0


def test_kernels_that_were_seen_to_be_slower_take_that_much_longer() -> None:
    heir = dataclasses.replace(H100, name="heir", kernel_factor=2.0)
    out = scaled(KERNEL, H100, heir).parameter
    assert out["launch_s"] == 2.0
    assert out["mem_eff"] == out["core_byte_per_s"] == 0.5


def test_a_ring_through_the_host_goes_at_the_hosts_rate_whatever_the_link() -> None:
    l40s, faster = catalog.device("l40s"), catalog.device("rtx_pro_6000")  # PCIe 4 and 5
    ring = KERNEL.model_copy(update={"kind": "all_gather", "parameter": dict.fromkeys(FORMS["all_gather"].names, 1.0)})
    for other, share in ((faster, 0.5), (catalog.device("rtx_4090"), 1.0), (H100, 1.0)):
        out = scaled(ring, l40s, other).parameter
        assert out["simple_eff"] == out["ll_eff"] == pytest.approx(share, rel=1e-3)
        assert out["launch_s"] == 1.0  # messages wait for each other, not for the clock


def test_attention_reads_the_cache_of_an_heir_at_that_caches_rate() -> None:
    """L40S: 96 MB at 5.1 TB/s before 0.864 TB/s of memory. A100's decodes read its cache no faster than memory."""
    a100, l40s = catalog.device("a100_sxm_80gb"), catalog.device("l40s")
    names = dict.fromkeys(FORMS["attn_decode"].names, 1.0) | {"mem_eff": 0.8}
    decode = KERNEL.model_copy(update={"kind": "attn_decode", "parameter": names})
    out = scaled(decode, a100, l40s).parameter
    assert out["mem_eff"] == ATTENDED  # its cores stream more than its memory has
    assert out["l2_ratio"] * out["mem_eff"] * l40s.mem_byte_per_s == pytest.approx(L2_READ * l40s.l2_byte_per_s)


def test_a_table_of_tiles_stays_with_the_chip_that_it_was_tuned_on() -> None:
    for name, rule in (("a100_sxm_80gb", TUNED_A100), ("a40", BY_TOKEN), ("a800", TUNED_A100)):
        device = catalog.device(name)
        kernel = calibration(device)[0].find("moe", "bf16")
        assert kernel is not None
        assert kernel.parameter["tile_m"] == rule
