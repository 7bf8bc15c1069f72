"""One command makes every shipped profile, the same bytes each time."""

import pathlib

import pandas as pd
import pytest

from hw_models import catalog, profile
from hw_models.calibration import shipped
from hw_models.calibration.measured import from_frame
from hw_models.device import cost, machine
from hw_models.forms import COLLECTIVE_KINDS, EXCHANGE_KINDS, STREAM_KINDS
from kernels.errors import InputError

SMALL = (
    shipped.Shipped("first", "h100_sxm"),
    shipped.Shipped("second", "b200", relative=dict.fromkeys(shipped.KINDS, "first")),  # after the first
)


def write_rows(folder: pathlib.Path, device: str, names: tuple[str, ...]) -> None:
    """A few GEMM rows, as a calibrated machine times them."""
    shape = [(m, n, 4096) for m in (1, 64, 512, 4096) for n in (1024, 8192)]
    frame = pd.DataFrame(shape, columns=["m", "n", "k"]).assign(dtype="bfloat16", kernel="linear", latency_ms=1.0)
    rows = from_frame(frame, folder)
    arrays = machine(catalog.system(device), "calibrated")
    frame["latency_ms"] = cost(rows.ops, rows.work, arrays)["time_ps"] * 1e-9
    for name in names:
        (folder / "ops" / name).mkdir(parents=True)
        frame.to_csv(folder / "ops" / name / "rows.csv", index=False)


def test_every_profile_names_the_one_command_and_no_file_is_another_s() -> None:
    expected = {(of.name, kind) for of in shipped.ALL if not of.overlay for kind in shipped.KINDS}
    files = list(profile.FOLDER.glob("*/*.toml"))
    assert {(file.parent.name, file.stem) for file in files} == expected
    for file in files:
        read = profile.read_file(file)
        assert (read.command, read.device) == (shipped.COMMAND, file.parent.name)
        assert read.date
        assert read.source
        assert shipped.COMMAND.startswith(f"python -m {shipped.__name__} ")


def test_two_processes_and_one_write_the_same_bytes(tmp_path: pathlib.Path) -> None:
    write_rows(tmp_path, "h100_sxm", ("first", "second"))
    said: list[str] = []
    shipped.fit_all(tmp_path, tmp_path / "two", "2026-01-01", SMALL, ("gemm",), said.append)
    assert [line.partition(",")[0] for line in said] == ["1 of 2: first gemm", "2 of 2: second gemm"]
    for of in SMALL:
        shipped.fit_one(of, "gemm", tmp_path, tmp_path / "one", "2026-01-01")
        written = [(tmp_path / out / of.name / "gemm.toml").read_bytes() for out in ("two", "one")]
        assert written[0] == written[1]
    # rows that the form itself made are found again, but for the sixth figure of a constant
    (kernel,) = profile.load(tmp_path / "one" / "first").kernel
    assert kernel.train is not None
    assert kernel.train.mape < 0.02


def test_a_folder_that_is_not_the_data_set_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match="no folder ops"):
        shipped.main([str(tmp_path)])


def test_what_was_not_measured_is_taken_without_an_error_of_its_own() -> None:
    near = profile.load("h100_sxm")
    of = shipped.Shipped("nobody", "b200", relative=dict.fromkeys(shipped.KINDS, "h100_sxm"))
    for kind in ("stream", "collective"):
        found = shipped.FITS[kind](of, pathlib.Path(), near)
        assert found
        assert {k.kind for k in found} <= {*STREAM_KINDS, *COLLECTIVE_KINDS, *EXCHANGE_KINDS}
        assert all(k.held_out is None and k.train is None for k in found)
