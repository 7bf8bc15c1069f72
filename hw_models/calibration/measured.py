"""Measured operator files as checked tables, with an operator for each row (`measured_rows`).

What a file holds is told by its columns, and whether it is compressed by its first bytes, never by its name. A row
is refused where it cannot have been measured: a missing column, a latency that is zero, negative or not a number, one
that beats the machine's speed of light tenfold (seconds given as milliseconds), or one a hundred times its price
(microseconds given as milliseconds).
"""

import dataclasses
import io
import pathlib
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from hw_models.calibration import state_rows
from hw_models.calibration.measured_rows import BUILDERS, kv_write, number
from hw_models.calibration.plausible import TOO_FAST, check_light, light_s
from hw_models.calibration.units import plain, with_units
from hw_models.files import read_byte
from kernels.content import check_numbers
from kernels.digits import MOST
from kernels.errors import InputError, NothingServedError
from kernels.formats import FORMATS
from kernels.machine import Machine
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
    "recurrent": ("kernel", "phase", *state_rows.SHAPE),
    "absorbing": ("op", "dtype", "kernel", "num_token", "num_head"),
}  # fmt: skip
TELLS = {
    "recurrent": "conv_channel",
    "exchange": "num_token_per_rank",  # before what has experts too
    "gemm": "n",
    "attn_prefill": "query_len",
    "attn_decode": "kv_len",
    "moe": "num_expert",
    "collective": "message_byte",
}
OTHERS: Mapping[str, str] = {  # a column of files that hold what one operator is not
    "gemm_dtype": "a whole attention block, which is many operators",
    "architecture": "a whole attention block, which is many operators",
    "hc_mult": "hyper-connections, which are priced as a layer's streams",
}
LATENT = {"absorbed": (576, 512), "expanded": (192, 128)}  # widths of keys and values (DeepSeek-V2, arXiv 2405.04434)
EXCHANGE_MS = ("dispatch_ms", "combine_ms")  # of a file that has both in a row
TIMES = ("latency_ms", *EXCHANGE_MS, "power_w", "power_limit_w")


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

    @property
    def plain(self) -> bool:
        """Whether attention is causal, of one width of head: what the constants of its kernels are fitted on."""
        return not {"non_causal", "v_head_dim"} & set(self.frame.columns)

    @property
    def label(self) -> str:
        """What the rows are called: their kind, or which attention they time that is not plain."""
        if "num_slot" in self.frame.columns:
            return "moe_wide"  # one rank's experts of many ranks'
        if self.plain:
            return self.kind
        return self.kind.replace("attn", "latent" if "v_head_dim" in self.frame.columns else "encoder")

    def format_name(self) -> list[str]:
        """The number format that a row's fit is kept under (the KV format for attention)."""
        field = "kv_fmt" if self.kind.startswith("attn") else "fmt"
        return [FORMATS[code].name for code in self.ops[field]]


def kind_of(frame: pd.DataFrame) -> str | None:
    """Which kind of operator a frame's columns describe, or None."""
    if other(frame):
        return None
    if "latency_ms" not in frame.columns:
        return None
    if set(COLUMNS["absorbing"]) <= set(frame.columns) and frame["op"].astype(str).isin(state_rows.ABSORB).any():
        return "absorbing"
    if "num_slot" in frame.columns:
        return "moe"
    return next((kind for kind, tell in TELLS.items() if tell in frame.columns), None)


def other(frame: pd.DataFrame) -> str:
    """What a frame holds that is no single operator of ours, by its columns; empty where none says so."""
    if {"op", "m", "k"} <= set(frame.columns) and "n" not in frame.columns:
        return "quantisation of activations, which is part of its multiply"
    if "d_conv" in frame.columns and "conv_channel" not in frame.columns:
        return "a convolution that does not say its channels"
    return next((why for column, why in OTHERS.items() if column in frame.columns), "")


