"""Measured operator files as checked tables, and each of their rows as an operator.

What a file holds is told by its columns, and whether it is compressed by its first bytes, never by its name. A row
is refused where it cannot have been measured: a missing column, a latency that is zero, negative or not a number, one
that beats the machine's speed of light tenfold (seconds given as milliseconds), or one a hundred times its price
(microseconds given as milliseconds).
"""

import dataclasses
import io
import pathlib
from collections import Counter
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from hw_models.files import read_byte
from kernels import optable as op
from kernels.content import check_numbers
from kernels.errors import InputError, NothingServedError
from kernels.expert_exchange import distinct
from kernels.formats import ALIASES, FORMAT_CODE, FORMATS
from kernels.machine import L2_BYTE, L2_BYTE_PER_S, LINK_BYTE_PER_S, LINK_UP, MEM_BYTE_PER_S, Machine
from kernels.optable import OpTable, WorkTable

Floats = npt.NDArray[np.float64]

HEADS = ("num_head", "num_kv_head", "head_dim")
COLUMNS: Mapping[str, tuple[str, ...]] = {  # kind -> columns that tell it, beside latency_ms
    "gemm": ("dtype", "kernel", "m", "n", "k"),
    "attn_prefill": ("dtype", "kv_dtype", "kernel", "batch", "query_len", "prefix_len", *HEADS),
    "attn_decode": ("dtype", "kv_dtype", "kernel", "batch", "kv_len", *HEADS),
    "moe": ("dtype", "kernel", "num_token", "hidden", "inter", "topk", "num_expert", "tp", "ep", "distribution"),
    "collective": ("op", "num_gpu", "message_byte"),
    "exchange": ("op", "num_gpu", "num_token_per_rank", "hidden", "topk", "num_expert"),
}  # fmt: skip
TELLS = {
    "exchange": "num_token_per_rank",  # before what has experts too
    "gemm": "n",
    "attn_prefill": "query_len",
    "attn_decode": "kv_len",
    "moe": "num_expert",
    "collective": "message_byte",
}
EXCHANGE_MS = ("dispatch_ms", "combine_ms")  # of a file that has both in a row
EXCHANGE_BYTE: Mapping[str, float] = {  # bytes of a dispatched value, with the scales of narrow ones
    "fp8": 1.0 + 1.0 / 32.0,  # an fp32 scale for 128 values
    "bf16": 2.0,
    "nvfp4": 0.5 + 1.0 / 16.0,  # an fp8 scale for 16 values
}
DTYPES = {**ALIASES, "w4a16_mxfp4": "mxfp4_a16", "float8_e4m3": "fp8"}
COLLECTIVES = {
    "alltoall": "all_to_all",
    "allreduce": "all_reduce",
    "allgather": "all_gather",
    "reducescatter": "reduce_scatter",
}
TOO_FAST = 10.0  # times the speed of light: not a measurement
TOO_SLOW = 100.0  # times its price; of the measured sets no row is above 23, prices of the wrong machine among them
SLOWEST_START_S = 1e-5  # an operator that starts so late is still one
LEAST_S = 5e-7  # the start of an operator, shorter than on any device measured (a GPU's kernels take 1 us and more)


@dataclasses.dataclass(frozen=True)
class Measured:
    """Rows of one kind: the frame as read, an operator a row, and measured seconds."""

    file: pathlib.Path
    kind: str  # as in COLUMNS
    frame: pd.DataFrame
    ops: OpTable
    work: WorkTable
    seconds: Floats
    skipped: dict[int, str]  # row -> why no operator of ours stands for it
    beside: OpTable | None = None  # operators that the measurement ran beside each row (KV writes of attention)

    def format_name(self) -> list[str]:
        """The number format that a row's fit is kept under (the KV format for attention)."""
        field = "kv_fmt" if self.kind.startswith("attn") else "fmt"
        return [FORMATS[code].name for code in self.ops[field]]


