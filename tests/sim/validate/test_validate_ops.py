"""`validate ops` and `validate layers` on the measured data set and on a renamed, shuffled, reduced copy of it."""

import json
import pathlib

import numpy as np
import pandas as pd
import pytest

from hw_models.calibration.measured import read_frame
from kernels.errors import InputError
from sim.cli import main
from sim.validate.layers import validate_layers
from sim.validate.ops import validate_ops
from tests.shared_data import folder

LAYER = {"num_token": 64, "tp": 1, "hidden": 4096, "inter": 11008, "num_head": 32, "num_kv_head": 32}


def disguise(frame: pd.DataFrame, file: pathlib.Path) -> None:
    """Other order of rows and columns, other name, other compression."""
    mixed = frame.sample(frac=1.0, random_state=1)
    mixed[sorted(mixed.columns, reverse=True)].to_csv(file, index=False)


def keyed(rows: list[dict]) -> dict:
    return {tuple(row[k] for k in ("kind", "format", "kernel", "size_class")): row for row in rows}


def assert_same(plain: list[dict], hidden: list[dict]) -> None:
    first, second = keyed(plain), keyed(hidden)
    assert set(first) == set(second)
    for key, row in first.items():
        for name in ("n", "coverage", "mape", "median", "p90", "bias"):
            assert second[key][name] == pytest.approx(row[name], rel=1e-9, nan_ok=True), (key, name)


@pytest.mark.parametrize(
    ("parts", "system", "kept"),
    [
        (("ops", "h100_sxm"), "h100_sxm", ("decode", "moe")),  # half of the files
        (("ops", "a100_sxm"), "a100_sxm", ("gemm", "prefill")),
        (("ops", "l40s"), "l40s", ("gemm", "moe", "decode")),  # plain CSV becomes gzipped
        (("ops", "b200_sxm"), "b200", ("prefill",)),
        (("collectives",), "h100_sxm", ("h100_sxm_nccl", "h100_sxm_vllm")),
    ],
)
def test_ops_do_not_depend_on_names_order_or_what_is_missing(
    tmp_path: pathlib.Path, parts: tuple[str, ...], system: str, kept: tuple[str, ...]
) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "hidden").mkdir()
    chosen = [file for file in sorted(folder(*parts).glob("*.csv*")) if file.name.startswith(kept)]
    assert len(chosen) == len(kept)
    for i, file in enumerate(chosen):
        frame = read_frame(file)
        frame = frame.sample(min(len(frame), 150), random_state=0)
        frame.to_csv(tmp_path / "plain" / file.name, index=False)
        disguise(frame, tmp_path / "hidden" / f"z{9 - i}.csv{'' if file.suffix == '.gz' else '.gz'}")
    (tmp_path / "hidden" / "notes.csv").write_text("what,when\nnothing,never\n")  # passed by
    plain, why = validate_ops(tmp_path / "plain", system)
    hidden, other = validate_ops(tmp_path / "hidden", system)
    assert why == other
    assert_same(plain, hidden)
    totals = [row for row in plain if row["size_class"] == "all" and row["format"] == "all"]
    assert all(row["coverage"] == 1.0 and row["mape"] < 0.4 for row in totals)


def test_layers_do_not_depend_on_names_or_order(tmp_path: pathlib.Path) -> None:
    frame = read_frame(folder("layers", "h100", "Llama-2-7b-hf.csv.gz")).sample(200, random_state=0)
    for name in ("plain", "hidden"):
        (tmp_path / name).mkdir()
    frame = frame.drop(columns=["attn_rope_ms"])  # a file need not time every operator
    frame.to_csv(tmp_path / "plain" / "model.csv.gz", index=False)
    disguise(frame, tmp_path / "hidden" / "model.csv")
    plain, _ = validate_layers(tmp_path / "plain", "h100_sxm")
    hidden, _ = validate_layers(tmp_path / "hidden" / "model.csv", "h100_sxm")  # a folder, or a file of it
    assert_same(plain, hidden)
    assert "attn_rope" not in {row["kind"] for row in plain}


