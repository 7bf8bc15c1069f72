"""From a catalogue file to the kernels' arrays: rates, peaks by format, calibration by relatives, memory, energy."""

import numpy as np
import pytest

from hw_models import catalog, device, profile, relatives
from hw_models.forms import FORMS
from hw_models.profile import Kernel, ProfileFile
from kernels import machine as layout
from kernels.collective import COLLECTIVE_FIT
from kernels.errors import InputError
from kernels.formats import FORMAT_CODE, NUM_FORMAT
from kernels.machine import LINK_BYTE_PER_S, LINK_UP
from kernels.optable import ALL_REDUCE, GEMM, NUM_KIND, empty

OWN = 'base = "tpu_v5e"\ntitle = "mine"\nprofile = "mine.fit.toml"\n'
HEIR = 'base = "mine.toml"\ntitle = "heir"\n'


def test_shapes_and_rates() -> None:
    system = catalog.system("h100_sxm")
    arrays = device.machine(system)
    assert arrays.fit.shape == (NUM_KIND, NUM_FORMAT, layout.NUM_FIT)
    own = device.machine(catalog.system("a100_sxm_80gb")).fit
    assert (own == profile.fit_array(None)).all()  # speed of light
    adds = arrays.fit != own  # the switches of DGX H100 add, and nothing else differs
    assert set(zip(*(axis.tolist() for axis in np.nonzero(adds.any(axis=1))), strict=True)) == {
        (ALL_REDUCE, COLLECTIVE_FIT.index("nvls_eff"))
    }
    assert arrays.rate[layout.MEM_BYTE_PER_S] == 3352e9
    assert arrays.rate[layout.NUM_CORE] == 132
    assert arrays.rate[layout.IDLE_W] + arrays.rate[layout.DYNAMIC_W] == pytest.approx(0.98 * 700)
    peak = {name: arrays.peak_flop_per_s[code] for name, code in FORMAT_CODE.items()}
    assert peak["fp8_block"] == peak["fp8"] == pytest.approx(1978.9e12)
    assert peak["w4a16"] == peak["bf16"] == pytest.approx(989.4e12)  # 4-bit weights, computed in bf16
    assert peak["nvfp4"] == 0  # no such pipe before Blackwell


@pytest.mark.parametrize("name", ["a100_sxm_80gb", "h100_sxm", "h200", "h800", "b200"])
def test_no_calibrated_all_reduce_beats_light(name: str) -> None:
    """Eight devices of a node and messages up to 8 GiB: a switch that adds does so at the speed of light too."""
    system = catalog.system(name, 8)
    ops, work = empty(18)
    ops["kind"], ops["group_size"], ops["group_node"] = ALL_REDUCE, 8, 1
    ops["link_byte"] = 2.0 ** np.arange(16, 34)
    light, fitted = (device.cost(ops, work, device.machine(system, fidelity)) for fidelity in ("sol", "calibrated"))
    assert (fitted["time_ps"] >= light["time_ps"]).all()


@pytest.mark.parametrize("name", catalog.names("device"))
def test_every_device_prices_a_multiply_at_speed_of_light(name: str) -> None:
    system = catalog.system(name)
    arrays = device.machine(system)
    ops, work = empty(1)
    fmt = "bf16" if system.device.peak("bf16") else "fp16"
    m = 8192
    ops["kind"], ops["fmt"], ops["m"], ops["n"], ops["k"] = GEMM, FORMAT_CODE[fmt], m, m, m
    ops["flop"], ops["weight_byte"], ops["act_byte"], ops["write_byte"] = 2 * m**3, 2 * m * m, 2 * m * m, 2 * m * m
    priced = device.cost(ops, work, arrays)
    seconds = 2 * m**3 / system.device.peak(fmt)  # 8192 / 3 Op/B is above every ridge point
    assert priced["time_ps"][0] == pytest.approx(seconds * 1e12, rel=1e-9)
    watt = priced["energy_nj"][0] * 1e-9 / seconds
    assert 0.9 * system.device.tdp_w < watt <= system.device.tdp_w  # held at its cap, or close to it


