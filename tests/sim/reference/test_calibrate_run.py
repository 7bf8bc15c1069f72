"""`ridgeline calibrate`: times as written, and what is refused in one line."""

import pathlib
import types

import numpy as np
import pandas as pd
import pytest

from kernels.errors import InputError
from sim.cli import main
from sim.reference import calibrate_run
from sim.reference.calibrate_run import to_seconds


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
    monkeypatch.setattr(calibrate_run, "_alone_s", lambda device, ops, work: 1e-4)
    kernel = Kernel(kind="gemm", format="bf16", name="k", parameter={})
    found = types.SimpleNamespace(
        fitted=types.SimpleNamespace(kernel=(kernel,)), environment=read("cpu"),
        profile=ProfileFile(device="d", command="c", date="d", source="s"),
        machine=lambda: machine(catalog.system("h100_sxm")),
    )  # fmt: skip
    steps, engine = calibrate_run.measure_steps(found, 1.0)
    assert steps["num_seq"].tolist() == [1, 4, 16]
    host_s = engine["step_s"] + engine["layer_s"] + engine["seq_s"]
    assert host_s > 0  # operators of a tenth of a millisecond explain none
    assert calibrate_run.measure_steps(found, 1.0)[1] == {}


def test_steps_end_with_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the budget, a few shapes of each depth are measured; with a budget that is spent no more than those."""
    pytest.importorskip("torch")
    from hw_models import catalog
    from hw_models.device import machine
    from hw_models.profile import Kernel, ProfileFile
    from hw_models.reference.environment import read

    monkeypatch.setattr(calibrate_run, "_measured_s", lambda model, shape, budget_s: 1e-3)
    monkeypatch.setattr(calibrate_run, "_alone_s", lambda device, ops, work: 1e-4)
    kernel = Kernel(kind="gemm", format="bf16", name="k", parameter={})
    found = types.SimpleNamespace(
        fitted=types.SimpleNamespace(kernel=(kernel,)), environment=read("cpu"),
        profile=ProfileFile(device="d", command="c", date="d", source="s"),
        machine=lambda: machine(catalog.system("h100_sxm")),
    )  # fmt: skip
    assert len(calibrate_run.measure_steps(found, 0.0)[0]) == calibrate_run.MIN_STEP * len(calibrate_run.DEPTHS)
    assert len(calibrate_run.measure_steps(found, 1e9)[0]) == len(calibrate_run.STEPS) * len(calibrate_run.DEPTHS)


@pytest.mark.parametrize("launch_s", [0.0, 4e-5, 3e-4])
def test_host_time_is_found_again(launch_s: float) -> None:
    """Steps made from known constants: graphs of decodes pay no launches, prompts last as long as theirs."""
    known = {"step_s": 2e-4, "layer_s": 1e-5, "seq_s": 3e-6, "token_s": 1e-7, "prefill_s": 5e-4}
    shapes = [
        (layers, seq, token, int(token > seq)) for layers in (2, 8) for seq in (1, 4, 16, 32) for token in (seq, 400)
    ]
    frame = pd.DataFrame(shapes, columns=["num_layer", "num_seq", "num_token", "num_prefill"])
    frame["operator_s"] = frame["num_layer"] * (2e-5 + 3e-7 * frame["num_token"])
    eager = (frame["num_prefill"] > 0).to_numpy()
    device_s = np.maximum(frame["operator_s"], eager * frame["num_layer"] * launch_s)
    frame["measured_s"] = (
        device_s + known["step_s"] + known["layer_s"] * frame["num_layer"] + known["seq_s"] * frame["num_seq"]
        + known["token_s"] * frame["num_token"] + known["prefill_s"] * eager
    )  # fmt: skip
    host, simulated_s = calibrate_run.fit_host(frame, eager)
    assert simulated_s == pytest.approx(frame["measured_s"].to_numpy(), rel=0.02)  # the grid's step is 6 %
    assert host["step_s"] == pytest.approx(known["step_s"], rel=0.1)
    if launch_s > 2e-5 + 3e-7 * 400:  # longer than any layer computes: it shows
        assert host["dispatch_layer_s"] == pytest.approx(launch_s, rel=0.06)