def kind_of(frame: pd.DataFrame) -> str | None:
    """Which kind of operator a frame's columns describe, or None."""
    return next((kind for kind, tell in TELLS.items() if tell in frame.columns and "latency_ms" in frame.columns), None)


def read_folder(
    folder: str | pathlib.Path, machine: Machine | None = None, left_out: Counter[str] | None = None
) -> list[Measured]:
    """Every operator file of a folder (CSV, plain or gzipped), or the one file given; other CSV files are passed by.

    Raises `InputError` for an unreadable folder, one without any such file, or a bad row. With `left_out`, files of a
    folder that are almost an operator's, or of which no row is a measurement, are counted there by rows, and bad rows
    are `skipped`: a file that is alone is refused where no row stands.
    """
    path = pathlib.Path(folder)
    found = []
    first: InputError | None = None
    for file in csv_files(path) if path.is_dir() else [path]:
        try:
            frame = read_frame(file)
        except InputError as error:
            if left_out is None or not path.is_dir():
                raise
            left_out[str(error)] += 1
            continue
        kind = kind_of(frame)
        try:
            if kind is None:
                _refuse_almost(frame, file)
            else:
                _check_columns(frame, kind, file)
        except InputError as error:
            if left_out is None or not path.is_dir():
                raise
            left_out[str(error)] += len(frame)
            continue
        if kind is not None:
            try:
                found.append(from_frame(frame, file, machine, mends=left_out is not None))
            except InputError as error:
                if left_out is None or not path.is_dir():
                    raise
                left_out[str(error)] += len(frame)
                first = first or error
        elif left_out is not None and "latency_ms" in frame.columns:
            left_out[f"{file.name}: no operator of ours has these columns"] += len(frame)
    if not found and first is not None:
        raise first
    if not found:
        allowed = "; ".join(", ".join(columns) for columns in COLUMNS.values())
        raise InputError("no file with the columns of a measured operator", file=path, allowed=allowed)
    return found


def csv_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The CSV files of a folder, in order of their names."""
    return [
        file
        for file in sorted(folder.iterdir())
        if ".csv" in map(str.lower, file.suffixes) and not file.name.startswith(".") and file.is_file()
    ]


def _refuse_almost(frame: pd.DataFrame, file: pathlib.Path) -> None:
    """An `InputError` where a frame is a measured operator's but for a column or two."""
    for kind, columns in sorted(COLUMNS.items(), key=lambda item: len({*item[1]} - {*frame.columns})):
        missing = [name for name in (*columns, "latency_ms") if name not in frame.columns]
        if len(missing) * 3 <= len(columns) + 1:
            raise InputError(
                f"column is missing, or this is no {kind}", file=file, field=missing[0], value="",
                allowed=(*columns, "latency_ms"),
            )  # fmt: skip


def read_frame(file: pathlib.Path) -> pd.DataFrame:
    """A CSV file, plain or gzipped, or an `InputError` saying why it is none or that it holds no row."""
    try:
        data = read_byte(file)
        check_numbers(data, file)
        frame = pd.read_csv(io.BytesIO(data), skipinitialspace=True, comment="#")
    except (ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"not CSV: {error}", file=file) from None
    if frame.empty:
        raise NothingServedError("no row under the header", file=file)
    return _a_row_each(frame.rename(columns=lambda name: str(name).strip().lower()))


def _a_row_each(frame: pd.DataFrame) -> pd.DataFrame:
    """A file that times a dispatch and its combine in one row (DeepEP's) as rows of their own."""
    if not set(EXCHANGE_MS) <= set(frame.columns) or "latency_ms" in frame.columns:
        return frame
    kernel = "deepep_normal" if "num_sm" in frame.columns else "deepep_low_latency"
    parts = [frame.assign(op=name.removesuffix("_ms"), latency_ms=frame[name], kernel=kernel) for name in EXCHANGE_MS]
    return pd.concat(parts, ignore_index=True)


