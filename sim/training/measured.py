"""Measured training files: recognised by their columns, read into vectors. Nothing here is fitted."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from hw_models import catalog
from kernels import training as t
from kernels.errors import InputError
from kernels.training import Floats
from sim.training.measured_column import count, positive, refuse
from sim.training.offload_measured import COLUMNS as OFFLOAD_COLUMNS
from sim.training.stack import Stack, hardware_vector, load


class Measured(NamedTuple):
    """Runs of one file: a row a run."""

    kind: str
    stack: Stack
    group: list[str]  # what a row is reported under
    model: Floats  # [n, MODEL]
    plan: Floats  # [n, PLAN]
    hardware: Floats  # [HARDWARE]
    step_s: Floats  # [n]; nan where it ran out of memory
    num_row: int  # rows of the file, readable or not
    doubt: npt.NDArray[np.bool_]  # [n]; where a run that cannot have fitted as it is written ran otherwise
    otherwise: tuple[tuple[int, float], ...]  # column of the plan and its value, tried in this order until it fits


NODE_COLUMNS = {
    "# GPUs": "num_device", "global batch": "batch", "micro batch": "micro_batch", "hidden size": "hidden",
    "attention heads": "num_head", "# layers": "num_layer", "sequence length": "seq", "tensor parallelism": "tp",
    "data parallelism": "dp", "pipeline parallelism": "pp", "iteration time (ms)": "time",
}  # fmt: skip
LAYOUT_COLUMNS = {
    "file": "sheet", "World Size": "num_device", "Average Step Time": "time",
    "activation_checkpointing_type": "checkpoint", "kernel": "kernel", "micro_batch_size": "micro_batch",
    "model_parallel_size": "tp", "pipe_parallel_size": "pp", "sequence_parallel": "sequence_parallel",
}  # fmt: skip
OPTIONAL = ("checkpoint", "sequence_parallel")
KERNELS = {
    "torch": ("unfused", 0), "fused": ("fused_softmax", 0), "flash_attentionv1.0.8": ("flash1", 0),
    "flash_attention2": ("flash2", 0), "flash_attention2 + RMS kernel": ("flash2", 1),
}  # fmt: skip
# Llama shapes (Touvron et al. 2023); the sheets' MFU back-solves to a vocabulary of 128,000 and 4.19 M tokens a step
LLAMA = {
    "7B": (4096, 32, 32, 11008), "13B": (5120, 40, 40, 13824), "30B": (6656, 60, 52, 17920),
    "65B": (8192, 80, 64, 22016),
}  # fmt: skip
SPLIT = {"true": 1.0, "1": 1.0, "1.0": 1.0, "false": 0.0, "0": 0.0, "0.0": 0.0, "": 0.0}  # as written
LAYOUT_VOCAB, LAYOUT_TOKEN = 128_000, 2048 * 2048
NODE_VOCAB = 51_200  # GPT-2's, padded as Megatron pads it for 8 ways


def read_measured(frame: pd.DataFrame, path: Any) -> Measured:
    """The runs of a measured table. Raises `InputError` for unknown columns."""
    readers: list[tuple[dict[str, str], Callable[[pd.DataFrame, Any], Measured]]] = [
        (NODE_COLUMNS, _read_node), (LAYOUT_COLUMNS, _read_layouts)
    ]  # fmt: skip
    needed = {name: ours for columns, _ in readers for name, ours in columns.items() if ours not in OPTIONAL}
    for columns, reader in readers:
        if columns.keys() & needed.keys() <= set(frame.columns):
            renamed = frame.rename(columns=columns)
            renamed.attrs["written"] = {ours: name for name, ours in columns.items()}
            return reader(renamed, path)
    kinds = [[name for name in columns if name in needed] for columns, _ in readers] + [list(OFFLOAD_COLUMNS)]
    nearest = max(kinds, key=lambda names: len(set(names) & set(frame.columns)))
    missing = [name for name in nearest if name not in frame.columns]
    raise InputError(f"not a known file of training runs; the nearest kind has also {', '.join(missing)}", file=path,
                     field="columns", value=list(frame.columns)[:4], allowed=", ".join(nearest))  # fmt: skip


def _rows(names: tuple[str, ...], size: int, **values: Any) -> Floats:
    out = np.zeros((size, len(names)))
    for name, value in values.items():
        out[:, names.index(name)] = value
    return out


def _read_node(frame: pd.DataFrame, path: Any) -> Measured:
    """Megatron GPT iterations inside one node."""
    stack, n = load("megatron-a100-node"), len(frame)
    f = {name: count(frame, name, path) for name in NODE_COLUMNS.values() if name != "time"}
    f["time"] = positive(frame, "time", path)
    refuse(f["tp"] * f["dp"] * f["pp"] != f["num_device"], "is not tp x dp x pp", "num_device", frame, path)
    refuse(f["hidden"] % f["num_head"] != 0, "does not divide the hidden size", "num_head", frame, path)
    refuse(f["pp"] > f["num_layer"], "more stages than layers", "pp", frame, path)
    refuse(f["batch"] % (f["dp"] * f["micro_batch"]) != 0, "does not divide by dp x micro batch", "batch", frame, path)
    model = _rows(
        t.MODEL, n, hidden=f["hidden"], num_layer=f["num_layer"], num_head=f["num_head"], num_kv_head=f["num_head"],
        head_dim=f["hidden"] / f["num_head"], inter=4 * f["hidden"], num_up=1, vocab=NODE_VOCAB, seq=f["seq"], tied=1,
        position_row=f["seq"], dropout=1,
    )  # fmt: skip
    plan = _rows(
        t.PLAN, n, tp=f["tp"], pp=f["pp"], dp=f["dp"], cp=1, ep=1, num_chunk=1, micro_batch=f["micro_batch"],
        num_microbatch=f["batch"] / f["dp"] / f["micro_batch"], attention=t.ATTENTIONS.index(stack.attention),
        schedule=t.ONE_F_ONE_B, weight_byte=2, act_byte=2, grad_byte=stack.grad_byte,
        optimizer_byte=stack.optimizer_byte,
    )  # fmt: skip
    hardware = hardware_vector(catalog.system("dgx_a100"), "fp16")
    # what was recomputed is not in these columns: as little as fits
    otherwise = tuple((t.RECOMPUTE_KIND, float(t.RECOMPUTES.index(kind))) for kind in ("selective", "full"))
    group = np.where(f["num_device"] > hardware[t.DEVICE_PER_NODE], "several nodes", "single node").tolist()
    return Measured("iteration", stack, group, model, plan, hardware, f["time"] / 1e3, n, np.ones(n, bool), otherwise)


def _read_layouts(frame: pd.DataFrame, path: Any) -> Measured:
    """Llama layouts: the size and the sequence length are in the sheet's name."""
    stack, n = load("llama-a100"), len(frame)
    f = {name: count(frame, name, path) for name in ("num_device", "tp", "pp", "micro_batch")}
    refuse(f["num_device"] % (f["tp"] * f["pp"]) != 0, "does not divide by tp x pp", "num_device", frame, path)
    usual: dict[str, Any] = {"checkpoint": "disabled", "sequence_parallel": np.nan}
    frame = frame.assign(**{name: value for name, value in usual.items() if name not in frame.columns})
    sizes, kernels = [], []
    for line, (sheet, kernel) in enumerate(zip(frame["sheet"], frame["kernel"], strict=True), 2):
        size = next((name for name in LLAMA if f"_{name}_" in str(sheet)), None)
        if size is None:
            raise InputError("no model size in the sheet's name", file=path, line=line, field="file", value=sheet,
                             allowed=LLAMA)  # fmt: skip
        if kernel not in KERNELS:
            raise InputError("unknown kernel", file=path, line=line, field="kernel", value=kernel, allowed=KERNELS)
        sizes.append(LLAMA[size])
        kernels.append((t.ATTENTIONS.index(KERNELS[kernel][0]), KERNELS[kernel][1]))
    hidden, num_layer, num_head, inter = np.array(sizes, float).T
    refuse(f["pp"] > num_layer, "more stages than layers", "pp", frame, path)
    attention, fused_norm = np.array(kernels, float).T
    length = frame["sheet"].astype(str).str.extract(r"_(\d+)k_seq")[0]  # in units of 1,024; 2k where nothing is said
    seq = np.asarray(pd.to_numeric(length).fillna(2), float) * 1024
    model = _rows(
        t.MODEL, n, hidden=hidden, num_layer=num_layer, num_head=num_head, num_kv_head=num_head,
        head_dim=hidden / num_head, inter=inter, num_up=2, vocab=LAYOUT_VOCAB, seq=seq,
    )  # fmt: skip
    dp = f["num_device"] / f["tp"] / f["pp"]
    checkpoint = frame["checkpoint"].map({"disabled": 0, "every_layer": t.RECOMPUTES.index("full")})
    refuse(checkpoint.isna().to_numpy(), "not disabled or every_layer", "checkpoint", frame, path)
    split = frame["sequence_parallel"].astype(object).fillna("").astype(str).str.strip().str.lower().map(SPLIT)
    refuse(split.isna().to_numpy(), "not true or false", "sequence_parallel", frame, path)
    plan = _rows(
        t.PLAN, n, tp=f["tp"], pp=f["pp"], dp=dp, cp=1, ep=1, num_chunk=1, micro_batch=f["micro_batch"],
        sequence_parallel=split.to_numpy(float),
        num_microbatch=LAYOUT_TOKEN / seq / dp / f["micro_batch"], recompute=checkpoint.to_numpy(float), zero=1,
        attention=attention, fused_norm=fused_norm, schedule=t.ONE_F_ONE_B, weight_byte=2, act_byte=2,
        grad_byte=stack.grad_byte, optimizer_byte=stack.optimizer_byte,
    )  # fmt: skip
    step_s = np.asarray(pd.to_numeric(frame["time"], errors="coerce"), float)
    out_of_memory = frame["time"].astype(str).str.contains("oom|out of memory", case=False).to_numpy()
    refuse(np.isnan(step_s) & ~out_of_memory | (step_s <= 0) | np.isinf(step_s),
            "neither a time nor an OOM", "time", frame, path)  # fmt: skip
    hardware = hardware_vector(catalog.system("dgx_a100"))
    stated = frame["sequence_parallel"].notna().to_numpy() & (f["tp"] > 1)
    return Measured("layout", stack, list(frame["sheet"]), model, plan, hardware, step_s, n, stated,
                    ((t.SEQUENCE_PARALLEL, 1.0),))  # fmt: skip
