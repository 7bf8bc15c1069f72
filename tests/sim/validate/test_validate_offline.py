"""`validate offline`: batches with a shared prefix, of files that nobody has seen."""

import pathlib

import numpy as np
import pandas as pd
import pytest

from kernels.errors import InputError
from sim.cli import main
from sim.serving.engine_profile import load
from sim.validate.offline import ENGINE, read, throughput, validate_offline
from tests.shared_data import folder

ROW = {"nreqs": 40, "ctxlen": 64, "outlen": 32, "prefixlen": 512, "backend": "vllm", "req_per_sec": 15.0}


def test_what_is_shared_is_served_faster(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "batches.csv"
    backends = ["vllm", "vllm+pc", "vllm+"]
    pd.DataFrame([ROW | {"backend": name} for name in backends]).to_csv(path, index=False)
    alone, cached, together = (throughput(row, ENGINE) for row in read(path).to_dict("records"))
    assert alone < cached < together  # prefills saved, then reads of the prefix


def test_order_and_names_do_not_matter_and_what_is_unknown_counts(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "batches.csv"
    rows = pd.DataFrame([ROW, ROW | {"backend": "tgi"}])
    rows.to_csv(path, index=False)
    found, reasons = validate_offline(path)
    assert (found[-1]["n"], found[-1]["coverage"]) == (1, 0.5)
    assert "tgi" in next(iter(reasons))
    rows.iloc[::-1, ::-1].rename(columns={"nreqs": "num_prompts", "prefixlen": "prefix_len"}).to_csv(path, index=False)
    assert validate_offline(path)[0][-1]["mape"] == found[-1]["mape"]


def test_lengths_come_from_rates_where_a_file_has_none(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "batches.csv"
    rates = {"process_tok_per_sec": 9000.0, "generate_tok_per_sec": 1500.0}  # of 15 requests/s: 600 and 100 tokens
    row = {name: value for name, value in ROW.items() if name not in ("ctxlen", "outlen")}
    pd.DataFrame([row | rates | {"prefixlen": 200}]).to_csv(path, index=False)
    found = read(path).iloc[0]
    assert (found["own_len"], found["output_len"]) == (300, 100)  # 600 less 100 of the answer and 200 of the prefix
    pd.DataFrame([row]).to_csv(path, index=False)
    with pytest.raises(InputError, match="neither lengths nor rates"):
        read(path)


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (15e3, r"b\.csv:2: .*beats the speed of light"),  # of 96 tokens each: 1.2 TFLOP, 250 a second at 312 TFLOP/s
        (15e-3, r"b\.csv:2: .*100 times slower"),  # requests a millisecond
    ],
)
def test_rates_in_another_unit_are_counted_and_refused_with_the_row_where_there_is_no_other(
    tmp_path: pathlib.Path, rate: float, message: str
) -> None:
    path = tmp_path / "b.csv"
    pd.DataFrame([ROW, ROW | {"req_per_sec": rate}]).to_csv(path, index=False)
    rows, reasons = validate_offline(path)
    assert (rows[-1]["n"], rows[-1]["coverage"], sum(reasons.values())) == (1, 0.5, 1)
    pd.DataFrame([ROW | {"req_per_sec": rate}]).to_csv(path, index=False)
    with pytest.raises(InputError, match=message):
        validate_offline(path)


def test_serving_knows_a_file_of_batches(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "batches.csv"
    pd.DataFrame([ROW]).to_csv(path, index=False)
    assert main(["validate", "serving", str(path)]) == 0
    assert "throughput" in capsys.readouterr().out


def test_a_sample_of_the_shipped_errors_is_recomputed() -> None:
    rows = read(folder("serving", "relay_attention", "offline_synthetic_a100_llama2_7b.csv"))
    sample = rows.sample(6, random_state=1).to_dict("records")
    error = [abs(throughput(row, ENGINE) / row["request_per_s"] - 1) for row in sample]
    fit = load(ENGINE).fit
    assert fit is not None
    assert np.mean(error) < 3 * fit.left_out_error["throughput"]  # six of 48 rows
