"""Rows of measured recurrent kernels as operators: convolutions, decode steps and chunked scans of gated delta rules
and of Kimi's delta attention, the convolutions of Mamba-2; and the absorbing products of latent attention.

FLOPs and bytes are those that the layer kinds write (`scan_fit.rows_of`). A kernel's phase tells what it is: `context`
is prompts, `generation` a token a sequence; a check of drafts (`verify`) is none of ours.
"""

import pathlib

import numpy as np
import pandas as pd

from hw_models.calibration.measured_rows import _formats, number
from kernels import optable as op
from kernels.formats import FORMAT_CODE
from kernels.optable import OpTable, WorkTable

SHAPE = ("batch", "query_len", "num_k_head", "head_k_dim", "num_v_head", "head_v_dim", "conv_channel", "d_conv")
ABSORB = {"mla_gen_pre": (512, 128), "mla_gen_post": (128, 512)}  # n, k of each head (DeepSeek-V2, arXiv 2405.04434)


def completed(frame: pd.DataFrame) -> pd.DataFrame:
    """Mamba-2's table, which times convolutions alone, under the columns of the others."""
    if not {"d_state", "num_group", "d_conv", "head_dim", "num_head"} <= set(frame.columns):
        return frame
    head, dim, group, state = (
        pd.to_numeric(frame[name], errors="coerce") for name in ("num_head", "head_dim", "num_group", "d_state")
    )
    return frame.assign(
        conv_channel=head * dim + 2 * group * state, num_k_head=frame["num_group"], head_k_dim=frame["d_state"],
        num_v_head=frame["num_head"], head_v_dim=frame["head_dim"],
    ).drop(columns=["num_head", "head_dim"])  # fmt: skip


def recurrent(frame: pd.DataFrame, file: pathlib.Path, skipped: dict[int, str]) -> tuple[OpTable, WorkTable]:
    """An operator a row: CONV, RECUR, or SCAN (a decay a head) and SCAN_CHANNEL (a decay a channel)."""
    from hw_models.calibration.scan_fit import rows_of

    ops, work = op.empty(len(frame))
    frame = frame.assign(**{name: number(frame, name, file, positive=name != "conv_channel") for name in SHAPE})
    kernel, phase = frame["kernel"].astype(str), frame["phase"].astype(str)
    conv = ((frame["conv_channel"] > 1) | kernel.str.contains("conv1d")).to_numpy()
    decode = (phase == "generation").to_numpy()
    channel = kernel.str.contains("kda").to_numpy()
    for name, code, chosen in (
        ("conv", op.CONV, conv),
        ("recur", op.RECUR, ~conv & decode),
        ("scan", op.SCAN, ~conv & ~decode & ~channel),
        ("scan_channel", op.SCAN_CHANNEL, ~conv & ~decode & channel),
    ):
        rows = rows_of(frame, name)
        ops["kind"][chosen] = code
        ops["flop"][chosen], ops["act_byte"][chosen], ops["write_byte"][chosen] = (
            values[chosen] for values in (rows.flop, rows.read, rows.write)
        )
    ops["fmt"], ops["m"] = FORMAT_CODE["bf16"], frame["batch"] * frame["query_len"]
    ops["n"] = np.where(conv, frame["conv_channel"], frame["num_v_head"])
    ops["batch"] = np.where(conv | decode, 0, frame["batch"])
    ops["num_head"] = np.where(conv | decode, 0, frame["num_v_head"])
    ops["phase"] = np.where(decode, op.PHASE_CODE["decode"], op.PHASE_CODE["prefill"])
    for row in np.flatnonzero(~phase.isin(("context", "generation")).to_numpy()).tolist():
        skipped[row] = f"phase {phase.iloc[row]!r} is neither context nor generation"
    return ops, work


def absorbing(frame: pd.DataFrame, file: pathlib.Path, skipped: dict[int, str]) -> tuple[OpTable, WorkTable]:
    """Products of decode in latent attention, `num_head` of them: queries into the latent, results out of it."""
    ops, work = op.empty(len(frame))
    token, head = number(frame, "num_token", file, positive=True), number(frame, "num_head", file, positive=True)
    ops["kind"], ops["fmt"] = op.GEMM, _formats(frame, "dtype", skipped)
    for row, text in enumerate(frame["op"].astype(str)):
        if text not in ABSORB:
            skipped[row] = f"op {text!r} is no absorbing product"
        ops["n"][row], ops["k"][row] = ABSORB.get(text, (1, 1))
    ops["m"], ops["batch"] = token, head
    byte = np.where(ops["fmt"] == FORMAT_CODE["fp8"], 1.0, 2.0)
    value = ops["n"].astype(float) * ops["k"] * head
    ops["flop"], ops["weight_byte"] = 2.0 * token * value, value * byte
    ops["act_byte"], ops["write_byte"] = token * head * ops["k"] * byte, token * head * ops["n"] * 2.0
    return ops, work
