"""Blocks of operators, recurrent kernels, absorbing products and one rank's experts against their prices."""

import dataclasses
import pathlib

import numpy as np
import pandas as pd
import pytest

from hw_models import catalog
from hw_models.calibration.measured import read_folder
from hw_models.device import cost, machine
from kernels import optable as op
from sim.validate._blocks import one_layer
from sim.validate.ops import validate_ops
from workloads.formats import parse
from workloads.lowering import lower_attention, lower_dense, work_rows
from workloads.models.families.qwen3_next import NO_ATTENTION
from workloads.models.layers.delta import Delta
from workloads.models.spec import NO_FFN, Block
from workloads.placement import Placement

MLA = {
    "stack": "vllm-0.24.0", "model": "deepseek-ai/DeepSeek-V3", "architecture": "DeepseekV3ForCausalLM",
    "kernel": "default", "dtype": "bfloat16", "kv_dtype": "fp8", "gemm_dtype": "fp8_block", "num_head": 16, "batch": 8,
    "kv_len": 4095, "latency_ms": 0.2,
}  # fmt: skip
GDN = {
    "kernel": "chunk_gated_delta_rule_flashinfer", "phase": "context", "batch": 4, "query_len": 2048, "num_k_head": 16,
    "head_k_dim": 128, "num_v_head": 32, "head_v_dim": 128, "conv_channel": 0, "d_conv": 4, "latency_ms": 0.5,
}  # fmt: skip


def write(folder: pathlib.Path, name: str, *rows: dict[str, object]) -> pathlib.Path:
    file = folder / name
    pd.DataFrame(list(rows)).to_csv(file, index=False)
    return file


def total(rows: list[dict[str, object]], kind: str) -> dict[str, object]:
    (row,) = [r for r in rows if r["kind"] == kind and {r[n] for n in ("format", "kernel", "system")} == {"all"}
              and r["size_class"] == "all"]  # fmt: skip
    return row


def test_a_block_is_the_sum_of_the_operators_of_its_layer(tmp_path: pathlib.Path) -> None:
    rows, reasons = validate_ops(write(tmp_path, "mla.csv", MLA), "h100_sxm")
    arrays = machine(catalog.system("h100_sxm", 8), "calibrated")
    name, layer = one_layer("deepseek-ai/DeepSeek-V3", 16, 0, skip=False, dense=False)
    chosen, one = parse("fp8_block:kv=fp8"), Placement()
    dense = lower_dense(layer, chosen, one, 0, 8)
    dense = dense[~np.isin(dense["name"], [b"embed", b"attn_norm", b"attn_add", b"final_norm"])]
    work = work_rows([1] * 8, [4096] * 8)
    spans = lower_attention(layer, chosen, one, 0, work, "decode")
    ours_ps = cost(dense, op.empty(0)[1], arrays)["time_ps"].sum() + cost(spans, work, arrays)["time_ps"].sum()
    row = total(rows, "mla_decode_block")
    assert (name, row["n"], row["coverage"], reasons.total()) == ("mla", 1, 1.0, 0)
    assert row["bias"] == pytest.approx(ours_ps * 1e-12 / 0.2e-3 - 1, rel=1e-6)


def test_a_rank_has_its_heads_and_the_whole_latent() -> None:
    """Projections to and from heads follow their number; those of the latent do not."""
    sizes = {}
    for head in (16, 128):
        _, layer = one_layer("deepseek-ai/DeepSeek-V3", head, 0, skip=False, dense=False)
        ops = lower_dense(layer, parse("bf16"), Placement(), 0, 1)
        sizes[head] = {
            name: ops["weight_byte"][ops["name"] == name][0] for name in (b"qkv_a_proj", b"q_b_proj", b"o_proj")
        }
    assert sizes[16][b"qkv_a_proj"] == sizes[128][b"qkv_a_proj"] == 2 * 7168 * (1536 + 576)
    for name in (b"q_b_proj", b"o_proj"):
        assert 8 * sizes[16][name] == sizes[128][name]


def test_sparse_blocks_have_an_indexer_unless_their_kernel_reads_all_or_another_layers_picks() -> None:
    indexed = {}
    for key, option in {"full": {}, "skip": {"skip": True}, "dense": {"dense": True}}.items():
        name, layer = one_layer("zai-org/GLM-5", 8, 0, **({"skip": False, "dense": False} | option))
        ops = lower_attention(layer, parse("bf16"), Placement(), 0, work_rows([512], [8192]), "prefill")
        indexed[key] = (name, len(ops), max(ops["window"].tolist()))
    assert indexed == {"full": ("dsa", 2, 2048), "skip": ("dsa", 1, 2048), "dense": ("dsa", 1, 0)}


