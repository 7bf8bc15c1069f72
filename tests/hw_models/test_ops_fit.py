"""Fitting operator files: known constants come back, order does not matter, shipped errors are what they say."""

import pathlib

import numpy as np
import pandas as pd
import pytest

from hw_models import catalog, profile
from hw_models.calibration import gemm, ops
from hw_models.calibration.kernel_fit import shape_half
from hw_models.calibration.measured import from_frame, read_folder
from hw_models.device import machine
from kernels.errors import InputError
from kernels.optable import GEMM, KIND_CODE
from kernels.price import price_table
from tests.shared_data import folder

FILE = pathlib.Path("made.csv")


def synthetic() -> pd.DataFrame:
    """Rows that the price function itself made from constants off the start values, 1 % noise."""
    grid = [(m, n, k) for m in (1, 16, 64, 256, 1024, 4096) for n in (512, 2048, 8192) for k in (512, 2048, 8192)]
    frame = pd.DataFrame(grid, columns=["m", "n", "k"]).assign(dtype="bfloat16", kernel="made", latency_ms=1.0)
    arrays = machine(catalog.system("h100_sxm"), "sol")
    truth = {p.name: p.start for p in gemm.SOUGHT.values()} | {"launch_s": 4e-6, "compute_eff": 0.7, "mem_eff": 0.6}
    arrays.fit[GEMM, :, : len(truth)] = list(truth.values())
    measured = from_frame(frame, FILE)
    seconds = price_table(measured.ops, measured.work, arrays)["time_ps"] * 1e-12
    return frame.assign(latency_ms=seconds * 1e3 * np.exp(np.random.default_rng(0).normal(0, 0.01, len(frame))))


def test_known_constants_come_back_whatever_the_order() -> None:
    arrays = machine(catalog.system("h100_sxm"), "sol")
    frame = synthetic()
    first = ops.fit_measured(from_frame(frame, FILE, arrays), arrays)[0]
    shuffled = ops.fit_measured(from_frame(frame.sample(frac=1, random_state=1), FILE, arrays), arrays)[0]
    assert first == shuffled
    assert first.default
    assert first.parameter["launch_s"] == pytest.approx(4e-6, rel=0.05)
    assert first.parameter["compute_eff"] == pytest.approx(0.7, rel=0.05)
    assert first.parameter["mem_eff"] == pytest.approx(0.6, rel=0.05)
    assert first.train is not None
    assert first.train.mape < 0.02  # the noise that went in


def test_eight_bit_activations_may_be_quantised_first_and_eager_rows_have_a_floor() -> None:
    wide, narrow, eager = gemm.variants(False, 2e-6), gemm.variants(True, 2e-6), gemm.variants(True, 8e-5)
    rules = [{p.name: p for p in v}["tile_rule"].start for v in narrow]
    assert (len(wide), rules) == (1, [1.0, 2.0])
    assert {p.name: p for p in eager[0]}["host_s"].high > 8e-5
    assert {p.name: p for p in wide[0]}["host_s"].high == 0.0


def test_a_row_in_the_wrong_unit_is_refused() -> None:
    frame = synthetic()
    frame.loc[53, "latency_ms"] *= 1e-3  # 4096 x 8192 x 8192 in seconds: beats the tensor peak a thousandfold
    with pytest.raises(InputError, match=r"made.csv:55"):  # line 1 is the header
        from_frame(frame, FILE, machine(catalog.system("h100_sxm"), "sol"))


@pytest.mark.parametrize(
    ("device", "kind", "fmt", "most"),
    [
        ("h100_sxm", "gemm", "bf16", 0.065),
        ("h100_sxm", "gemm", "fp8", 0.09),
        ("h100_sxm", "gemm", "fp8_block", 0.09),
        ("h100_sxm", "moe", "bf16", 0.15),
        ("h100_sxm", "moe", "fp8_block", 0.15),
        ("a100_sxm", "gemm", "bf16", 0.08),
    ],
)
def test_held_out_error_on_a_sample(device: str, kind: str, fmt: str, most: float) -> None:
    """`most`: what was promised. 1,500 rows with a spread of about their mean: a standard error of 3 % of it."""
    source = folder("ops", device, f"{kind}.csv.gz")
    built = catalog.system({"a100_sxm": "a100_sxm_80gb"}.get(device, device))
    fitted = profile.load(device)
    (measured,) = read_folder(source)
    formats, names = np.array(measured.format_name()), measured.frame["kernel"].to_numpy()
    misses = []
    for kernel in fitted.kernel:
        if kernel.kind != kind or kernel.format != fmt:
            continue
        rows = np.flatnonzero((formats == fmt) & (names == kernel.name))
        rows = rows[~shape_half(measured, rows)]
        share = max(1, len(rows) // 1500)
        rows = rows[::share]
        fit = profile.fit_array(fitted, named={(kind, fmt): kernel.name}, eager=True)
        arrays = machine(built, "sol")._replace(fit=fit)
        predicted = price_table(measured.ops[rows], measured.work, arrays)["time_ps"] * 1e-12
        miss = np.abs(predicted / measured.seconds[rows] - 1)
        assert kernel.held_out is not None
        assert miss.mean() == pytest.approx(kernel.held_out.mape, rel=0.15)  # 4 or 5 standard errors
        misses.append((miss.mean(), kernel.held_out.n))
    assert np.average([m for m, _ in misses], weights=[n for _, n in misses]) <= most
    assert KIND_CODE[kind] == measured.ops["kind"][0]
