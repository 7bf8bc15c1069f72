"""`ridgeline calibrate`: times as written, and what is refused in one line."""

import pathlib
import types

import pytest

from kernels.errors import InputError
from sim import calibrate_run
from sim.calibrate_run import to_seconds
from sim.cli import main


@pytest.mark.parametrize(
    ("text", "seconds"), [("60s", 60.0), ("2min", 120.0), ("1500ms", 1.5), ("1h", 3600.0), ("7", 7.0)]
)
def test_times(text: str, seconds: float) -> None:
    assert to_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-3s", "0s", "nan", "inf", "3 days", "1e9s", "10us"])
def test_bad_times(text: str) -> None:
    with pytest.raises(InputError, match="budget"):
        to_seconds(text)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--device", "cpu", "--budget", "soon", "--out", "x.toml"], "budget"),
        (["--device", "cpu", "--budget", "5s", "--out", "x.json"], "FILE.toml"),
        (["--device", "cpu"], "--out"),
        (["--device", "tpu", "--budget", "2s", "--out", "x.toml"], "tpu"),
        (["--device", "cpu", "--budget", "2s", "--out", "x.toml", "--formats", "int9"], "int9"),
    ],
)
def test_bad_options_are_one_line(
    options: list[str], names: str, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["calibrate", *options]) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert names in text or "needs torch" in text
    assert not list(tmp_path.iterdir())  # nothing half written


def test_an_interrupt_among_the_steps_keeps_those_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of one, four and sixteen sequences take 1, 2 and 3 ms; then the user loses patience."""
    pytest.importorskip("torch")
    from hw_models import catalog
    from hw_models.device import machine
    from hw_models.profile import Kernel, ProfileFile
    from hw_models.reference.environment import read

    took = iter([1e-3, 2e-3, 3e-3])

    def measured(model: object, shape: object, budget_s: float) -> float:
        for seconds in took:
            return seconds
        raise KeyboardInterrupt

    monkeypatch.setattr(calibrate_run, "_measured_s", measured)
    kernel = Kernel(kind="gemm", format="bf16", name="k", parameter={})
    found = types.SimpleNamespace(
        fitted=types.SimpleNamespace(kernel=(kernel,)), environment=read("cpu"),
        profile=ProfileFile(device="d", command="c", date="d", source="s"),
        machine=lambda: machine(catalog.system("h100_sxm")),
    )  # fmt: skip
    steps, engine = calibrate_run.measure_steps(found, 1.0)
    assert steps["num_seq"].tolist() == [1, 4, 16]
    host_s = engine["step_s"] + engine["layer_s"] + engine["seq_s"]
    assert host_s > 0  # an H100's operators explain none of a millisecond
    assert calibrate_run.measure_steps(found, 1.0)[1] == {}
