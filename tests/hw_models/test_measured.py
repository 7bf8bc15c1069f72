"""Measured files are told by their columns, and what cannot have been measured is refused with its row."""

import pathlib

import numpy as np
import pandas as pd
import pytest

from hw_models import catalog
from hw_models.calibration.measured import from_frame, read_folder, read_frame
from hw_models.device import machine
from kernels.errors import InputError
from kernels.machine import Machine
from sim.validate.ops import validate_ops

GEMM = {"dtype": "bfloat16", "kernel": "linear", "m": 64, "n": 128, "k": 256, "latency_ms": 0.01}
DECODE = {"dtype": "bfloat16", "kv_dtype": "fp8", "kernel": "fa", "batch": 4, "kv_len": 100, "num_head": 8,
          "num_kv_head": 2, "head_dim": 64, "window": 0, "latency_ms": 0.02}  # fmt: skip
PREFILL = {**{k: v for k, v in DECODE.items() if k != "kv_len"}, "query_len": 10, "prefix_len": 5}


def write(folder: pathlib.Path, name: str, *rows: dict[str, object]) -> pathlib.Path:
    pd.DataFrame(list(rows)).to_csv(folder / name, index=False)
    return folder


@pytest.fixture(scope="module")
def h100() -> Machine:
    return machine(catalog.system("h100_sxm"), "sol")


def test_flops_and_bytes_by_hand(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "a.csv", GEMM)
    write(tmp_path, "b.csv", DECODE)
    write(tmp_path, "c.csv", PREFILL)
    gemm, decode, prefill = read_folder(tmp_path)
    assert gemm.ops["flop"][0] == 2 * 64 * 128 * 256
    assert gemm.ops["weight_byte"][0] == 128 * 256 * 2  # bf16
    # 4 sequences of 100 keys: two products of 64 channels for 8 heads, 2 FLOPs a multiply-add
    assert decode.ops["flop"][0] == 4 * 100 * 8 * (64 + 64) * 2
    assert decode.ops["kv_byte"][0] == 4 * 100 * 2 * (64 + 64) * 1  # fp8: one byte
    # 10 queries on 5 cached keys see 6, 7, ..., 15 keys: 105 pairs a sequence
    assert prefill.ops["flop"][0] == 4 * 105 * 8 * (64 + 64) * 2
    assert decode.seconds[0] == pytest.approx(2e-5)


def test_a_window_hides_keys(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "c.csv", {**PREFILL, "window": 8})
    (prefill,) = read_folder(tmp_path)
    # of 6, 7, 8, 8, ... keys seen: 6 + 7 + 8 x 8 = 77 pairs
    assert prefill.ops["flop"][0] == 4 * 77 * 8 * (64 + 64) * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latency_ms": 0.0}, "latency_ms = .*0.*above 0"),
        ({"latency_ms": -1.0}, "latency_ms"),
        ({"latency_ms": np.nan}, "latency_ms"),
        ({"m": "many"}, "m = 'many'"),
        ({"k": 0}, "k = "),
    ],
)
def test_bad_rows_are_named(tmp_path: pathlib.Path, change: dict[str, object], message: str) -> None:
    write(tmp_path, "bad.csv", GEMM, {**GEMM, **change})
    with pytest.raises(InputError, match=f"bad.csv:3: {message}"):  # header, one good row, the bad one
        read_folder(tmp_path)


def test_mixed_units_break_the_speed_of_light(tmp_path: pathlib.Path, h100: Machine) -> None:
    # 8192^3 x 2 FLOPs at 989 TFLOP/s are 1.11 ms; 0.0012 would be seconds taken for milliseconds
    large = {**GEMM, "m": 8192, "n": 8192, "k": 8192}
    write(tmp_path, "g.csv", {**large, "latency_ms": 1.3}, {**large, "latency_ms": 0.0012})
    with pytest.raises(InputError, match=r"g.csv:3: latency_ms = 0.0012: beats the speed of light"):
        read_folder(tmp_path, h100)


def test_a_missing_column_is_named(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "g.csv", {k: v for k, v in GEMM.items() if k != "m"})
    with pytest.raises(InputError, match="m = '': column is missing"):
        read_folder(tmp_path)


@pytest.mark.parametrize("header", ["m,n,k,latency_ms,Latency (ms)", "m,M,n,latency_ms,k"])
def test_two_columns_of_one_name_are_refused(tmp_path: pathlib.Path, header: str) -> None:
    file = tmp_path / "twice.csv"
    file.write_text(f"dtype,kernel,{header}\nbf16,cublas,1,1,1,1,1\n")
    with pytest.raises(InputError, match=r"twice.csv: columns = .*say the same"):
        read_frame(file)


def test_a_folder_without_measurements_is_refused(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "x.csv", {"a": 1})
    with pytest.raises(InputError, match="no file with the columns"):
        read_folder(tmp_path)


