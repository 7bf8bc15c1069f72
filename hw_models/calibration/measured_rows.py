"""Rows of measured operator files as operators: a builder a kind of file.

A builder takes the frame, its file (for what is said of a bad cell) and the rows that it skips, with why, and gives
the operators and the rows of work of attention.
"""

import pathlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from kernels import optable as op
from kernels.attention_work import CAUSAL, FULL, LEAST_LATENT
from kernels.digits import MOST
from kernels.errors import InputError
from kernels.expert_exchange import distinct
from kernels.formats import ALIASES, FORMAT_CODE, FORMATS
from kernels.optable import OpTable, WorkTable

Floats = npt.NDArray[np.float64]

EXCHANGE_BYTE: Mapping[str, float] = {  # bytes of a dispatched value, with the scales of narrow ones
    "fp8": 1.0 + 1.0 / 32.0,  # an fp32 scale for 128 values
    "bf16": 2.0,
    "nvfp4": 0.5 + 1.0 / 16.0,  # an fp8 scale for 16 values
}
DTYPES = {**ALIASES, "w4a16_mxfp4": "mxfp4_a16", "float8_e4m3": "fp8"}
PLAIN = {  # hidden, inter, experts, top-k of models without gates, whose files do not say so (relu2 in their configs)
    (2688, 1856, 128, 6),  # Nemotron 3 Nano
    (1024, 2688, 512, 22),  # Nemotron 3 Super: experts of a latent width
    (2048, 5120, 512, 22),  # Nemotron 3 Ultra
}
COLLECTIVES = {
    "alltoall": "all_to_all",
    "allreduce": "all_reduce",
    "allgather": "all_gather",
    "reducescatter": "reduce_scatter",
}


def number(frame: pd.DataFrame, name: str, file: pathlib.Path, positive: bool = False, whole: bool = False) -> Floats:
    """A column as numbers, 0 or more (`positive`: above 0); an `InputError` with the first row that holds none."""
    values = pd.to_numeric(frame[name], errors="coerce").to_numpy(float)
    bad = ~np.isfinite(values) | (values <= 0 if positive else values < 0)
    most = np.inf if name in ("latency_ms", "message_byte") else MOST
    bad |= values > most
    if whole:
        bad |= values != np.floor(values)
    if bad.any():
        row = int(np.argmax(bad))
        value = frame[name].iloc[row]
        allowed = (
            f"a {'whole ' * whole}number{' above 0' if positive else ', 0 or more'}{f' to {MOST}' * (most == MOST)}"
        )
        raise InputError(
            "not a measurement", file=file, line=row + 2, field=name,
            value=value.item() if isinstance(value, np.generic) else value, allowed=allowed,
        )  # fmt: skip
    return np.array(values)


def _formats(frame: pd.DataFrame, name: str, skipped: dict[int, str]) -> npt.NDArray[np.int8]:
    code = np.zeros(len(frame), np.int8)
    for text in frame[name].astype(str).unique():
        rows = (frame[name].astype(str) == text).to_numpy()
        known = FORMAT_CODE.get(DTYPES.get(text, text))
        code[rows] = FORMAT_CODE["bf16"] if known is None else known
        if known is None:
            skipped.update(dict.fromkeys(np.flatnonzero(rows).tolist(), f"{name} {text!r} is no format of ours"))
    return code


def _gemm(frame: pd.DataFrame, file: pathlib.Path, skipped: dict[int, str]) -> tuple[OpTable, WorkTable]:
    ops, work = op.empty(len(frame))
    m, n, k = (number(frame, name, file, positive=True, whole=True) for name in "mnk")
    ops["kind"], ops["fmt"] = op.GEMM, _formats(frame, "dtype", skipped)
    ops["m"], ops["n"], ops["k"] = m, n, k
    weight, act = _stored(ops["fmt"])
    out = np.where(act < 2.0, 2.0, act)  # results are wide
    ops["flop"], ops["weight_byte"], ops["act_byte"], ops["write_byte"] = (
        2 * m * n * k,
        k * n * weight,
        m * k * act,
        m * n * out,
    )
    return ops, work


def _stored(code: npt.NDArray[np.int8]) -> tuple[Floats, Floats]:
    bits = np.array([(form.weight_bit, form.act_bit) for form in FORMATS])[code]
    return bits[:, 0] / 8, bits[:, 1] / 8


