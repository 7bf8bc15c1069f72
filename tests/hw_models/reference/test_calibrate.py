"""Calibration of this machine's CPU in some seconds: the file that comes out, its budget, interrupts, bad input."""

import io
import itertools
import pathlib
import types

import numpy as np
import pandas as pd
import pytest

from hw_models import catalog, device, profile
from kernels.errors import InputError
from kernels.optable import ATTN_BACKWARD, GEMM
from sim.record.export import table_bytes

torch = pytest.importorskip("torch")
from hw_models.reference import calibrate, probe  # noqa: E402
from hw_models.reference.device import Measurement  # noqa: E402
from hw_models.reference.environment import Environment  # noqa: E402
from hw_models.reference.peaks import Peaks  # noqa: E402
from hw_models.reference.timing import Timing  # noqa: E402


class FakeDevice:
    """Answers each probe with a millisecond, and is interrupted at the call that it is told."""

    environment = Environment("cpu", "fake", "-", "-", 4, 3e9, 32e6, 16e9)

    def __init__(self, interrupt_at: int = -1) -> None:
        self.calls = 0
        self.interrupt_at = interrupt_at

    def measure(self, op: np.void, work: np.ndarray, only: str = "") -> Measurement:
        self.calls += 1
        if self.calls == self.interrupt_at:
            raise KeyboardInterrupt
        if int(op["kind"]) == GEMM and self.interrupt_at == 0:
            raise InputError("no kernel")
        return Measurement(only or "kernel", Timing(1e-3, 0.1, 5, 9e-4), {})


RATES = {"float32": 1e11}


def fake_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second passes at each look at the clock."""
    ticks = itertools.count()
    monkeypatch.setattr(probe, "time", types.SimpleNamespace(perf_counter=lambda: float(next(ticks))))


def test_the_budget_ends_the_probing_and_kinds_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_clock(monkeypatch)
    fake = FakeDevice()
    found = probe.run(fake, 91.0, RATES, 1e10)  # type: ignore[arg-type]
    assert fake.calls == 90  # one look to begin with, then one a probe
    assert {kind: len(rows) for kind, rows in found.items()} == {
        "gemm": 30, "attn_decode": 10, "attn_prefill": 10, "stream": 30, "moe": 10,
    }  # fmt: skip  # ten rounds of `TURNS`


def test_the_seed_decides_the_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = []
    for seed in (1, 1, 2):
        fake_clock(monkeypatch)
        frames.append(probe.run(FakeDevice(), 30.0, RATES, 1e10, seed)["gemm"])  # type: ignore[arg-type]
    assert frames[0].equals(frames[1])
    assert not frames[0].equals(frames[2])


def test_an_interrupt_keeps_what_was_measured() -> None:
    seen: list[tuple[str, int]] = []
    found = probe.run(FakeDevice(8), 1e9, RATES, 1e10, progress=lambda *what: seen.append(what))  # type: ignore[arg-type]
    assert sum(map(len, found.values())) == 7
    assert seen[-1] == ("interrupted", 7)


def test_kinds_that_nothing_executes_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_clock(monkeypatch)
    found = probe.run(FakeDevice(0), 90.0, RATES, 1e10, kinds=("gemm",))  # type: ignore[arg-type]
    assert found == {}


def test_a_slow_device_still_has_probes_of_every_kind() -> None:
    for kind, source in probe.KINDS.items():
        limit = probe._limit("cpu", kind, 1e6, 1e6, 4.0)
        assert next(source(np.random.default_rng(0), "float32", limit))


@pytest.fixture(scope="module")
def found() -> calibrate.Calibration:
    return calibrate.calibrate("cpu", 20.0, ("fp32",), command="test")


def test_the_file_is_a_system_with_its_own_profile(found: calibrate.Calibration, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(found.file_bytes())
    system = catalog.system(str(file))
    assert device.best_fidelity(system.device) == "calibrated"
    held, name = device.calibration(system.device)
    assert name == "mine"
    assert held.kernel == profile.read_file(file).kernel == found.fitted.kernel
    arrays = device.machine(system, "calibrated")
    measured = np.arange(len(arrays.fit)) != ATTN_BACKWARD  # whose constants are published, not probed
    assert (arrays.fit == found.machine().fit)[measured].all()
    assert (arrays.rate == found.machine().rate).all()
    assert "measured by ridgeline calibrate on" in system.device.source["mem_GBps"]
    assert {"gemm", "attn_decode", "norm"} & {kernel.kind for kernel in held.kernel}


def test_another_machine_can_build_on_it_and_inherits_its_fit(
    found: calibrate.Calibration, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "mine.toml").write_bytes(found.file_bytes())
    faster = tmp_path / "faster.toml"
    faster.write_text('base = "mine.toml"\nmem_GBps = 900\n')
    held, name = device.calibration(catalog.system(str(faster)).device)
    assert name == "mine"
    assert [(k.kind, k.name) for k in held.kernel] == [(k.kind, k.name) for k in found.fitted.kernel]


def test_no_price_beats_what_was_measured_as_peak(found: calibrate.Calibration) -> None:
    frame = found.probes["gemm"]
    flop = 2.0 * frame["m"] * frame["n"] * frame["k"]
    assert (flop / (frame["latency_ms"] * 1e-3) <= found.peaks.flop_per_s["fp32"] * (1 + 1e-9)).all()


def test_raw_probes_can_be_read_back(found: calibrate.Calibration) -> None:
    again = pd.read_csv(io.BytesIO(table_bytes(found.probes["gemm"])))
    assert again["m"].tolist() == found.probes["gemm"]["m"].tolist()
    assert (again["spread"] >= 0).all()


def test_one_file_holds_one_calibration(found: calibrate.Calibration, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "two.toml"
    found.table["profile"] = "h100_sxm"
    try:
        file.write_bytes(found.file_bytes())
    finally:
        del found.table["profile"]
    with pytest.raises(InputError, match="calibration of its own"):
        catalog.system(str(file))


def test_the_nearest_relative_of_an_unknown_gpu() -> None:
    peaks = Peaks({"bf16": 6.8e14, "fp8": 1.2e15}, 3.0e12, 5e12, 2e-6)
    gpu = Environment("cuda", "NVIDIA H100 80GB HBM3", "-", "-", 132, 1.98e9, 50e6, 8.5e10)
    relative = calibrate.nearest(peaks, gpu)
    assert relative is not None
    assert relative.name == "h100_sxm"
    table = calibrate.describe(gpu, peaks, relative)
    assert table["node"] == relative.node
    assert table["num_link"]["source"] == "not measured: that of h100_sxm"


def test_bad_formats_and_devices_are_named() -> None:
    with pytest.raises(InputError, match="allowed: fp32, bf16"):
        calibrate.calibrate("cpu", 1.0, ("fp9",))
    with pytest.raises(InputError, match="cuda, cpu"):
        calibrate.calibrate("tpu", 1.0)