def test_odd_rows_and_unknown_models_of_a_block_stop_nothing(tmp_path: pathlib.Path) -> None:
    file = write(tmp_path, "b.csv", MLA, MLA | {"model": "acme/unheard"}, MLA | {"batch": None}, MLA | {"kv_len": "x"})
    rows, reasons = validate_ops(file, "h100_sxm")
    row = total(rows, "mla_decode_block")
    assert (row["n"], row["coverage"]) == (1, 0.25)
    assert reasons["a cell is no measurement"] == 2
    assert any("acme/unheard" in why for why in reasons)


def test_a_block_that_lacks_a_column_is_counted_and_not_priced(tmp_path: pathlib.Path) -> None:
    for name in ("kernel", "kv_dtype", "kv_len"):
        file = write(tmp_path, "b.csv", {key: value for key, value in MLA.items() if key != name})
        rows, reasons = validate_ops(file, "h100_sxm")
        assert (rows, list(reasons.values())) == ([], [1])


def test_a_scan_is_priced_as_the_layer_that_has_it(tmp_path: pathlib.Path) -> None:
    (found,) = read_folder(write(tmp_path, "gdn.csv", GDN, GDN | {"phase": "verify"}))
    delta = Delta(16, 32, 128, 128, 4, state_byte=4.0)
    _, layer = one_layer("qwen3-8b", 32, 0, skip=False, dense=False)
    layer = dataclasses.replace(layer, block=(Block(NO_ATTENTION, NO_FFN, num_norm=1, mixer=delta),))
    ops = lower_attention(layer, parse("bf16"), Placement(), 0, work_rows([2048] * 4, [2048] * 4), "prefill")
    scan = ops[ops["kind"] == op.SCAN][0]
    for field in ("m", "batch", "num_head", "flop"):
        assert found.ops[field][0] == scan[field]
    assert found.ops["act_byte"][0] == pytest.approx(scan["act_byte"] + scan["weight_byte"], rel=1e-12)
    assert found.ops["write_byte"][0] == scan["write_byte"]
    assert list(found.skipped) == [1]


def test_a_convolution_is_one_by_its_channels_whatever_its_kernel_is_called(tmp_path: pathlib.Path) -> None:
    (found,) = read_folder(write(tmp_path, "gdn.csv", GDN | {"conv_channel": 8192, "kernel": "mine"}, GDN))
    assert found.ops["kind"].tolist() == [op.CONV, op.SCAN]
    mamba = {"kernel": "c", "phase": "context", "batch": 2, "query_len": 64, "num_head": 128, "head_dim": 64,
             "d_state": 128, "num_group": 8, "d_conv": 4, "latency_ms": 0.05}  # fmt: skip
    rows, reasons = validate_ops(write(tmp_path, "m.csv", mamba, mamba | {"head_dim": "x"}), "h100_sxm")
    assert total(rows, "conv")["n"] == 1
    assert reasons.total() == 1


def test_absorbing_products_are_a_multiply_a_head(tmp_path: pathlib.Path) -> None:
    row = {"op": "mla_gen_pre", "dtype": "bfloat16", "kernel": "bmm", "num_token": 64, "num_head": 16, "latency_ms": 1}
    (found,) = read_folder(write(tmp_path, "bmm.csv", row, row | {"op": "mla_gen_post"}))
    assert found.kind == "absorbing"
    assert found.ops["flop"].tolist() == [2 * 64 * 16 * 128 * 512] * 2
    assert [tuple(each) for each in found.ops[["n", "k"]].tolist()] == [(512, 128), (128, 512)]


def test_experts_of_one_rank_that_copies_balance_are_even(tmp_path: pathlib.Path) -> None:
    row = {
        "op": "any", "dtype": "fp8_block", "kernel": "k", "num_token": 4096, "num_token_rank0": 2048, "hidden": 7168,
        "inter": 2048, "topk": 8, "num_expert": 256, "num_slot": 288, "num_token_per_rank": 256, "ep": 16,
        "distribution": "power_law_1.2_eplb", "latency_ms": 1.0,
    }  # fmt: skip
    (found,) = read_folder(write(tmp_path, "wide.csv", row, row | {"distribution": "power_law_1.2"}))
    assert found.label == "moe_wide"
    assert found.ops["num_expert"].tolist() == [288, 256]
    assert found.ops["skew"].tolist() == pytest.approx([0.0, 1.2])


@pytest.mark.parametrize(
    ("column", "scale"),
    [("latency_us", 1e3), ("latency_s", 1e-3), ("Latency (ms)", 1.0), ("LATENCY [us]", 1e3), ("latency_ns", 1e6)],
)
def test_a_column_may_be_in_another_unit(column: str, scale: float, tmp_path: pathlib.Path) -> None:
    row = {key: value for key, value in MLA.items() if key != "latency_ms"}
    usual, _ = validate_ops(write(tmp_path, "a.csv", row | {"latency_ms": 0.25}), "h100_sxm")
    other, _ = validate_ops(write(tmp_path, "b.csv", row | {column: 0.25 * scale}), "h100_sxm")
    assert other[0]["bias"] == pytest.approx(usual[0]["bias"], rel=1e-9)
