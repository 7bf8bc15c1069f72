"""`ridgeline validate training` and `ridgeline train` on the command line."""

import json
import pathlib

import pandas as pd
import pytest

from sim.cli import main
from sim.validate._training_rows import read_rows
from sim.validate.training import validate_file, validate_training
from tests.shared_data import folder
from workloads.files import read_frame


def rows_of(file: str, tmp_path: pathlib.Path) -> list[dict[str, float]]:
    out = tmp_path / "rows.json"
    assert main(["validate", "training", str(folder("training", file)), "--json", str(out)]) == 0
    found: list[dict[str, float]] = json.loads(out.read_text())["rows"]
    return found


def whole(rows: list[dict[str, float]], kind: str) -> dict[str, float]:
    """The row over the whole file."""
    names = ("format", "kernel", "system", "size_class")
    (found,) = [row for row in rows if row["kind"] == kind and all(row[name] == "all" for name in names)]
    return found


def test_single_node_iterations(tmp_path: pathlib.Path) -> None:
    row = whole(rows_of("a100_single_node_iterations.csv", tmp_path), "step")
    assert (row["n"], row["coverage"]) == (1440, 1.0)
    assert row["mape"] <= 0.1  # four factors of every fifth row


def test_layouts_and_what_does_not_fit(tmp_path: pathlib.Path) -> None:
    rows = rows_of("llama_layouts_a100.csv", tmp_path)
    assert whole(rows, "mfu")["mape"] <= 0.08
    assert whole(rows, "fits")["mape"] <= 0.08  # share of wrong verdicts, of 603
    assert min(row["rank_correlation"] for row in rows if row["kind"] == "step" and row["n"] > 20) >= 0.85


def test_rows_of_the_common_form(tmp_path: pathlib.Path) -> None:
    rows = rows_of("mosaic_mpt_throughput.csv", tmp_path)
    assert (whole(rows, "step")["n"], whole(rows, "step")["coverage"]) == (123, 1.0)
    assert whole(rows, "step")["mape"] <= 0.05  # two factors, a clock and an attention kernel of 118 rows
    # rows in FP8, none of which was fitted
    assert max(row["mape"] for row in rows if row["kind"] == "step" and row["format"] == "fp8") <= 0.15
    assert whole(rows, "fits")["mape"] <= 0.08
    lengths = {row["size_class"]: row["bias"] for row in rows if row["kind"] == "step" and "seq" in row["size_class"]}
    assert len(lengths) == 8
    assert max(map(abs, lengths.values())) <= 0.12


def test_offloaded_optimizer(tmp_path: pathlib.Path) -> None:
    rows = rows_of("zero3_offload_iterations.csv", tmp_path)
    total = whole(rows, "step")
    assert (total["n"], total["coverage"]) == (151, 1.0)
    assert total["mape"] <= 0.15
    assert max(row["mape"] for row in rows) <= 0.15  # forward, backward and update apart, on each machine