@pytest.mark.parametrize(
    ("name", "size", "nodes"), [("gh200", 4, 4), ("dgx_h100", 16, 2), ("a40", 4, 1), ("tpu_v4", 8, 1)]
)
def test_an_all_reduce_takes_finite_time(name: str, size: int, nodes: int) -> None:
    system = catalog.system(name, size)
    assert system.num_node >= nodes
    ops, work = empty(1)
    ops["kind"], ops["link_byte"], ops["group_size"], ops["group_node"] = ALL_REDUCE, 1e8, size, nodes
    priced = device.cost(ops, work, device.machine(system, group_size=size // nodes))
    # at least the bytes that leave a device at the fastest link there is, at most a second
    assert 1e8 / 900e9 * 1e12 / 8 < priced["time_ps"][0] < 1e12


def test_the_group_size_reaches_the_link_row() -> None:
    system = catalog.system("a40_x8")
    rates = [device.machine(system, group_size=size).link[LINK_UP, LINK_BYTE_PER_S] for size in (2, 8)]
    assert rates == pytest.approx([56.25e9, 31.508e9])


def _write_profile(path) -> None:
    parameter = dict.fromkeys(FORMS["gemm"].names, 0.5)
    kernel = Kernel(kind="gemm", format="bf16", name="x", default=True, parameter=parameter)
    profile.write_file(path, ProfileFile(device="mine", command="by hand", date="2026-01-01", kernel=(kernel,)))


def test_a_device_takes_its_own_profile_or_its_relatives(tmp_path) -> None:
    _write_profile(tmp_path / "mine.fit.toml")
    (tmp_path / "mine.toml").write_text(OWN)
    (tmp_path / "heir.toml").write_text(HEIR)
    own, heir = (catalog.system(str(tmp_path / f"{name}.toml")) for name in ("mine", "heir"))
    assert device.calibration(own.device)[1] == "mine"
    assert device.calibration(heir.device)[1] == "mine"  # its base is its relative
    fitted = [device.machine(system, "calibrated").fit for system in (own, heir)]
    assert (fitted[0] == fitted[1]).all()
    assert fitted[0][GEMM, FORMAT_CODE["bf16"], 0] == 0.5
    assert np.any(fitted[0] != device.machine(own).fit)
    assert [device.best_fidelity(system.device) for system in (own, heir)] == ["calibrated", "calibrated"]


def test_a_shipped_profile_is_found_by_the_device_s_name_or_alias(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(relatives, "PROFILES", tmp_path)
    a100, a40, a10g = (catalog.device(name) for name in ("a100_sxm_80gb", "a40", "a10g"))
    assert relatives.calibrated_as(a100) == ""
    (tmp_path / "a100_sxm").mkdir()  # an alias of a100_sxm_80gb
    assert relatives.own_profile(a100) == "a100_sxm"
    assert [held.name for held in relatives.line(a10g)] == ["a10g", "a40", "a100_sxm_80gb"]
    assert relatives.calibrated_as(a10g) == "a100_sxm_80gb"
    (tmp_path / "a40").mkdir()  # nearer
    assert [relatives.calibrated_as(held) for held in (a40, a10g)] == ["a40", "a40"]


def test_no_calibration_is_said_and_roofline_still_answers(tmp_path) -> None:
    tpu = catalog.system("tpu_v5e")
    assert device.best_fidelity(tpu.device) == "sol"
    with pytest.raises(InputError, match="no calibration for tpu_v5e; allowed: sol"):
        device.machine(tpu, "calibrated")
    with pytest.raises(InputError, match="nearest: calibrated"):
        device.machine(tpu, "calibratd")
    (tmp_path / "loop.toml").write_text('base = "tpu_v5e"\ntitle = "loop"\nrelative = "loop"\n')
    with pytest.raises(InputError, match="is its own relative"):
        device.calibration(catalog.device(str(tmp_path / "loop.toml")))
    (tmp_path / "lost.toml").write_text('base = "tpu_v5e"\ntitle = "lost"\nprofile = "nowhere"\n')
    with pytest.raises(InputError, match="no such profile"):
        device.calibration(catalog.device(str(tmp_path / "lost.toml")))


def test_usable_memory() -> None:
    l40s = catalog.device("l40s")
    assert device.usable_byte(l40s, 0) == pytest.approx(44.4 * 2**30)  # 48 GiB less error correction and driver
    assert device.usable_byte(l40s) == pytest.approx(0.9 * 44.4 * 2**30)
    with pytest.raises(InputError, match=r"reserve = 1\.0"):
        device.usable_byte(l40s, 1.0)
