"""Rows that a meter could have shown for our own prices come out exact; odd ones count against coverage."""

import json
import pathlib

import numpy as np
import pandas as pd
import pytest

from hw_models import catalog
from hw_models.power import draw, wall_w
from kernels.errors import InputError
from sim.cli import main
from sim.serving.engine_profile import load
from sim.serving.step_time import Deployment
from sim.validate._steady import steady
from sim.validate.power import validate_power


def gemms(folder: pathlib.Path) -> pd.DataFrame:
    frame = pd.DataFrame({"dtype": "bfloat16", "kernel": "torch_flow", "m": [4096, 8192, 64], "n": 8192, "k": 8192})
    return frame.assign(latency_ms=[1.0, 2.0, 0.05], power_w=draw(catalog.device("gb200")).awake_w * 5, x=0)


def test_short_operators_are_apart_and_odd_rows_are_counted(tmp_path: pathlib.Path) -> None:
    frame = gemms(tmp_path)
    frame.loc[3] = frame.loc[0]
    frame["power_w"] = frame["power_w"].astype(object)
    frame.loc[3, "power_w"] = "n/a"
    file = tmp_path / "anything.csv"
    frame.sample(frac=1, axis=1, random_state=1).to_csv(file, index=False)
    rows, reasons = validate_power(file, "gb200")
    found = {row["size_class"]: row for row in rows if row["kernel"] == "all" and row["system"] == "all"}
    assert found["all"]["n"] == found["long"]["n"] == 2  # not the short one
    assert found["short"]["n"] == 1
    assert reasons["no power or no time"] == 1


def test_operators_draw_no_more_than_a_cap(tmp_path: pathlib.Path) -> None:
    """Under a lower cap the same products are priced at fewer watts: at the cap."""
    watts = {}
    for cap in (1200, 700):
        file = tmp_path / f"{cap}.csv"
        gemms(tmp_path).assign(power_limit_w=cap, power_w=float(cap)).iloc[:2].to_csv(file, index=False)
        rows, _ = validate_power(file, "gb200")
        watts[cap] = (1 + rows[0]["bias"]) * cap
        assert rows[0]["median"] == pytest.approx(0.02, abs=1e-3)  # a held board shows 2 % less
    assert watts[700] < watts[1200]


def test_a_file_of_operators_needs_a_machine(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "gemm.csv"
    gemms(tmp_path).to_csv(file, index=False)
    with pytest.raises(InputError, match="--system"):
        validate_power(file)
    assert validate_power(file, "gb200")[0]


def test_a_load_that_draws_our_watts_is_exact_and_unknown_ones_count(tmp_path: pathlib.Path) -> None:
    where, batch, output = Deployment("llama-3.1-8b", "h100_sxm"), 16.0, 400.0
    seconds, joule = steady(where, load("vllm_0.11"), batch, output, "lm-arena-chat")
    row = {
        "gpu": "h100_sxm", "model": "meta-llama/Llama-3.1-8B-Instruct", "precision": "bfloat16", "num_gpu": 1, "tp": 1,
        "ep": 1, "dp": 1, "task": "lm-arena-chat", "batch_mean": batch, "output_len_mean": output,
        "power_w": joule / seconds, "energy_per_output_token_j": joule / batch, "output_tok_per_s": batch / seconds,
    }  # fmt: skip
    file, out = tmp_path / "loads.csv", tmp_path / "out.json"
    pd.DataFrame([row, row | {"model": "acme/unheard-of-9b"}]).to_csv(file, index=False)
    assert main(["validate", "power", str(file), "--json", str(out)]) == 0
    written = json.loads(out.read_text())
    for kind in ("power", "energy_per_token"):
        all_rows = [r for r in written["rows"] if r["kind"] == kind and r["kernel"] == r["system"] == "all"]
        assert all_rows[0]["size_class"] == all_rows[0]["format"] == "all"
        assert all_rows[0]["coverage"] == 0.5
        assert all_rows[0]["mape"] == pytest.approx(0.0, abs=1e-9)
    assert [reason["n"] for reason in written["reasons"]] == [1]


def test_a_node_draws_its_capped_devices_and_what_is_beside_them(tmp_path: pathlib.Path) -> None:
    node = catalog.system("hgx_h200")
    watt = wall_w(node, 8 * 0.98 * 500.0)
    file = tmp_path / "wall.csv"
    frame = pd.DataFrame(
        {"accelerator": ["h200_sxm", "nothing"], "num_accelerator": 8, "gpu_power_limit_w": 500, "power_w": watt}
    )
    frame.to_csv(file, index=False)
    rows, reasons = validate_power(file)
    assert rows[0]["kind"] == "node_power"
    assert rows[0]["coverage"] == 0.5
    assert rows[0]["mape"] == pytest.approx(0.0, abs=1e-9)
    assert sum(reasons.values()) == 1


def test_wall_power_grows_with_the_devices_and_starts_at_the_box() -> None:
    node = catalog.system("hgx_h200")
    drawn = np.array([0.0, 600.0, 4000.0, 5600.0])
    wall = np.array([wall_w(node, watt) for watt in drawn])
    assert wall[0] == node.node.rest_idle_w
    assert (np.diff(wall) > np.diff(drawn)).all()  # supplies and fans
    assert wall_w(node, 500.0, 1) == pytest.approx(wall_w(node, 4000.0) / 8)


@pytest.mark.parametrize("name", ["tp", "ep", "dp"])
def test_a_degree_that_is_none_is_a_row_not_run(tmp_path: pathlib.Path, name: str) -> None:
    row = {"model": "llama-3.1-8b", "gpu": "h100_sxm", "num_gpu": 1, "tp": 1, "ep": 1, "dp": 1, "power_w": 500.0,
           "energy_per_output_token_j": 0.1, "output_tok_per_s": 5000.0, "batch_mean": 64, "output_len_mean": 300,
           "precision": "bfloat16", "task": "chat"}  # fmt: skip
    frame = pd.DataFrame([row, row | {name: "two"}, row | {name: 1.5}, row | {name: ""}])
    frame.to_csv(tmp_path / "loads.csv", index=False)
    rows, reasons = validate_power(tmp_path / "loads.csv")
    (whole,) = [
        r for r in rows if r["kind"] == "power" and r["system"] == r["size_class"] == "all" and r["kernel"] == "all"
    ]
    assert (whole["n"], whole["coverage"]) == (2, 0.5)  # what is blank is as by default
    assert sum(n for reason, n in reasons.items() if f"{name} = " in reason) == 2


def test_a_node_of_no_machine_counts_against_coverage(tmp_path: pathlib.Path) -> None:
    frame = pd.DataFrame([{"num_accelerator": 8, "power_w": 6000.0, "idle_power_w": 2500.0, "benchmark": "b"}])
    frame.to_csv(tmp_path / "wall.csv", index=False)
    rows, reasons = validate_power(tmp_path / "wall.csv")
    assert {row["coverage"] for row in rows} == {0.0}
    assert sum(reasons.values()) == 1