def test_a_parallel_block_is_timed_with_two_adds(tmp_path: pathlib.Path) -> None:
    """Attention's result and the feed-forward part's come to the residual one after the other."""
    row = {**LAYER, "add_ms": 0.01}
    pd.DataFrame([row]).to_csv(tmp_path / "parallel.csv", index=False)
    pd.DataFrame([{**row, "post_attention_layernorm_ms": 0.01}]).to_csv(tmp_path / "serial.csv", index=False)
    bias = {
        name: next(r["bias"] for r in validate_layers(tmp_path / name, "h100_sxm")[0] if r["kind"] == "add")
        for name in ("parallel.csv", "serial.csv")
    }
    assert 1 + bias["parallel.csv"] == pytest.approx(2 * (1 + bias["serial.csv"]))


COMMON = {"dtype": "bfloat16", "kernel": "k"}
HEADS = {"kv_dtype": "bfloat16", "num_head": 32, "num_kv_head": 8, "head_dim": 128}
SLOW = {  # each takes what a H100 takes, about; a thousandth of it is what seconds given as milliseconds look like
    "gemm": {**COMMON, "m": 16, "n": 4096, "k": 4096, "latency_ms": 0.014},
    "prefill": {**COMMON, **HEADS, "batch": 1, "query_len": 2048, "prefix_len": 0, "latency_ms": 0.1},
    "decode": {**COMMON, **HEADS, "batch": 64, "kv_len": 4096, "latency_ms": 0.4},
    "experts": {**COMMON, "num_token": 4, "hidden": 4096, "inter": 14336, "topk": 2, "num_expert": 8, "tp": 8, "ep": 1,
                "distribution": "balanced", "latency_ms": 0.08},
    "collective": {"op": "all_reduce", "num_gpu": 8, "message_byte": 65536, "latency_ms": 0.0187},
}  # fmt: skip


@pytest.mark.parametrize("kind", list(SLOW))
def test_rows_in_seconds_among_milliseconds_are_counted(tmp_path: pathlib.Path, kind: str) -> None:
    good = SLOW[kind]
    bad = {**good, "latency_ms": good["latency_ms"] * 1e-3}
    pd.DataFrame([good, good]).to_csv(tmp_path / "x.csv", index=False)
    assert validate_ops(tmp_path, "h100_sxm")[0][0]["coverage"] == 1.0
    pd.DataFrame([good, bad, bad]).to_csv(tmp_path / "x.csv", index=False)
    rows, reasons = validate_ops(tmp_path, "h100_sxm")
    assert rows[0]["coverage"] == pytest.approx(1 / 3)
    assert [("speed of light" in why, n) for why, n in reasons.items()] == [(True, 2)]
    pd.DataFrame([bad, bad]).to_csv(tmp_path / "x.csv", index=False)  # no row stands
    with pytest.raises(InputError, match=r"x\.csv:2: latency_ms = .*beats the speed of light"):
        validate_ops(tmp_path, "h100_sxm")