def _attention(
    frame: pd.DataFrame, file: pathlib.Path, skipped: dict[int, str], decode: bool
) -> tuple[OpTable, WorkTable]:
    ops, work = op.empty(len(frame), len(frame))
    count = number(frame, "batch", file, positive=True)
    heads, kv_heads, dim = (
        number(frame, name, file, positive=True) for name in ("num_head", "num_kv_head", "head_dim")
    )
    if decode:
        query, kv = np.ones(len(frame)), number(frame, "kv_len", file, positive=True)
    else:
        query = number(frame, "query_len", file, positive=True)
        kv = query + number(frame, "prefix_len", file)
    for row in np.flatnonzero(heads % kv_heads).tolist():
        skipped[row] = "num_head is no multiple of num_kv_head"
    value = number(frame, "v_head_dim", file, positive=True) if "v_head_dim" in frame.columns else dim
    window = number(frame, "window", file) if "window" in frame.columns else np.zeros(len(frame))
    ops["kind"] = np.where(query == 1, op.ATTN_DECODE, op.ATTN_PREFILL)  # engines run one query a sequence as decode
    ops["fmt"], ops["kv_fmt"] = _formats(frame, "dtype", skipped), _formats(frame, "kv_dtype", skipped)
    ops["num_head"], ops["num_kv_head"], ops["head_dim"], ops["v_head_dim"], ops["window"] = (
        heads,
        kv_heads,
        dim,
        value,
        window,
    )
    ops["work_start"], ops["work_stop"] = np.arange(len(frame)), np.arange(len(frame)) + 1
    work["count"], work["query_len"], work["kv_len"], work["causal"] = count, query, kv, CAUSAL
    reach = np.where(window > 0, window, np.inf)
    short = np.clip(reach - (kv - query), 0, query)  # rows that see less than the whole window
    seen = np.minimum(kv, reach + query - 1)
    full = np.where(query > short, (query - short) * np.minimum(reach, kv), 0.0)
    pair = count * (short * (kv - query) + short * (short + 1) / 2 + full)
    if "non_causal" in frame.columns:
        work["causal"], pair = FULL, count * query * kv
    weight, _ = _stored(ops["kv_fmt"])
    latent = (kv_heads == 1) & (value >= LEAST_LATENT) & (value < dim)  # values are the first part of the keys
    width = np.where(latent, dim, kv_heads * (dim + value))
    ops["flop"], ops["kv_byte"] = 2 * pair * heads * (dim + value), count * seen * width * weight
    ops["act_byte"], ops["write_byte"] = count * query * heads * dim * 2.0, count * query * heads * value * 2.0
    return ops, work


def kv_write(ops: OpTable, work: WorkTable) -> OpTable:
    """The write of a row's new keys and values into the cache, which serving engines time with attention."""
    beside, _ = op.empty(len(ops))
    token = work["count"] * work["query_len"]
    width = ops["num_kv_head"] * (ops["head_dim"] + ops["v_head_dim"])
    beside["kind"], beside["fmt"], beside["kv_fmt"] = op.KV_WRITE, ops["fmt"], ops["kv_fmt"]
    beside["m"], beside["n"] = token, width
    stored, _ = _stored(ops["kv_fmt"])
    beside["act_byte"], beside["write_byte"] = 2.0 * token * width, stored * token * width
    return beside


def _prefill(frame: pd.DataFrame, file: pathlib.Path, skipped: dict[int, str]) -> tuple[OpTable, WorkTable]:
    return _attention(frame, file, skipped, decode=False)


def _decode(frame: pd.DataFrame, file: pathlib.Path, skipped: dict[int, str]) -> tuple[OpTable, WorkTable]:
    return _attention(frame, file, skipped, decode=True)


