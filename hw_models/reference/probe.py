"""What to measure on an unknown device in a stated time, and measuring it.

Shapes are drawn log-uniformly from seeded generators, one a kind of operator, over the ranges that models use;
kinds take turns, so that any budget ends with a balanced set. Every probe is a row with the columns of the
measured operator files.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from hw_models.calibration.measured import from_frame
from hw_models.reference.device import ReferenceDevice
from kernels.errors import InputError
from kernels.optable import EMBED, KIND_CODE, OpTable, WorkTable, empty

Row = dict[str, Any]
STREAMS = ("norm", "rope", "act", "add", "copy")
LIMIT_FLOP_S = 0.02  # a probe's work takes at most about this long at the rates measured first
TABLES = {
    "attn_prefill": "prefill_attention",
    "attn_decode": "decode_attention",
    "gemm": "gemm",
    "moe": "moe",
    "stream": "stream",
}


def _log_int(rng: np.random.Generator, low: float, high: float, multiple: int = 1) -> int:
    value = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    return max(multiple, round(value / multiple) * multiple)


def gemms(rng: np.random.Generator, dtype: str, limit_flop: float) -> Iterator[Row]:
    """Projections: n and k of models and their shards, m from one token to a long prefill."""
    while True:
        n, k = (_log_int(rng, 128, 16384, 64) for _ in range(2))
        m = _log_int(rng, 1, 8192)
        if 2.0 * m * n * k <= limit_flop and n * k <= limit_flop:
            yield {"dtype": dtype, "m": m, "n": n, "k": k}


def _heads(rng: np.random.Generator) -> Row:
    kv_head, group = int(rng.choice([1, 2, 4, 8])), int(rng.choice([1, 2, 4, 8]))
    return {"num_head": kv_head * group, "num_kv_head": kv_head, "head_dim": int(rng.choice([64, 128]))}


def prefills(rng: np.random.Generator, dtype: str, limit_flop: float) -> Iterator[Row]:
    while True:
        row: Row = {
            "dtype": dtype,
            "kv_dtype": dtype,
            "batch": _log_int(rng, 1, 16),
            "query_len": _log_int(rng, 16, 4096),
            "prefix_len": int(rng.choice([0, 1])) * _log_int(rng, 16, 4096),
            **_heads(rng),
            "window": 0,
        }
        pairs = row["batch"] * row["query_len"] * (row["query_len"] + row["prefix_len"])
        if 4.0 * pairs * row["num_head"] * row["head_dim"] <= limit_flop:
            yield row


def decodes(rng: np.random.Generator, dtype: str, limit_flop: float) -> Iterator[Row]:
    while True:
        row: Row = {
            "dtype": dtype,
            "kv_dtype": dtype,
            "batch": _log_int(rng, 1, 256),
            "kv_len": _log_int(rng, 16, 16384),
            **_heads(rng),
            "window": 0,
        }
        if 4.0 * row["batch"] * row["kv_len"] * row["num_head"] * row["head_dim"] <= limit_flop / 8:
            yield row


def experts(rng: np.random.Generator, dtype: str, limit_flop: float) -> Iterator[Row]:
    while True:
        row: Row = {
            "dtype": dtype,
            "num_token": _log_int(rng, 1, 2048),
            "hidden": _log_int(rng, 256, 4096, 128),
            "inter": _log_int(rng, 256, 4096, 128),
            "topk": int(rng.choice([1, 2, 4])),
            "num_expert": int(rng.choice([8, 16, 64])),
            "tp": 1,
            "ep": 1,
            "distribution": str(rng.choice(["balanced", "power_law_1.2"])),
        }
        weight = row["num_expert"] * row["hidden"] * row["inter"] * 3.0
        if 6.0 * row["num_token"] * row["topk"] * row["hidden"] * row["inter"] + 8 * weight <= limit_flop:
            yield row


def streams(rng: np.random.Generator, dtype: str, limit_flop: float) -> Iterator[Row]:
    while True:
        row: Row = {
            "op": str(rng.choice([*STREAMS, "embed"])),
            "dtype": dtype,
            "num_token": _log_int(rng, 1, 4096),
            "width": _log_int(rng, 256, 16384, 64),
        }
        if 64.0 * row["num_token"] * row["width"] <= limit_flop:
            yield row


KINDS: dict[str, Callable[[np.random.Generator, str, float], Iterator[Row]]] = {
    "gemm": gemms,
    "attn_decode": decodes,
    "attn_prefill": prefills,
    "stream": streams,
    "moe": experts,
}


def run(
    device: ReferenceDevice,
    budget_s: float,
    dtypes: tuple[str, ...],
    flop_per_s: float,
    seed: int = 0,
    kinds: tuple[str, ...] = tuple(KINDS),
    progress: Callable[[str, int], None] = lambda kind, count: None,
) -> dict[str, pd.DataFrame]:
    """Measure probes in turn until `budget_s` is spent: a frame a kind, with columns `kernel` and `latency_ms`.

    An interrupt ends the probing; what was measured is returned.
    """
    limit = flop_per_s * LIMIT_FLOP_S
    turns = [
        (kind, KINDS[kind](np.random.default_rng([seed, order, index]), dtype, limit))
        for order, dtype in enumerate(dtypes)
        for index, kind in enumerate(kinds)
    ]
    rows: dict[str, list[Row]] = {kind: [] for kind in kinds}
    end, turn = time.perf_counter() + budget_s, 0
    try:
        while time.perf_counter() < end:
            kind, source = turns[turn % len(turns)]
            turn += 1
            row = next(source)
            try:
                op, work = operator(kind, row)
                found = device.measure(op, work)
            except InputError:
                continue  # a shape that none of torch's kernels takes
            spread = round(found.timing.spread, 4)
            rows[kind].append(
                {**row, "kernel": found.kernel, "latency_ms": found.timing.median_s * 1e3, "spread": spread}
            )
            progress(kind, len(rows[kind]))
    except KeyboardInterrupt:
        progress("interrupted", sum(map(len, rows.values())))
    return {kind: pd.DataFrame(found) for kind, found in rows.items() if found}


def operator(kind: str, row: Row) -> tuple[OpTable, WorkTable]:
    """The operator of a probe, as the reference device takes it."""
    if kind == "stream":
        return stream_table(pd.DataFrame([row]))[0], empty(0)[1]
    import pathlib

    measured = from_frame(pd.DataFrame([{**row, "kernel": "", "latency_ms": 1.0}]), pathlib.Path(kind))
    return measured.ops[0], measured.work


def stream_table(frame: pd.DataFrame) -> OpTable:
    """Operators of stream probes: inputs read and outputs written once, at the width of the format."""
    ops, _ = empty(len(frame))
    measured_byte = {"bfloat16": 2.0, "float16": 2.0, "float32": 4.0}
    from kernels.formats import ALIASES, FORMAT_CODE

    byte = frame["dtype"].map(measured_byte).to_numpy(float) * frame["num_token"].to_numpy() * frame["width"].to_numpy()
    ops["kind"] = [KIND_CODE[name] for name in frame["op"]]
    ops["fmt"] = [FORMAT_CODE[ALIASES[name]] for name in frame["dtype"]]
    ops["m"], ops["n"] = frame["num_token"], frame["width"]
    read = frame["op"].map({"act": 2.0, "add": 2.0}).fillna(1.0).to_numpy(float)  # gate and up; two addends
    ops["act_byte"], ops["write_byte"] = read * byte, byte
    ops["flop"] = np.where(ops["kind"] == EMBED, 0.0, byte)
    return ops