@pytest.mark.parametrize("change", [{"latency_ms": 0.0}, {"latency_ms": -0.1}, {"latency_ms": "n/a"}])
@pytest.mark.parametrize("kind", list(SLOW))
def test_bad_latencies_are_counted_and_refused_on_one_line_where_no_row_stands(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], kind: str, change: dict
) -> None:
    bad = {**SLOW[kind], **change}
    pd.DataFrame([SLOW[kind], SLOW[kind], bad]).to_csv(tmp_path / "x.csv", index=False)
    rows, reasons = validate_ops(tmp_path, "h100_sxm")
    assert (rows[0]["n"], rows[0]["coverage"]) == (2, pytest.approx(2 / 3))
    assert dict(reasons) == {"latency_ms is no measurement": 1}
    pd.DataFrame([SLOW[kind], bad, bad, bad]).to_csv(tmp_path / "x.csv", index=False)
    assert validate_ops(tmp_path, "h100_sxm")[0][0]["coverage"] == 0.25
    pd.DataFrame([bad, bad]).to_csv(tmp_path / "x.csv", index=False)
    assert main(["validate", "ops", str(tmp_path), "--system", "h100_sxm"]) == 2
    said = capsys.readouterr().err.strip()
    assert "x.csv:2: latency_ms" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tp": None}, "tp = '': column is missing"),
        ({"add_ms": None, "mlp_up_proj_ms": None}, "no operator was timed"),
        ({"hidden": 0}, r"layers\.csv:2: hidden"),
        ({"num_head": 33}, r"layers\.csv:2: num_head = 33: does not divide hidden"),
        ({"add_ms": 10.0, "mlp_up_proj_ms": 50.0}, r"layers\.csv:2: mlp_up_proj_ms = 50\.0: 100 times slower"),
    ],
)
def test_layers_of_which_no_time_stands_are_refused(tmp_path: pathlib.Path, change: dict, message: str) -> None:
    row = {**LAYER, "add_ms": 0.01, "mlp_up_proj_ms": 0.05, **change}
    frame = pd.DataFrame([row]).drop(columns=[name for name, value in change.items() if value is None])
    frame.to_csv(tmp_path / "layers.csv", index=False)
    with pytest.raises(InputError, match=message):
        validate_layers(tmp_path, "h100_sxm")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"add_ms": -1.0}, "add_ms: not a measurement"),
        ({"add_ms": 10.0}, "add_ms: 100 times slower than the machine is"),  # microseconds
        ({"mlp_up_proj_ms": 0.0}, "mlp_up_proj_ms: not a measurement"),
        ({"mlp_up_proj_ms": 1e-5}, "mlp_up_proj_ms: beats the speed of light of the machine"),
        ({"mlp_up_proj_ms": "n/a"}, "mlp_up_proj_ms: not a measurement"),
    ],
)
def test_a_bad_time_of_a_layer_counts_against_its_operator_alone(
    tmp_path: pathlib.Path, change: dict, reason: str
) -> None:
    row = {**LAYER, "add_ms": 0.01, "mlp_up_proj_ms": 0.05}
    pd.DataFrame([row, {**row, **change}]).to_csv(tmp_path / "layers.csv", index=False)
    rows, reasons = validate_layers(tmp_path, "h100_sxm")
    assert dict(reasons) == {reason: 1}
    (name,) = change
    found = {row["kind"]: row["coverage"] for row in rows if row["system"] == row["size_class"] == "all"}
    assert found == {"add": 1.0, "mlp_up_proj": 1.0, "all": 0.75} | {name.removesuffix("_ms"): 0.5}
    with_shape = [row, {**row, "num_token": "many"}]
    pd.DataFrame(with_shape).to_csv(tmp_path / "layers.csv", index=False)
    rows, reasons = validate_layers(tmp_path, "h100_sxm")
    assert (rows[-1]["coverage"], dict(reasons)) == (0.5, {"num_token: not a measurement": 1})


def test_a_time_below_the_timer_s_step_is_no_bad_row_and_not_covered(tmp_path: pathlib.Path) -> None:
    pd.DataFrame([{**LAYER, "add_ms": 0.0, "mlp_up_proj_ms": 0.05}]).to_csv(tmp_path / "layers.csv", index=False)
    rows, _ = validate_layers(tmp_path, "h100_sxm")
    add = next(row for row in rows if row["kind"] == "add")
    assert (add["n"], add["coverage"]) == (0, 0.0)
    assert (rows[-1]["n"], rows[-1]["coverage"]) == (1, 0.5)