def test_the_command_says_time_memory_and_cost(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, plot = tmp_path / "out.json", tmp_path / "step.svg"
    given = "train --model gpt3-13b --system dgx_a100 --gpus 16 --tp 4 --pp 2 --dp 2 --batch 32 --interleave 2"
    given += " --recompute none"
    trace = tmp_path / "trace.json"
    assert main([*given.split(), "--json", str(out), "--plot", str(plot), "--trace", str(trace)]) == 0
    events = json.loads(trace.read_text())["traceEvents"]
    # 16 microbatches, 4 stages on 2 ranks: a slice an operation, an arrow each way where a stage has a neighbour
    assert [sum(event["ph"] == phase for event in events) for phase in "Xsf"] == [16 * 4 * 2, 16 * 6, 16 * 6]
    s = json.loads(out.read_text())["summary"]
    parts = s["pipeline_s"] + s["exposed_dp_s"] + s["optimizer_s"] + s["host_s"] + s["wait_s"]
    assert s["step_s"] == pytest.approx(parts)
    assert 0.2 < s["mfu"] < 0.7
    kinds = ("weight", "grad", "optimizer", "activation", "logit", "buffer", "reserve")
    assert s["mem_total_byte"] == pytest.approx(sum(s[f"mem_{kind}_byte"] for kind in kinds))
    assert "fits" in capsys.readouterr().out
    assert "<svg" in plot.read_text()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("train --model gpt3-13b --system dgx_a100 --gpus 9 --tp 8 --batch 8", "gpus = 9"),
        ("train --model gpt3-13b --system dgx_a100 --tp 7 --batch 8", "tp = 7"),
        ("train --model gpt3-13b --system dgx_a100 --dp 3 --batch 8", "batch = 8"),
        ("train --model gpt3-13b --system dgx_a100 --batch 8 --stack megatron", "no such stack"),
        ("train --model gpt3-13b --system dgx_a100 --batch 8 --format fp8", "no such pipe"),
        ("train --model gpt3-13b --system dgx_a100 --pp 2 --batch 8 --schedule gpipe --interleave 2", "no chunks"),
        ("validate training nowhere.csv", "nowhere.csv: cannot be read"),
    ],
)
def test_bad_input_of_training_is_one_line(given: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(given.split()) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


def test_a_file_of_other_columns_is_refused_with_the_known_ones(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    assert main(["validate", "training", str(tmp_path / "other.csv")]) == 2
    assert "# GPUs" in capsys.readouterr().err


NODE = (
    "# GPUs,global batch,micro batch,hidden size,attention heads,# layers,sequence length,tensor parallelism,"
    "data parallelism,pipeline parallelism,iteration time (ms)\n"
)
LAYOUT = (
    "file,World Size,Average Step Time,kernel,micro_batch_size,model_parallel_size,pipe_parallel_size,"
    "sequence_parallel\n"
)


OFFLOAD = (
    "log,fwd_ms,bwd_ms,step_ms\n"
    "log-7B-tp1-dp4-l32-h4096-a32-sl2048-gbs4-mbs1-ratio1-subg100000000-prefetch0-flush_async0-opt_gaps0,"
)


def one_row(text: str, tmp_path: pathlib.Path) -> dict[str, float]:
    (tmp_path / "runs.csv").write_text(text)
    return validate_training(tmp_path / "runs.csv")[0]


def test_runs_on_more_nodes_are_slower_only_by_their_gradients(
    tmp_path: pathlib.Path,
) -> None:
    # 1.7 B parameters, 4 sequences a device: 16 devices of two nodes, and 512 of 64 nodes with the same work each
    row = "{n},{batch},4,2304,24,24,2048,1,{n},1,{ms}\n"
    single = one_row(NODE + row.format(n=16, batch=64, ms=1000), tmp_path)
    several = one_row(NODE + row.format(n=512, batch=2048, ms=1000), tmp_path)
    # 3.5 GB of fp32 gradients each way over 25 GB/s a device and 30 % of it exposed
    step_s = [1 + row["bias"] for row in (single, several)]
    assert step_s[0] < step_s[1] < step_s[0] + 2 * 4 * 1.75e9 / 25e9


def test_a_run_that_needs_recomputation_did_it(tmp_path: pathlib.Path) -> None:
    # 39 B parameters on 512 devices, 4 sequences at once: 144 GiB of activations without recomputation
    row = one_row(NODE + "512,1536,4,8192,64,48,2048,8,32,2,11000\n", tmp_path)
    assert row["otherwise_n"] == 1
    # four forwards' worth of products instead of three, at 35 to 55 % of 312 TFLOP/s
    flop = 96 * 1536 * 2048 * 48 * 8192**2 * (1 + 2048 / (6 * 8192) + 51200 / (16 * 48 * 8192))
    assert 0.35 < flop / (512 * 312e12 * 11 * (1 + row["bias"])) < 0.55


def test_sizes_and_lengths_that_the_shared_sheets_lack(tmp_path: pathlib.Path) -> None:
    times = []
    for sheet in ("llama_30B_bfloat16_128_GPUs_all_runs", "llama_30B_bfloat16_4k_seq_length_128_GPUs_all_runs"):
        text = LAYOUT + f"{sheet},128,40,flash_attention2,1,4,4,True\n"
        times.append(40 / (1 + one_row(text, tmp_path)["bias"]))  # the row is of MFU, 1 / time
    # the same tokens a step: attention doubles and is a small part of a 30B layer, transfers halve in number
    assert times[1] / times[0] == pytest.approx(1, abs=0.1)


def test_an_offloaded_iteration_is_the_sum_of_its_parts(tmp_path: pathlib.Path) -> None:
    rows = [one_row(OFFLOAD + "150,1400,700\n", tmp_path), *validate_training(tmp_path / "runs.csv")[1:]]
    parts = {row["kind"]: (1 + row["bias"]) * ms for row, ms in zip(rows, (150, 1400, 700, 2250), strict=False)}
    assert parts["iteration"] == pytest.approx(parts["forward"] + parts["backward"] + parts["update"])


def test_a_row_that_cannot_be_run_stops_no_file(tmp_path: pathlib.Path) -> None:
    good, bad = "8,64,4,1024,16,24,1024,2,2,2,100\n", "8,64,4,1024,16,24,1024,2,2,4,100\n"
    (tmp_path / "runs.csv").write_text(NODE + good + bad)
    rows, reasons, _ = validate_file(tmp_path / "runs.csv")
    assert (rows[0]["n"], rows[0]["coverage"]) == (1, 0.5)
    assert reasons == [{"reason": "# GPUs = 8: is not tp x dp x pp", "n": 1}]


COMMON = "model,system,num_gpu,tp,pp,cp,vp,gbs,mbs,seq_len,precision,phase,tok_per_s_per_gpu,fits,sharding\n"


def test_names_and_blanks_of_the_common_form(tmp_path: pathlib.Path) -> None:
    lines = (
        "LLAMA3-70B,DGX H100,64,4,8,1,5,128,1,8192,FP8-CS,pre-training,1600,,",
        "llama-3.1-8b,H100-SXM,16,,,,,32,2,8192,bf16,,6000,,FULL_SHARD",
        "Llama-3-8B,NVIDIA H100 80GB HBM3,8,1,1,2,,16,1,4096,bf16,LoRA,9000,,",
        "mpt-7b,a100_80gb,8,,,,,16,2,2048,amp_bf16,,,true,FULL_SHARD",
        "mpt-7b,h100_80gb,8,3,,,,16,2,2048,bf16,,1000,,",
    )
    (tmp_path / "runs.csv").write_text(COMMON + "\n".join(lines) + "\n")
    frame = read_frame(tmp_path / "runs.csv")
    read = read_rows(frame, "runs.csv")
    big, sharded, tuned, verdict = read.rows
    assert (big.plan.schedule, big.plan.interleave, big.precision, big.plan.dp) == ("1f1b", 5, "fp8", 2)
    assert big.plan.sequence_parallel  # today's software where tensor parallelism is there
    assert big.plan.zero == 1  # and a distributed optimizer
    assert (big.stack, sharded.stack, verdict.stack) == ("megatron-core", "pytorch-fsdp", "llm-foundry")
    assert (sharded.plan.zero, sharded.plan.dp, sharded.plan.num_microbatch) == (3, 16, 1)
    assert (tuned.plan.lora_rank > 0, tuned.plan.cp, tuned.plan.dp) == (True, 2, 4)
    assert verdict.fits is True
    assert verdict.plan.attention == "flash1"
    assert len(read.reasons) == 1
    assert "num_gpu" in read.reasons[0]  # 8 devices are no multiple of three


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (NODE + "8,63,4,1024,16,24,1024,2,2,2,100\n", "runs.csv:2"),
        (NODE + "8,64,4,1024,16,-24,1024,2,2,2,100\n", "# layers = -24"),
        (LAYOUT + "llama_13B_x,64,soon,torch,1,2,2,\n", "neither a time nor an OOM"),
        (LAYOUT + "llama_14B_x,64,30,torch,1,2,2,\n", "no model size"),
        (LAYOUT + "llama_13B_x,64,30,torch,1,3,2,\n", "does not divide"),
        (OFFLOAD + "0,2,3\n", "runs.csv:2: fwd_ms"),
        ("log,fwd_ms,bwd_ms,step_ms\nlog-7B-tp1-dp1,1,2,3\n", "lacks l"),
    ],
)
def test_a_bad_row_is_named(text: str, error: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs.csv").write_text(text)
    assert main(["validate", "training", str(tmp_path / "runs.csv")]) == 2
    assert error in capsys.readouterr().err


def test_headers_in_other_letters_and_units_are_read_too(tmp_path: pathlib.Path) -> None:
    row = {"# GPUs": 8, "global batch": 16, "micro batch": 4, "hidden size": 1024, "attention heads": 16,
           "# layers": 4, "sequence length": 512, "tensor parallelism": 2, "data parallelism": 2,
           "pipeline parallelism": 2}  # fmt: skip
    files = {"a.csv": row | {"iteration time (ms)": 100.0}}
    files["b.csv"] = {key.upper(): value for key, value in row.items()} | {"Iteration time (s)": 0.1}
    found = []
    for name, cells in files.items():
        pd.DataFrame([cells]).to_csv(tmp_path / name, index=False)
        found.append([each["bias"] for each in validate_training(tmp_path / name)])
    assert found[0] == pytest.approx(found[1], nan_ok=True)