def read_folder(
    folder: str | pathlib.Path,
    machine: Machine | None = None,
    left_out: Counter[str] | None = None,
    apart: list[tuple[pathlib.Path, pd.DataFrame]] | None = None,
) -> list[Measured]:
    """Every operator file of a folder (CSV, plain or gzipped), or the one file given; other CSV files are passed by.

    Raises `InputError` for an unreadable folder, one without any such file, or a bad row. With `left_out`, files of a
    folder that are almost an operator's, or of which no row is a measurement, are counted there by rows, and bad rows
    are `skipped`: a file that is alone is refused where no row stands. Timed files of something that is no single
    operator (`other`) are put `apart`, where it is given.
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
            if kind is None and not other(frame):
                _refuse_almost(frame, file)
            elif kind is not None:
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
        elif apart is not None and other(frame) and "latency_ms" in frame.columns:
            apart.append((file, frame))
        elif left_out is not None and "latency_ms" in frame.columns:
            why = other(frame) or "no operator of ours has these columns"
            left_out[f"{file.name}: {why}"] += len(frame)
    if not found and not apart and first is not None:
        raise first
    if not found and not apart:
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


def read_frame(file: pathlib.Path, wanted: Iterable[str] = TIMES) -> pd.DataFrame:
    """A CSV file, plain or gzipped, or an `InputError` saying why it is none or that it holds no row. Columns of
    `wanted` may be there in another unit, which their names say."""
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
    same = Counter(plain(str(name)) for name in frame.columns)
    if twice := [str(name) for name in frame.columns if same[plain(str(name))] > 1]:
        raise InputError("say the same", file=file, field="columns", value=twice, allowed="each once")
    frame = with_units(frame.rename(columns=lambda name: plain(str(name))), wanted)
    return _completed(_of_wide_experts(_a_row_each(state_rows.completed(frame))))


def _of_wide_experts(frame: pd.DataFrame) -> pd.DataFrame:
    """A table of the experts of one rank under wide expert parallelism under the columns of experts: whole experts a
    rank, and where copies balance the load (`_eplb`) one more for each slot."""
    if not {"num_slot", "num_expert", "distribution"} <= set(frame.columns):
        return frame
    text = frame["distribution"].astype(str)
    even = text.str.endswith("_eplb")
    return frame.assign(
        tp=1,
        num_expert=frame["num_slot"].where(even, frame["num_expert"]),
        distribution=text.where(~even, "balanced"),
    )


def _completed(frame: pd.DataFrame) -> pd.DataFrame:
    """Attention files with the columns that they leave out: an encoder's has neither prefix nor cache, and sees all
    keys; latent attention has one shape of head, which its files do not state (its kernels are named after it)."""
    names = set(frame.columns)
    if "num_head" not in names or other(frame):
        return frame
    if {"query_len", "num_kv_head", "head_dim", "dtype"} <= names and not {"prefix_len", "kv_dtype"} & names:
        return frame.assign(prefix_len=0, window=0, kv_dtype=frame["dtype"], non_causal=True)
    if {"num_kv_head", "head_dim", "v_head_dim"} & names or not {"kernel", "kv_dtype", "batch"} <= names:
        return frame
    if "kv_len" in names:
        form, kv_head = "absorbed", pd.Series(1, frame.index)
    elif {"query_len", "prefix_len"} <= names:
        form, kv_head = "expanded", frame["num_head"]
    else:
        return frame
    key, value = LATENT[form]
    kernel = frame["kernel"].astype(str) + f" (latent, {form})"
    return frame.assign(num_kv_head=kv_head, head_dim=key, v_head_dim=value, kernel=kernel)


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
    for name in set(TEXT) & set(frame.columns):  # a short row has none
        frame[name] = frame[name].astype(object).fillna("").astype(str)
    odd = _mended(frame, kind) if mends else {}
    milliseconds = number(frame, "latency_ms", file, positive=True)
    skipped: dict[int, str] = {}
    ops, work = (BUILDERS | STATES)[kind](frame, file, skipped)
    skipped |= odd
    bare = {"non_causal", "v_head_dim"} & set(frame.columns)  # nothing was cached beside
    beside = kv_write(ops, work) if kind.startswith("attn") and not bare else None
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


TEXT = ("dtype", "kv_dtype", "kernel", "distribution", "op", "phase")
STATES = {"recurrent": state_rows.recurrent, "absorbing": state_rows.absorbing}
MOST_BYTE = 2.0**40  # of a message
MAY_BE_ZERO = ("prefix_len", "window", "num_sm", "conv_channel")
BLANK = {
    "window": 0.0,
    "num_node": 1.0,
    "num_sm": 0.0,
    "conv_channel": 1.0,
    "d_conv": 1.0,
}  # what columns that a file may lack mean where a cell is blank


def _mended(frame: pd.DataFrame, kind: str) -> dict[int, str]:
    """Rows of a frame that hold what is no measurement, and why; their cells become 1. Where they are all of a column,
    it stays as it is."""
    found: dict[int, str] = {}
    further = [name for name in BLANK if name in frame.columns]
    for name in further:
        frame[name] = frame[name].where(frame[name].notna(), BLANK[name])
    for name in (name for name in (*COLUMNS[kind], "latency_ms", *further) if name not in TEXT):
        values = pd.to_numeric(frame[name], errors="coerce").to_numpy(float)
        bad = ~np.isfinite(values) | (values < 0 if name in MAY_BE_ZERO else values <= 0)
        if name in ("m", "n", "k"):
            bad |= values != np.floor(values)
        if name != "latency_ms":
            bad |= values > (MOST_BYTE if name == "message_byte" else MOST)
        if bad.any() and not bad.all():
            frame[name] = np.where(bad, 1.0, values)
            found |= dict.fromkeys(np.flatnonzero(bad).tolist(), f"{name} is no measurement")
    return found