def test_json_has_the_rows(tmp_path: pathlib.Path) -> None:
    pd.DataFrame([SLOW["gemm"]]).to_csv(tmp_path / "x.csv", index=False)
    out = tmp_path / "x.json"
    assert main(["validate", "ops", str(tmp_path), "--system", "h100_sxm", "--json", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    fields = {"kind", "format", "kernel", "system", "size_class", "n", "coverage", "mape", "median", "p90", "bias"}
    assert all(fields <= set(row) for row in rows)
    assert np.isfinite(rows[0]["mape"])


@pytest.mark.parametrize("kind", list(SLOW))
def test_microseconds_are_refused_with_the_row(tmp_path: pathlib.Path, kind: str) -> None:
    good = {**SLOW[kind], "latency_ms": SLOW[kind]["latency_ms"] * 1e3}
    pd.DataFrame([good, good]).to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(InputError, match=r"x\.csv:2: latency_ms = .*100 times slower"):  # a thousand times, in fact
        validate_ops(tmp_path, "h100_sxm")


def test_compression_and_header_do_not_depend_on_names(tmp_path: pathlib.Path) -> None:
    frame = pd.DataFrame([SLOW["gemm"]])
    frame.to_csv(tmp_path / "a.csv", index=False, compression="gzip")
    frame.to_csv(tmp_path / "b.csv.gz", index=False, compression=None)
    frame.rename(columns=lambda name: f" {name.upper()} ").to_csv(tmp_path / "C.CSV", index=False)
    (tmp_path / "._d.csv").write_bytes(b"\x00\x05")  # what some file systems leave beside a file
    rows, reasons = validate_ops(tmp_path, "NVIDIA H100 80GB HBM3")
    assert (rows[0]["n"], rows[0]["system"], not reasons) == (3, "h100_80gb", True)


@pytest.mark.parametrize("gone", ["latency_ms", "n", "k"])
def test_a_file_short_of_a_column_is_counted_beside_whole_ones_and_refused_alone(
    tmp_path: pathlib.Path, gone: str
) -> None:
    pd.DataFrame([SLOW["decode"]]).to_csv(tmp_path / "a.csv", index=False)
    pd.DataFrame([SLOW["gemm"]]).drop(columns=gone).to_csv(tmp_path / "b.csv", index=False)
    rows, reasons = validate_ops(tmp_path, "h100_sxm")
    assert [row["n"] for row in rows if row["system"] == "all"] == [1]
    assert list(reasons.values()) == [1]
    with pytest.raises(InputError, match=rf"b\.csv: {gone} = '': column is missing"):
        validate_ops(tmp_path / "b.csv", "h100_sxm")


def test_odd_rows_count_against_coverage(tmp_path: pathlib.Path) -> None:
    good = SLOW["gemm"]
    odd = [{**good, "latency_ms": good["latency_ms"] * factor} for factor in (1e3, 1e-3)]
    pd.DataFrame([good] * 8 + odd).to_csv(tmp_path / "x.csv", index=False)
    rows, reasons = validate_ops(tmp_path, "h100_sxm")
    assert (rows[0]["n"], rows[0]["coverage"]) == (8, 0.8)
    assert sorted(reasons.values()) == [1, 1]
    whole, _ = validate_ops(tmp_path, "h100_sxm")
    assert whole[0]["mape"] == pytest.approx(rows[0]["mape"])


def test_a_file_without_rows_is_refused_alone(tmp_path: pathlib.Path) -> None:
    pd.DataFrame([SLOW["gemm"]]).head(0).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match=r"a\.csv: no row"):
        validate_ops(tmp_path / "a.csv", "h100_sxm")
    pd.DataFrame([SLOW["gemm"]]).to_csv(tmp_path / "b.csv", index=False)
    assert validate_ops(tmp_path, "h100_sxm")[0][0]["n"] == 1


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("decode", {"num_kv_head": 7}, "num_head is no multiple"),  # groups of queries are of one size
        ("experts", {"ep": 4096}, "fewer experts"),  # a device would hold none
        ("experts", {"topk": 4096}, "fewer experts"),
        ("collective", {"num_gpu": 1}, "of one device"),  # nothing is sent
    ],
)
def test_shapes_that_no_kernel_runs_count_against_coverage(
    tmp_path: pathlib.Path, kind: str, change: dict, reason: str
) -> None:
    good = {**SLOW[kind], "latency_ms": 1e3}
    pd.DataFrame([SLOW[kind], {**good, **change}]).to_csv(tmp_path / "x.csv", index=False)
    rows, reasons = validate_ops(tmp_path, "h100_sxm")
    assert (rows[0]["n"], rows[0]["coverage"]) == (1, 0.5)
    assert reason in next(iter(reasons))
