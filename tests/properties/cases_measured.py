"""Hypothesis strategies of measured tables, as `ridgeline validate` reads them, and of traces as Parquet."""

import datetime
import functools
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from tests.properties import nasty
from tests.properties.driver import Case
from tests.properties.nasty import TEXTS, damaged, mutated

MEASURED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "ops": ({"m": 64, "n": 4096, "k": 1024, "dtype": "bfloat16", "kernel": "linear", "latency_ms": 0.02},
            ("--system", "h100_sxm")),
    "points": ({"model": "llama-2-7b", "system": "h100_sxm", "input_len": 90, "output_len": 3, "concurrency": 2,
                "tp": 1, "ttft_ms": 20.0, "tpot_ms": 8.0}, ()),
    "serving": ({"run": "a", "gpu": "h100_sxm", "model": "llama-2-7b", "tp": 1, "max_num_seqs": 16,
                 "max_num_batched_tokens": 512, "max_model_len": 2048, "stage": 0, "request_per_s": 2.0,
                 "duration_s": 4.0, "num_system_prompt": 2, "num_user_per_system_prompt": 2, "system_prompt_len": 32,
                 "question_len": 100, "output_len": 20, "completed": 8, "failed": 0, "request_throughput_per_s": 1.9,
                 "ttft_mean_s": 0.03, "e2e_mean_s": 0.25}, ()),
    "steps": ({"model": "llama-2-7b", "system": "a100_sxm_80gb", "tp": 1, "batch_size": 2, "prompt_len": 512,
               "output_len": 16, "prompt_time_ms": 120.0, "token_time_ms": 14.0}, ()),
    "layers": ({"num_token": 128, "tp": 1, "hidden": 4096, "inter": 11008, "num_head": 32, "num_kv_head": 32,
                "input_layernorm_ms": 0.01, "post_attention_layernorm_ms": 0.01, "attn_pre_proj_ms": 0.1,
                "mlp_act_ms": 0.02, "add_ms": 0.01}, ("--system", "a100_sxm_80gb")),
    "offline": ({"backend": "vllm+pc", "nreqs": 4, "prefixlen": 64, "ctxlen": 20, "outlen": 4, "req_per_sec": 3.0},
                ()),
    "training": ({"model": "gpt2", "gpu": "dgx_a100", "num_gpu": 8, "tp": 1, "pp": 1, "dp": 8, "global_batch": 64,
                  "micro_batch": 8, "seq_len": 1024, "vp": 1, "precision": "bf16", "zero": 0, "step_s": 0.3,
                  "memory_GiB": 20.0}, ()),
    "schedules": ({"schedule": "zb", "p": 2, "m": 2, "tF": 1, "tB": 1, "tW": 1, "tComm": 0,
                   "order": ["F0.0 F0.1 I0.0 W0.0 I0.1 W0.1", "F1.0 I1.0 W1.0 F1.1 I1.1 W1.1"],
                   "replayer": {"makespan": 8}, "peak_mem_per_stage": [2, 1]}, ()),
}  # fmt: skip


OLD: tuple[dict[str, Any], ...] = (  # headers of files before the common form
    {"# GPUs": 8, "global batch": 16, "micro batch": 4, "hidden size": 1024, "attention heads": 16, "# layers": 4,
     "sequence length": 512, "tensor parallelism": 2, "data parallelism": 2, "pipeline parallelism": 2,
     "iteration time (ms)": 100.0},
    {"file": "7B", "World Size": 64, "Average Step Time": 12.0, "activation_checkpointing_type": "disabled",
     "kernel": "flash_attention2", "micro_batch_size": 1, "model_parallel_size": 2, "pipe_parallel_size": 2,
     "sequence_parallel": "False"},
)  # fmt: skip

# a trace of requests as Parquet

FRAMES: tuple[dict[str, list[Any]], ...] = tuple(
    {"arrival_s": [0.0, 0.5, 1.0], "prompt_token": [20, 5, 9], "output_token": [3, 1, 2]} | change
    for change in (
        {}, {"priority": [1, 2, 3]}, {"priority": [1, 2, 300]}, {"predicted_token": [1, 2, 0]}, {"x": [1, 2, 3]},
        {"arrival_s": [0, 1, None]}, {"arrival_s": ["a", "b", "c"]}, {"arrival_s": [float("nan"), 1.0, 2.0]},
        {"arrival_s": [1e300, 1.0, float("inf")]}, {"prompt_token": [1, 2**63 - 1, 3]}, {"output_token": [0, 1, 2]},
        {"prompt_token": [1.5, 2.0, 3.0]}, {"prompt_token": [[1], [2], [3, 4]]}, {"output_token": [True, True, False]},
        {"arrival_s": [b"1", b"2", b"3"]}, {"prompt_token": [{"a": 1}] * 3}, {"arrival_s": [-1.0, 0.0, 1.0]},
        {"arrival_s": [datetime.datetime(2024, 1, 1)] * 3}, {"output_token": [None] * 3},
        {name: [] for name in ("arrival_s", "prompt_token", "output_token")},
    )
)  # fmt: skip


@functools.cache
def parquet(number: int) -> bytes:
    """One of `FRAMES` as a file."""
    buffer = io.BytesIO()
    pq.write_table(pa.table(FRAMES[number]), buffer)
    return buffer.getvalue()


@st.composite
def parquet_trace(draw: st.DrawFn) -> Case:
    data = parquet(draw(st.integers(0, len(FRAMES) - 1)))
    if draw(st.booleans()):
        data = draw(damaged(data))
    named = draw(st.sampled_from(("t", "plain:t", "t,n=2", "azure:t", "t,scale=0.5")))
    if draw(st.integers(0, 3)):
        return Case(("traces", named, "--json", "o.json"), {"t": data}, ("o.json",))
    say = ("simulate", "--model", "gpt2", "--system", "a100_sxm", "--requests", named, "--json", "o.json")
    return Case(say, {"t": data}, ("o.json",))


@st.composite
def measured(draw: st.DrawFn) -> Case:
    verb = draw(st.sampled_from(sorted(MEASURED)))
    row, more = MEASURED[verb]
    if verb == "schedules":
        data = json.dumps(draw(mutated({"vectors": [row]}))).encode()
        return Case(("validate", verb, "v.json", "--json", "o.json"), {"v.json": data}, ("o.json",))
    if verb == "training" and draw(st.booleans()):
        row = draw(st.sampled_from(OLD))
    lines = [list(row), [str(value) for value in row.values()], [str(value) for value in row.values()]]
    for _ in range(draw(st.integers(1, 2))):
        line = draw(st.sampled_from(lines))
        line[draw(st.integers(0, len(line) - 1))] = draw(st.one_of(nasty.numbers, st.sampled_from(TEXTS)))
    data = "\n".join(map(",".join, lines)).encode()
    if not draw(st.integers(0, 4)):
        data = draw(damaged(data))
    return Case(("validate", verb, "v.csv", *more, "--json", "o.json"), {"v.csv": data}, ("o.json",))