def test_validation_does_not_depend_on_names_or_order(tmp_path: pathlib.Path) -> None:
    rows = [{**GEMM, "m": m, "latency_ms": 0.01 * (1 + m / 100)} for m in (16, 64, 256, 1024)]
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    write(tmp_path / "one", "gemm.csv", *rows)
    write(tmp_path / "two", "renamed.csv.gz", *reversed(rows))
    first, _ = validate_ops(tmp_path / "one", "h100_sxm", "sol")
    second, _ = validate_ops(tmp_path / "two", "h100_sxm", "sol")
    assert {r["size_class"]: r["mape"] for r in first} == pytest.approx({r["size_class"]: r["mape"] for r in second})


def test_what_cannot_be_priced_counts_against_coverage(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "g.csv", GEMM, {**GEMM, "dtype": "fp3"}, {**GEMM, "dtype": "nvfp4"})
    rows, reasons = validate_ops(tmp_path, "h100_sxm", "sol")
    total = next(row for row in rows if row["format"] == "all" and row["size_class"] == "all")
    assert (total["n"], total["coverage"]) == (1, pytest.approx(1 / 3))  # fp3 is no format, Hopper has no fp4 pipe
    assert sum(reasons.values()) == 2
    assert any("fp3" in reason for reason in reasons)
    assert any("nvfp4" in reason for reason in reasons)


def test_latent_attention_by_hand(tmp_path: pathlib.Path) -> None:
    """Files of bare latent attention have no widths: absorbed 576 and 512 on one head, expanded 192 and 128 on each."""
    bare = ("num_kv_head", "head_dim", "window")
    write(tmp_path, "a.csv", {k: v for k, v in DECODE.items() if k not in bare})
    write(tmp_path, "b.csv", {k: v for k, v in PREFILL.items() if k not in bare})
    decode, prefill = read_folder(tmp_path)
    assert (decode.label, prefill.label) == ("latent_decode", "latent_prefill")
    assert decode.ops["flop"][0] == 4 * 100 * 8 * (576 + 512) * 2
    assert decode.ops["kv_byte"][0] == 4 * 100 * 576  # fp8, values the first part of the keys
    assert prefill.ops["flop"][0] == 4 * 105 * 8 * (192 + 128) * 2
    assert prefill.ops["kv_byte"][0] == 4 * 15 * 8 * (192 + 128)
    assert decode.beside is prefill.beside is None


def test_an_encoder_sees_all_keys(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "a.csv", {k: v for k, v in PREFILL.items() if k not in ("prefix_len", "kv_dtype", "window")})
    (encoder,) = read_folder(tmp_path)
    assert encoder.label == "encoder_prefill"
    assert encoder.ops["flop"][0] == 4 * 10 * 10 * 8 * (64 + 64) * 2


def test_files_of_more_than_an_operator_are_passed_by(tmp_path: pathlib.Path) -> None:
    """A folder that is fitted may hold them: they stop nothing, and count against coverage with what they are."""
    write(tmp_path, "a.csv", GEMM)
    write(tmp_path, "block.csv", {**DECODE, "gemm_dtype": "fp8"})
    write(tmp_path, "scan.csv", {"kernel": "k", "batch": 1, "query_len": 4, "d_conv": 4, "latency_ms": 0.1})
    write(tmp_path, "quantize.csv", {"op": "q", "dtype": "fp8", "kernel": "k", "m": 1, "k": 2, "latency_ms": 0.1})
    assert [measured.kind for measured in read_folder(tmp_path)] == ["gemm"]
    rows, reasons = validate_ops(tmp_path, "h100_sxm")
    assert {row["kind"] for row in rows} == {"gemm"}
    assert {reason.split(": ")[0]: n for reason, n in reasons.items()} == {
        "block.csv": 1,
        "scan.csv": 1,
        "quantize.csv": 1,
    }


def test_a_blank_is_a_default_and_an_odd_cell_is_a_row(tmp_path: pathlib.Path) -> None:
    """Of columns that a file may lack too."""
    write(tmp_path, "a.csv", DECODE, {**DECODE, "window": ""}, {**DECODE, "window": "wide"}, {**DECODE, "window": -1})
    rows, reasons = validate_ops(tmp_path, "h100_sxm")
    (whole,) = [row for row in rows if row["system"] == "all"]
    assert (whole["n"], whole["coverage"]) == (2, 0.5)
    assert reasons == {"window is no measurement": 2}


def test_experts_without_gates_have_two_matrices() -> None:
    row = {"dtype": "bfloat16", "kernel": "a", "num_token": 64, "tp": 1, "ep": 1, "distribution": "balanced"}
    nano = {"hidden": 2688, "inter": 1856, "topk": 6, "num_expert": 128}  # its published config: relu2
    plain, gated = (
        pd.DataFrame([row | nano]).assign(latency_ms=1.0),
        pd.DataFrame([row | nano]).assign(latency_ms=1.0, gated=1),
    )
    for frame, matrix in ((plain, 2), (gated, 3), (gated.assign(gated=0), 2)):
        flop = from_frame(frame, pathlib.Path("a")).ops["flop"][0]
        assert flop == pytest.approx(2 * 64 * 6 * matrix * 2688 * 1856, rel=1e-3)
