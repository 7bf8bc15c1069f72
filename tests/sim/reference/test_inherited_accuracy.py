"""Machines priced by a relative: the page has the command's table, rows are recomputed from measurements, and what is
left out of a machine is left out."""

import pathlib

import pytest

from hw_models import catalog, relatives
from hw_models.calibration.inherit import inherited
from hw_models.calibration.measured import read_frame
from hw_models.device import calibration
from hw_models.profile import load
from sim.cli import main
from sim.reference.inherited_accuracy import markdown, stated
from sim.reference.inherited_fit import BATCHES, batches, heir, pairs
from tests.shared_data import folder

ROOT = pathlib.Path(__file__).parents[3]


def test_the_page_has_the_table_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["accuracy", "--inherited"]) == 0
    printed = capsys.readouterr().out.strip()
    text = (ROOT / "docs" / "accuracy.md").read_text()
    begin = "<!-- inherited: ridgeline accuracy --inherited -->\n"
    assert text.partition(begin)[2].startswith(printed + "\n<!-- end -->")
    assert printed == markdown(stated())


def test_an_heir_has_nothing_of_its_own_but_its_datasheet(tmp_path: pathlib.Path) -> None:
    """B200's own profile and Max 1550's own factor (3.7 times H100's kernels) are gone."""
    for name in ("b200", "max_1550"):
        own, like = catalog.device(name), catalog.device(heir(tmp_path, name, "h100_sxm"))
        assert like.peak_flop_per_s == own.peak_flop_per_s
        assert like.mem_byte_per_s == own.mem_byte_per_s
        assert relatives.calibrated_as(like) == "h100_sxm"
        found = calibration(like)[0].find("gemm", "bf16")
        base = inherited(load("h100_sxm"), catalog.device("h100_sxm"), like).find("gemm", "bf16")
        assert found is not None
        assert base is not None
        assert found.parameter == base.parameter
    slow, plain = (catalog.device(heir(tmp_path, "mi300x", "h100_sxm", factor)) for factor in (1.5, 1.0))
    launches = []
    for device in (slow, plain):
        kernel = calibration(device)[0].find("gemm", "bf16")
        assert kernel is not None
        launches.append(kernel.parameter["launch_s"])
    assert launches[0] / launches[1] == pytest.approx(1.5)


def test_every_inherited_machine_with_measured_kernels_or_batches_has_rows() -> None:
    found = set(stated()["system"])
    data = folder("ops")
    assert {device for name, device, _, _ in pairs() if (data / name).is_dir()} <= found
    heirs = {name for name in catalog.names("device") if len(relatives.line(catalog.device(name))) > 1}
    named = set(read_frame(folder(*BATCHES.split("/")))["accelerator"])
    measured = {catalog.system(str(name)).device.name for name in named}
    assert measured & heirs <= found


def test_batches_of_one_machine_are_recomputed(tmp_path: pathlib.Path) -> None:
    """GH200's rows of the file, to the digits that are written."""
    table = stated()
    found = list(batches(folder(), tmp_path, ("gh200",)))
    assert len(found) == 3  # vLLM, TensorRT-LLM, llama.cpp
    for row in found:
        (said,) = table[(table["system"] == "gh200") & (table["kernel"] == row["kernel"])].to_dict("records")
        for name in ("n", "coverage", "mape", "median", "p90", "bias"):
            assert row[name] == pytest.approx(said[name], abs=2e-4), name
