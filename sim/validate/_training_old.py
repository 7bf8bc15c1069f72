"""Measured training files of older headers, as the rows of the common form.

Three kinds: GPT iterations inside one node (Megatron-LM on A100), Llama layouts on A100 nodes, and ZeRO-3 with the
optimizer on the host (`sim.training.offload_measured`, which has a model of its own).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from kernels.errors import InputError
from sim.training.offload_measured import COLUMNS as OFFLOAD_COLUMNS
from sim.training.stack import load_stack
from sim.validate._training_rows import ReadRows, TrainRow, _number, _whole, gpt_model
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec
from workloads.training import TrainPlan, check, check_sizes

NODE_COLUMNS = {
    "# GPUs": "num_gpu", "global batch": "global_batch", "micro batch": "micro_batch", "hidden size": "hidden",
    "attention heads": "num_head", "# layers": "num_layer", "sequence length": "seq_len", "tensor parallelism": "tp",
    "data parallelism": "dp", "pipeline parallelism": "pp", "iteration time (ms)": "time",
}  # fmt: skip
LAYOUT_COLUMNS = {
    "file": "sheet", "World Size": "num_gpu", "Average Step Time": "time",
    "activation_checkpointing_type": "checkpoint", "kernel": "kernel", "micro_batch_size": "micro_batch",
    "model_parallel_size": "tp", "pipe_parallel_size": "pp", "sequence_parallel": "sequence_parallel",
}  # fmt: skip
OPTIONAL = ("checkpoint", "sequence_parallel")
KERNELS: dict[str, dict[str, Any]] = {
    "torch": {"attention": "unfused"}, "fused": {"attention": "fused_softmax"},
    "flash_attentionv1.0.8": {"attention": "flash1"}, "flash_attention2": {"attention": "flash2"},
    "flash_attention2 + RMS kernel": {"attention": "flash2", "fused_norm": True},
}  # fmt: skip
# Llama shapes (Touvron et al. 2023); the sheets' MFU back-solves to a vocabulary of 128,000 and 4.19 M tokens a step
LLAMA = {
    "7B": (4096, 32, 32, 11008), "13B": (5120, 40, 40, 13824), "30B": (6656, 60, 52, 17920),
    "65B": (8192, 80, 64, 22016),
}  # fmt: skip
SPLIT = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False, "": False}  # as written
CHECKPOINT = {"disabled": "none", "every_layer": "full"}
LAYOUT_VOCAB, LAYOUT_TOKEN = 128_000, 2048 * 2048
NODE_VOCAB = 51_200  # GPT-2's, padded as Megatron pads it for 8 ways
NODE_STACK, CLUSTER_STACK, LAYOUT_STACK = "megatron-2021", "megatron-2022", "scaling-2023"
NODE = 8  # devices of a node
MOST_LAYER = 10_000  # of a model, as of one that a configuration describes
SYSTEM = "dgx_a100"


def read_old(frame: pd.DataFrame, path: Any) -> ReadRows:
    """The runs of a table with older headers. Raises `InputError` for unknown columns."""
    for columns, reader in ((NODE_COLUMNS, node_row), (LAYOUT_COLUMNS, layout_row)):
        needed = {name for name, ours in columns.items() if ours not in OPTIONAL}
        if needed <= set(frame.columns):
            named = frame.rename(columns=columns)
            rows, reasons = [], []
            for line, record in enumerate(named.to_dict("records"), 2):
                try:
                    rows.append(reader({str(key): value for key, value in record.items()}, line))
                except InputError as error:
                    written = next((name for name, ours in columns.items() if ours == error.field), error.field)
                    reasons.append(f"{path}:{line}: {str(error).replace(f'{error.field} =', f'{written} =', 1)}")
            return ReadRows(rows, reasons, len(frame))
    kinds = [[name for name, ours in columns.items() if ours not in OPTIONAL]
             for columns in (NODE_COLUMNS, LAYOUT_COLUMNS)] + [list(OFFLOAD_COLUMNS)]  # fmt: skip
    nearest = max(kinds, key=lambda wanted: len(set(wanted) & set(frame.columns)))
    missing = [name for name in nearest if name not in frame.columns]
    raise InputError(f"not a known file of training runs; the nearest kind has also {', '.join(missing)}", file=path,
                     field="columns", value=list(frame.columns)[:4], allowed=", ".join(nearest))  # fmt: skip


def node_row(cells: Mapping[str, Any], line: int) -> TrainRow:
    """A Megatron GPT iteration. What was recomputed is not in the columns: as little as fits."""
    size = {name: _whole(cells, name) for name in NODE_COLUMNS.values() if name != "time"}
    if size["num_layer"] > MOST_LAYER:
        raise InputError("no such depth", field="num_layer", value=size["num_layer"], allowed=f"1 to {MOST_LAYER}")
    model = gpt_model("gpt", "gpt", size["hidden"], size["num_layer"], size["num_head"], NODE_VOCAB, size["seq_len"])
    if size["tp"] * size["dp"] * size["pp"] != size["num_gpu"]:
        raise InputError("is not tp x dp x pp", field="# GPUs", value=size["num_gpu"])
    several = size["num_gpu"] > NODE  # large models, which do not wait for their host
    stack = CLUSTER_STACK if several else NODE_STACK
    plan = _plan(stack, model, tp=size["tp"], dp=size["dp"], pp=size["pp"], micro_batch=size["micro_batch"],
                 batch=size["global_batch"], seq=size["seq_len"])  # fmt: skip
    group = "several nodes" if several else "single node"
    # selective recomputation came in 2022
    return _row(line, group, model, plan, "fp16", stack, _number(cells, "time") / 1e3, ({"recompute": "full"},))


def layout_row(cells: Mapping[str, Any], line: int) -> TrainRow:
    """A Llama layout: the size and the sequence length are in the sheet's name."""
    sheet, kernel = str(cells["sheet"]), str(cells["kernel"])
    size = next((name for name in LLAMA if f"_{name}_" in sheet), None)
    if size is None:
        raise InputError("no model size in the sheet's name", field="file", value=sheet, allowed=LLAMA)
    if kernel not in KERNELS:
        raise InputError("unknown kernel", field="kernel", value=kernel, allowed=KERNELS)
    checkpoint = str(cells.get("checkpoint", "disabled"))
    if checkpoint not in CHECKPOINT:
        raise InputError("not disabled or every_layer", field="checkpoint", value=checkpoint)
    stated = cells.get("sequence_parallel", "")
    stated = "" if isinstance(stated, float) and np.isnan(stated) else str(stated).strip().lower()
    if stated not in SPLIT:
        raise InputError("not true or false", field="sequence_parallel", value=stated)
    num_gpu, tp, pp, micro = (_whole(cells, name) for name in ("num_gpu", "tp", "pp", "micro_batch"))
    if num_gpu % (tp * pp):
        raise InputError("does not divide by tp x pp", field="World Size", value=num_gpu)
    hidden, num_layer, num_head, inter = LLAMA[size]
    dim = hidden // num_head
    block = Block(Attention(num_head, num_head, dim, dim, rope_dim=dim), FeedForward(inter))
    model = ModelSpec(f"llama-{size}", "llama", hidden, LAYOUT_VOCAB, 2048, (block,), (0,) * num_layer)
    length = pd.Series([sheet]).str.extract(r"_(\d+)k_seq")[0].iloc[0]  # in units of 1,024; 2k where nothing is said
    seq = int(float(length) if isinstance(length, str) else 2) * 1024
    dp = num_gpu // (tp * pp)
    plan = _plan(LAYOUT_STACK, model, tp=tp, pp=pp, dp=dp, micro_batch=micro, batch=LAYOUT_TOKEN // seq, seq=seq,
                 zero=1 if dp > 1 else 0, sequence_parallel=SPLIT[stated] and tp > 1,
                 recompute=CHECKPOINT[checkpoint], **({"fused_norm": False} | KERNELS[kernel]))  # fmt: skip
    text = str(cells["time"]).lower()
    memory = "oom" in text or "out of memory" in text
    try:
        step_s = float("nan") if memory else _number(cells, "time")
    except InputError:
        raise InputError("neither a time nor an OOM", field="Average Step Time", value=cells["time"]) from None
    otherwise = ({"sequence_parallel": True},) if stated != "" and tp > 1 else ()
    row = _row(line, sheet, model, plan, "bf16", LAYOUT_STACK, step_s, otherwise)
    return row._replace(fits=not memory)


def _plan(stack: str, model: ModelSpec, **given: Any) -> TrainPlan:
    plan = TrainPlan(**(load_stack(stack).usual() | {"zero": 0} | given))
    check_sizes(plan)
    check(model, plan)
    return plan


def _row(line: int, group: str, model: ModelSpec, plan: TrainPlan, precision: str, stack: str, step_s: float,
         otherwise: tuple[Mapping[str, Any], ...]) -> TrainRow:  # fmt: skip
    nan = float("nan")
    return TrainRow(line, group, model, SYSTEM, plan, precision, stack, 0.0, step_s, nan, False, nan, None, otherwise)
