"""The page's accuracy table is what the command prints, and a sample of it is recomputed from the measurements."""

import pathlib

import numpy as np
import pytest

from hw_models import profile
from hw_models.accuracy import held_out, markdown
from hw_models.calibration.fit import half
from hw_models.calibration.measured import from_frame, read_frame
from sim.validate.ops import predict
from tests.shared_data import folder

ROOT = pathlib.Path(__file__).parents[2]


def test_the_page_has_the_table_of_the_command() -> None:
    text = (ROOT / "docs" / "accuracy.md").read_text()
    table = text.partition("<!-- accuracy: ridgeline accuracy -->\n")[2].partition("\n<!-- end -->")[0]
    assert table == markdown(held_out())


@pytest.mark.parametrize("device", ["h100_sxm", "a100_sxm"])
def test_a_sample_of_the_gemm_errors_is_recomputed(device: str) -> None:
    file = folder("ops", device, "gemm.csv.gz")
    frame = read_frame(file)
    frame = frame[frame["dtype"] == "bfloat16"]
    unseen = frame[~half(frame["m"], frame["n"], frame["k"])]
    sample = unseen.sample(1500, random_state=0).reset_index(drop=True)
    from collections import Counter

    measured = from_frame(sample, file)
    predicted = predict(measured, device, "calibrated", Counter())
    mape = float(np.mean(np.abs(predicted / measured.seconds - 1)))
    kernel = profile.load(device).find("gemm", "bf16")
    assert kernel is not None
    assert kernel.held_out is not None
    # 1,500 of 2,300 (A100) or 9,100 (H100) rows whose errors have a standard deviation of about 0.06: the mean of a
    # sample stays within 3 x 0.06 / sqrt(1500) = 0.005 of the whole's
    assert mape == pytest.approx(kernel.held_out.mape, abs=0.005)
