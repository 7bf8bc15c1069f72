"""What to measure on an unknown device in a stated time, and measuring it.

Shapes are drawn log-uniformly from seeded generators, one a kind of operator, over the ranges that models use;
kinds take turns, so that any budget ends with a balanced set. Every probe is a row with the columns of the
measured operator files.
"""

import collections
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hw_models.calibration.probes import operators
from hw_models.reference import paged
from hw_models.reference.device import ReferenceDevice
from kernels.errors import InputError

Row = dict[str, Any]
STREAMS = ("norm", "rope", "act", "add", "kv_write", "embed", "sample", "copy")
VALUE_BYTE = {"bfloat16": 2.0, "float16": 2.0, "float32": 4.0}  # narrower formats exist in multiplies alone
MAX_REFUSED = 8  # shapes in a row that no kernel takes: the kind has none in this format
LIMIT_S = {"cuda": 0.005, "cpu": 0.003}  # a probe's work takes at most about this long at the rates measured first
SLOW = {"attn_prefill": 16.0, "attn_decode": 4.0, "stream": 6.0, "moe": 3.0}  # on a CPU: how far below those it runs
LIMIT_BYTE = 1e9  # of the operands of a probe, however fast the memory


class Limit(NamedTuple):
    """The largest probe that a budget of many can hold."""

    flop: float
    value: float  # operands, counted as values

    def allows(self, flop: float, value: float) -> bool:
        return flop <= self.flop and value <= self.value


LEAST = Limit(5e7, 4e6)  # every kind has shapes below this, however slow the device


def _limit(device: str, kind: str, flop_per_s: float, mem_byte_per_s: float, value_byte: float) -> Limit:
    limit_s = LIMIT_S[device] / (SLOW.get(kind, 1.0) if device == "cpu" else 1.0)
    value = min(LIMIT_BYTE, mem_byte_per_s * limit_s) / value_byte
    return Limit(max(LEAST.flop, flop_per_s * limit_s), max(LEAST.value, value))


TURNS = ("gemm", "attn_decode", "stream", "gemm", "attn_prefill", "stream", "gemm", "moe", "stream")
MODEL_KERNEL = {"attn_prefill": paged.KERNEL, "attn_decode": paged.KERNEL}  # what the reference model runs


def _log_int(rng: np.random.Generator, low: float, high: float, multiple: int = 1) -> int:
    value = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    return max(multiple, round(value / multiple) * multiple)


def gemms(rng: np.random.Generator, dtype: str, limit: Limit) -> Iterator[Row]:
    """Projections: n and k of models and their shards, m from one token to a long prefill."""
    while True:
        n, k = (_log_int(rng, 128, 16384, 64) for _ in range(2))
        m = _log_int(rng, 1, 8192)
        if limit.allows(2.0 * m * n * k, n * k + m * k + m * n):
            yield {"dtype": dtype, "m": m, "n": n, "k": k}


def _heads(rng: np.random.Generator) -> Row:
    kv_head, group = int(rng.choice([1, 2, 4, 8])), int(rng.choice([1, 2, 4, 8]))
    return {"num_head": kv_head * group, "num_kv_head": kv_head, "head_dim": int(rng.choice([64, 128]))}


def prefills(rng: np.random.Generator, dtype: str, limit: Limit) -> Iterator[Row]:
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
        token = row["batch"] * (row["query_len"] + row["prefix_len"]) * row["head_dim"]
        if limit.allows(
            4.0 * pairs * row["num_head"] * row["head_dim"], token * (row["num_head"] + row["num_kv_head"])
        ):
            yield row


def decodes(rng: np.random.Generator, dtype: str, limit: Limit) -> Iterator[Row]:
    while True:
        row: Row = {
            "dtype": dtype,
            "kv_dtype": dtype,
            "batch": _log_int(rng, 1, 256),
            "kv_len": _log_int(rng, 16, 16384),
            **_heads(rng),
            "window": 0,
        }
        token = row["batch"] * row["kv_len"] * row["head_dim"]
        if limit.allows(4.0 * token * row["num_head"], 2 * token * row["num_kv_head"]):
            yield row


def experts(rng: np.random.Generator, dtype: str, limit: Limit) -> Iterator[Row]:
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
        if limit.allows(6.0 * row["num_token"] * row["topk"] * row["hidden"] * row["inter"], weight):
            yield row


def streams(rng: np.random.Generator, dtype: str, limit: Limit) -> Iterator[Row]:
    for op in itertools.cycle(STREAMS):
        row: Row = {
            "op": op,
            "dtype": dtype,
            "num_token": _log_int(rng, 1, 4096),
            "width": _log_int(rng, 256, 16384, 64),
        }
        while not limit.allows(0.0, 3.0 * row["num_token"] * row["width"]):
            row["num_token"] = -(-row["num_token"] // 2)
        yield row


KINDS: dict[str, Callable[[np.random.Generator, str, Limit], Iterator[Row]]] = {
    "gemm": gemms,
    "attn_decode": decodes,
    "attn_prefill": prefills,
    "stream": streams,
    "moe": experts,
}


def run(
    device: ReferenceDevice,
    budget_s: float,
    flop_per_s: Mapping[str, float],
    mem_byte_per_s: float,
    seed: int = 0,
    kinds: tuple[str, ...] = tuple(KINDS),
    progress: Callable[[str, int], None] = lambda kind, count: None,
) -> dict[str, pd.DataFrame]:
    """Measure probes in turn until `budget_s` is spent: a frame a kind, with columns `kernel` and `latency_ms`.

    `flop_per_s`: the multiply rate of each torch dtype to probe, which with the memory's
    bounds the work of a probe.
    An interrupt ends the probing; what was measured is returned.
    """
    sources = {
        (kind, dtype): KINDS[kind](
            np.random.default_rng([seed, order, index]),
            dtype,
            _limit(device.environment.device, kind, flop_per_s[dtype], mem_byte_per_s, VALUE_BYTE.get(dtype, 1.0)),
        )
        for order, dtype in enumerate(flop_per_s)
        for index, kind in enumerate(KINDS)
    }
    order_of_turns = [
        (kind, dtype)
        for kind in TURNS
        for dtype in flop_per_s
        if kind in kinds and (dtype in VALUE_BYTE or kind == "gemm")
    ]
    turns = itertools.cycle(order_of_turns)
    rows: dict[str, list[Row]] = {kind: [] for kind in kinds}
    refused: collections.Counter[tuple[str, str]] = collections.Counter()
    end = time.perf_counter() + budget_s
    try:
        while time.perf_counter() < end:
            turn = next(turns)
            kind = turn[0]
            if refused[turn] >= MAX_REFUSED:
                if all(refused[other] >= MAX_REFUSED for other in order_of_turns):
                    break
                continue
            row = next(sources[turn])
            try:
                ops, work = operators(kind, pd.DataFrame([row]))
                found = device.measure(ops[0], work, MODEL_KERNEL.get(kind, ""))
            except InputError:
                refused[turn] += 1  # a format or shape that none of torch's kernels takes
                continue
            refused[turn] = 0
            spread = round(found.timing.spread, 4)
            rows[kind].append(
                {**row, "kernel": found.kernel, "latency_ms": found.timing.median_s * 1e3, "spread": spread}
            )
            progress(kind, len(rows[kind]))
    except KeyboardInterrupt:
        progress("interrupted", sum(map(len, rows.values())))
    return {kind: pd.DataFrame(found) for kind, found in rows.items() if found}