def _moe(frame: pd.DataFrame, file: pathlib.Path, skipped: dict[int, str]) -> tuple[OpTable, WorkTable]:
    ops, work = op.empty(len(frame))
    names = ("num_token", "hidden", "inter", "num_expert", "topk", "tp", "ep")
    token, hidden, inter, expert, topk, tp, ep = (number(frame, name, file, positive=True) for name in names)
    if "gated" in frame.columns:
        plain = number(frame, "gated", file) == 0
    else:
        shapes = zip(hidden.tolist(), inter.tolist(), expert.tolist(), topk.tolist(), strict=True)
        plain = np.array([shape in PLAIN for shape in shapes], bool)
    inter = np.where(plain, np.round(inter * 2 / 3), inter)  # two matrices of three: the same weights
    ops["kind"], ops["fmt"] = op.MOE, _formats(frame, "dtype", skipped)
    for field, values in (
        ("m", token),
        ("k", hidden),
        ("n", inter),
        ("num_expert", expert),
        ("topk", topk),
        ("tp", tp),
        ("ep", ep),
    ):
        ops[field] = values
    for row, text in enumerate(frame["distribution"].astype(str)):
        tail = text.removeprefix("power_law_")
        if text in ("balanced", "uniform"):
            ops["skew"][row] = 0.0
        elif tail != text and tail.replace(".", "", 1).isdigit():
            ops["skew"][row] = float(tail)
        else:
            skipped[row] = f"distribution {text!r} is not balanced or power_law_X"
    for row in np.flatnonzero((ep > expert) | (topk > expert)).tolist():
        skipped[row] = "fewer experts than ep or topk"
    weight, act = _stored(ops["fmt"])
    active = np.minimum(expert / ep, token * topk)
    ops["flop"] = 6 * token * topk * hidden * inter / tp / ep
    ops["weight_byte"] = active * 3 * hidden * inter / tp * weight
    ops["act_byte"] = ops["write_byte"] = token * hidden * act
    return ops, work


def _collective(frame: pd.DataFrame, file: pathlib.Path, skipped: dict[int, str]) -> tuple[OpTable, WorkTable]:
    ops, work = op.empty(len(frame))
    ops["fmt"] = FORMAT_CODE["bf16"]
    ops["link_byte"], ops["group_size"] = (
        number(frame, "message_byte", file, positive=True),
        number(frame, "num_gpu", file, positive=True),
    )
    for row in np.flatnonzero(ops["group_size"] < 2).tolist():
        skipped[row] = "a collective of one device"
    for row, text in enumerate(frame["op"].astype(str)):
        kind = op.KIND_CODE.get(COLLECTIVES.get(text, text), -1)
        if not op.ALL_REDUCE <= kind <= op.P2P:
            skipped[row] = f"op {text!r} is no collective of ours"
            kind = op.ALL_REDUCE
        ops["kind"][row] = kind
    return ops, work


def _exchange(frame: pd.DataFrame, file: pathlib.Path, skipped: dict[int, str]) -> tuple[OpTable, WorkTable]:
    """Expert dispatch and combine. Without columns for them: one node, the kernel's cores, fp8 out, bf16 back."""
    ops, work = op.empty(len(frame))
    names = ("num_token_per_rank", "hidden", "topk", "num_expert", "num_gpu")
    token, hidden, topk, expert, group = (number(frame, name, file, positive=True) for name in names)
    ops["m"], ops["topk"], ops["num_expert"], ops["group_size"] = token, topk, expert, group
    ops["fmt"] = FORMAT_CODE["bf16"]
    if "num_node" in frame.columns:
        ops["group_node"] = number(frame, "num_node", file, positive=True)
    if "num_sm" in frame.columns:
        ops["k"] = number(frame, "num_sm", file)
    sent = frame["dtype"].astype(str) if "dtype" in frame.columns else pd.Series("fp8", frame.index)
    for row, (what, dtype) in enumerate(zip(frame["op"].astype(str), sent, strict=True)):
        ops["kind"][row] = op.COMBINE if what == "combine" else op.DISPATCH
        value_byte = 2.0 if what == "combine" else EXCHANGE_BYTE.get(DTYPES.get(dtype, dtype), 0.0)
        if what not in ("dispatch", "combine") or not value_byte:
            skipped[row] = f"{what!r} of {dtype!r} is no expert exchange of ours"
        ops["n"][row] = int(hidden[row] * value_byte)
    for row in np.flatnonzero((group < 2) | (topk > expert)).tolist():
        skipped[row] = "one device, or fewer experts than topk"
    reached = np.array([distinct(e, t, g) for e, t, g in zip(expert, topk, group, strict=True)])
    ops["link_byte"] = token * ops["n"] * reached
    ops["link_byte"][list(skipped)] = 0.0
    return ops, work


BUILDERS = {
    "exchange": _exchange,
    "gemm": _gemm,
    "attn_prefill": _prefill,
    "attn_decode": _decode,
    "moe": _moe,
    "collective": _collective,
}