def from_frame(
    frame: pd.DataFrame, file: pathlib.Path, machine: Machine | None = None, mends: bool = False
) -> Measured:
    """Check a frame and build its operators. With `machine`, rows that beat its speed of light tenfold are refused.
    With `mends`, bad rows are skipped instead while one stands."""
    kind = kind_of(frame)
    if kind is None:
        raise InputError("not the columns of a measured operator", file=file)
    _check_columns(frame, kind, file)
    frame = frame.reset_index(drop=True)
    odd = _mended(frame, kind) if mends else {}
    milliseconds = number(frame, "latency_ms", file, positive=True)
    skipped: dict[int, str] = {}
    ops, work = BUILDERS[kind](frame, file, skipped)
    skipped |= odd
    beside = _kv_write(ops, work) if kind.startswith("attn") else None
    measured = Measured(file, kind, frame, ops, work, milliseconds * 1e-3, skipped, beside)
    if machine is not None:
        fast = light_s(ops, machine) > TOO_FAST * measured.seconds
        fast[list(odd)] = False
        if mends and fast.sum() + len(skipped) < len(fast):
            skipped |= dict.fromkeys(np.flatnonzero(fast).tolist(), "beats the machine's speed of light ten times")
        else:
            check_light(ops, measured.seconds, machine, file, "latency_ms")
    return measured


def _check_columns(frame: pd.DataFrame, kind: str, file: pathlib.Path) -> None:
    for name in COLUMNS[kind]:
        if name not in frame.columns:
            raise InputError("column is missing", file=file, field=name, value="", allowed=COLUMNS[kind])


TEXT = ("dtype", "kv_dtype", "kernel", "distribution", "op")
MOST_SIZE = 2.0**40  # of a size that an operator can have
MAY_BE_ZERO = ("prefix_len", "window", "num_sm")


def _mended(frame: pd.DataFrame, kind: str) -> dict[int, str]:
    """Rows of a frame that hold what is no measurement, and why; their cells become 1. Where they are all of a column,
    it stays as it is."""
    found: dict[int, str] = {}
    for name in (name for name in (*COLUMNS[kind], "latency_ms") if name not in TEXT):
        values = pd.to_numeric(frame[name], errors="coerce").to_numpy(float)
        bad = ~np.isfinite(values) | (values < 0 if name in MAY_BE_ZERO else values <= 0)
        if name in ("m", "n", "k"):
            bad |= values != np.floor(values)
        if name != "latency_ms":
            bad |= values > MOST_SIZE
        if bad.any() and not bad.all():
            frame[name] = np.where(bad, 1.0, values)
            found |= dict.fromkeys(np.flatnonzero(bad).tolist(), f"{name} is no measurement")
    return found


def number(frame: pd.DataFrame, name: str, file: pathlib.Path, positive: bool = False, whole: bool = False) -> Floats:
    """A column as numbers, 0 or more (`positive`: above 0); an `InputError` with the first row that holds none."""
    values = pd.to_numeric(frame[name], errors="coerce").to_numpy(float)
    bad = ~np.isfinite(values) | (values <= 0 if positive else values < 0)
    if whole:
        bad |= (values != np.floor(values)) | (values > 2**53)
    if bad.any():
        row = int(np.argmax(bad))
        value = frame[name].iloc[row]
        allowed = f"a {'whole ' * whole}number{' above 0' if positive else ', 0 or more'}"
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
            skipped.update(dict.fromkeys(np.flatnonzero(rows).tolist(), f"{name} {text} is no format of ours"))
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
    window = number(frame, "window", file) if "window" in frame.columns else np.zeros(len(frame))
    ops["kind"] = np.where(query == 1, op.ATTN_DECODE, op.ATTN_PREFILL)  # engines run one query a sequence as decode
    ops["fmt"], ops["kv_fmt"] = _formats(frame, "dtype", skipped), _formats(frame, "kv_dtype", skipped)
    ops["num_head"], ops["num_kv_head"], ops["head_dim"], ops["v_head_dim"], ops["window"] = (
        heads,
        kv_heads,
        dim,
        dim,
        window,
    )
    ops["work_start"], ops["work_stop"] = np.arange(len(frame)), np.arange(len(frame)) + 1
    work["count"], work["query_len"], work["kv_len"], work["causal"] = count, query, kv, 1
    reach = np.where(window > 0, window, np.inf)
    short = np.clip(reach - (kv - query), 0, query)  # rows that see less than the whole window
    seen = np.minimum(kv, reach + query - 1)
    full = np.where(query > short, (query - short) * np.minimum(reach, kv), 0.0)
    pair = count * (short * (kv - query) + short * (short + 1) / 2 + full)
    weight, _ = _stored(ops["kv_fmt"])
    ops["flop"], ops["kv_byte"] = 4 * pair * heads * dim, count * seen * 2 * kv_heads * dim * weight
    ops["act_byte"] = ops["write_byte"] = count * query * heads * dim * 2.0
    return ops, work


