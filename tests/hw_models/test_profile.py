"""Profile files: round trip, refusals, relatives of unmeasured formats."""

import pathlib

import pytest

from hw_models.forms import FORMS
from hw_models.profile import Kernel, ProfileFile, fit_array, load, read_file, write_file
from kernels.errors import InputError
from kernels.formats import FORMAT_CODE
from kernels.optable import GEMM, MOE

PARAMETER = {name: float(i + 1) for i, name in enumerate(FORMS["gemm"].names)}


def content(**change: object) -> ProfileFile:
    kernel = {"kind": "gemm", "format": "bf16", "name": "a", "default": True, "parameter": PARAMETER, **change}
    return ProfileFile(device="d", command="c", date="2026-01-01", kernel=(Kernel.model_validate(kernel),))


def test_round_trip_and_relatives(tmp_path: pathlib.Path) -> None:
    write_file(tmp_path / "gemm.toml", content())
    profile = load(tmp_path)
    assert profile.kernel == content().kernel
    fit = fit_array(profile, eager=True)
    assert fit[GEMM, FORMAT_CODE["bf16"], 0] == 1.0
    assert (fit[GEMM, FORMAT_CODE["fp16"]] == fit[GEMM, FORMAT_CODE["bf16"]]).all()
    host = FORMS["gemm"].names.index("host_s")
    assert fit[GEMM, FORMAT_CODE["bf16"], host] > 0
    assert fit_array(profile)[GEMM, FORMAT_CODE["bf16"], host] == 0  # CUDA graphs hide the dispatch
    assert (fit[MOE] == fit_array(None)[MOE]).all()  # nothing fitted: speed of light


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"kind": "gem"}, "gemm"),
        ({"format": "bf17"}, "bf16"),
        ({"parameter": {**PARAMETER, "lunch_s": 1.0}}, "launch_s"),
        ({"parameter": {**PARAMETER, "launch_s": -1.0}}, "launch_s"),
        ({"parameter": {"launch_s": 1.0}}, "compute_eff"),
    ],
)
def test_refusals_name_the_field(tmp_path: pathlib.Path, change: dict[str, object], names: str) -> None:
    write_file(tmp_path / "x.toml", content(**change))
    with pytest.raises(InputError, match=names):
        read_file(tmp_path / "x.toml")


def test_unknown_device_is_refused() -> None:
    with pytest.raises(InputError, match="no such profile"):
        load("h1000")