def _kv_write(ops: OpTable, work: WorkTable) -> OpTable:
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
            skipped[row] = f"distribution {text} is not balanced or power_law_X"
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
            skipped[row] = f"op {text} is no collective of ours"
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
            skipped[row] = f"{what} of {dtype} is no expert exchange of ours"
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


def light_s(ops: OpTable, machine: Machine) -> Floats:
    """Seconds that no measurement of these operators can beat: FLOPs at peak; bytes through the second-level cache, or
    through device memory where they are many times what it holds; a message through the device's links; and the
    start of a kernel. Of experts one must have work, and have two matrices; how many do depends on a draw.
    """
    peak = machine.peak_flop_per_s[ops["fmt"]]
    least = np.divide(ops["flop"], peak, out=np.zeros(len(ops)), where=peak > 0)
    expert = np.maximum(np.minimum(ops["num_expert"] / ops["ep"], ops["m"].astype(float) * ops["topk"]), 1.0)
    byte = np.where(ops["kind"] == op.MOE, ops["weight_byte"] / expert * 2 / 3, op.mem_byte(ops))
    for rate, held in ((machine.rate[L2_BYTE_PER_S], 0.0), (machine.rate[MEM_BYTE_PER_S], 8 * machine.rate[L2_BYTE])):
        if rate > 0:
            least = np.maximum(least, np.where(byte >= held, byte / rate, 0.0))
    up = machine.link[LINK_UP, LINK_BYTE_PER_S]
    if up > 0:
        group = np.maximum(ops["group_size"].astype(float), 1.0)
        least = np.maximum(least, ops["link_byte"] * (group - 1.0) / group / up)
    return np.maximum(least, LEAST_S)


def check_light(ops: OpTable, seconds: Floats, machine: Machine, file: pathlib.Path, column: str) -> None:
    """`InputError` with the first row of `file` whose `seconds` (from a `column` of milliseconds; 0 where the timer
    showed nothing) beat the speed of light tenfold."""
    least = light_s(ops, machine)
    bad = (seconds > 0) & (seconds * TOO_FAST < least)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"beats the speed of light of the machine {least[row] / seconds[row]:.0f} times",
            file=file,
            line=row + 2,
            field=column,
            value=float(f"{seconds[row] * 1e3:.6g}"),
            allowed=f"at least {least[row] * 1e3 / TOO_FAST:.4g} (are these milliseconds?)",
        )


def slow_rows(seconds: Floats, price_s: Floats) -> npt.NDArray[np.bool_]:
    """Rows that took a hundred times their price; none of those without one."""
    return np.asarray(seconds > TOO_SLOW * np.maximum(price_s, SLOWEST_START_S))


def check_slow(seconds: Floats, price_s: Floats, file: pathlib.Path, column: str) -> None:
    """`InputError` with the first row of `file` whose `seconds` (from a `column` of milliseconds) are a hundred times
    its calibrated price (NaN: not priced): they were counted in a smaller unit."""
    bad = slow_rows(seconds, price_s)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"{TOO_SLOW:.0f} times slower than the machine is",
            file=file,
            line=row + 2,
            field=column,
            value=float(f"{seconds[row] * 1e3:.6g}"),
            allowed=f"about {price_s[row] * 1e3:.4g} (are these milliseconds?)",
        )
