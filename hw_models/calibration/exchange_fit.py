"""Profiles of expert exchange: dispatch and combine of DeepEP's kernels and of an NVLink rack's all-to-all.

Files have a row a (nodes, devices, hidden, topk, experts, tokens, cores): two kernels of DeepEP with `dispatch_ms` and
`combine_ms`, or a rack's with `op` and `latency_ms`. Dispatch rows are one byte a value and an fp32 scale for 128 of
them, combine rows two bytes a value, unless `dtype` says otherwise. Constants are fitted on half of the shapes, drawn
by a hash of tokens and widths, and checked on the others.
"""

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from hw_models import catalog
from hw_models.calibration.fit import Floats, Parameter, error, fit, half, spread
from hw_models.calibration.measured import read_frame
from hw_models.device import machine
from hw_models.profile import ErrorSummary, Kernel
from kernels.expert_exchange import EXCHANGE_FIT, EXCHANGE_SHAPE, IDEAL_EXCHANGE, exchange_s
from kernels.jit import njit
from kernels.machine import NUM_FIT

Chosen = npt.NDArray[np.bool_]
SCALE_BYTE = 4.0 / 128.0  # an fp32 scale for 128 values in eight bits
ROW_BYTE: Mapping[str, float] = {  # of a value, with its scales
    "fp8": 1.0 + SCALE_BYTE,
    "bfloat16": 2.0,
    "nvfp4": 0.5 + 1.0 / 16.0,
}
FREE: Mapping[str, tuple[float, float, float]] = {  # start, low, high
    "start_s": (2e-5, 1e-6, 2e-4),
    "node_s": (5e-6, 1e-8, 5e-5),
    "peer_s": (1e-7, 1e-10, 2e-6),
    "row_s": (1e-8, 1e-11, 1e-6),
    "core_byte_per_s": (2e10, 1e9, 2e11),
    "token_byte_per_s": (2e10, 1e9, 1e12),
    "out_core_byte_per_s": (2e10, 1e9, 1e12),
    "over_node_share": (0.6, 0.2, 1.0),
    "up_eff": (0.7, 0.1, 1.0),
    "out_eff": (0.9, 0.3, 1.0),
}
DEEPEP_CORE = 20.0  # DeepEP's own default, and what its engines give it


class Rows(NamedTuple):
    """Of one operation by one kernel: shapes `[n, EXCHANGE_SHAPE]`, measured seconds, and the fitting half."""

    shape: Floats
    seconds: Floats
    fitting: Chosen


def deepep(file: pathlib.Path, what: str) -> Rows:
    """Rows of a file of DeepEP; `what` is dispatch or combine."""
    frame = read_frame(file)
    core = frame["num_sm"] if "num_sm" in frame.columns else pd.Series(0, frame.index)
    byte = frame["hidden"] * (ROW_BYTE["fp8"] if what == "dispatch" else ROW_BYTE["bfloat16"])
    return _rows(frame, frame["num_node"], core, byte, frame[f"{what}_ms"])


def rack(file: pathlib.Path, what: str, kernel: str) -> Rows:
    """Rows of the file of a rack's all-to-all: `what` by `kernel`, one node of NVLink."""
    frame = read_frame(file)
    frame = frame[(frame["op"] == what) & (frame["kernel"] == kernel)].reset_index(drop=True)
    byte = frame["hidden"] * frame["dtype"].map(ROW_BYTE if what == "dispatch" else dict.fromkeys(ROW_BYTE, 2.0))
    one = pd.Series(1, frame.index)
    return _rows(frame, one, 0 * one, byte, frame["latency_ms"])


def _rows(frame: pd.DataFrame, node: pd.Series, core: pd.Series, byte: pd.Series, milliseconds: pd.Series) -> Rows:
    columns = (
        frame["num_token_per_rank"], byte, frame["topk"], frame["num_expert"], frame["num_gpu"], node, 0 * node, core,
    )  # fmt: skip
    shape = np.stack([column.to_numpy(float) for column in columns], axis=1)
    assert shape.shape[1] == len(EXCHANGE_SHAPE)
    seconds = milliseconds.to_numpy(float) * 1e-3
    drawn = half(*(frame[name] for name in ("num_token_per_rank", "hidden", "num_expert", "num_gpu")))
    return Rows(shape, seconds, drawn)


@njit
def seconds_of(shape: Floats, core: float, link: Floats, values: Floats) -> Floats:
    """Seconds of each row."""
    out = np.empty(len(shape))
    for i in range(len(shape)):
        out[i] = exchange_s(shape[i], core, link, values)[0]
    return out


def fit_rows(
    rows: Rows, system: str, kind: str, name: str, data: str, *, known: Mapping[str, float], fixed: Sequence[str] = ()
) -> tuple[Kernel, Floats]:
    """A kernel fitted on its rows' half (`fixed` constants stay ideal), and the price of every row."""
    arrays = machine(catalog.system(system, 16))
    core = float(catalog.system(system).device.num_core)
    ideal = dict(zip(EXCHANGE_FIT, IDEAL_EXCHANGE, strict=True)) | dict(known)
    free = {n: FREE[n] for n in FREE if n not in fixed and n not in known}
    parameters = [Parameter(n, *free[n] if n in free else (ideal[n],) * 3) for n in EXCHANGE_FIT]

    def predict(chosen: Chosen, values: Floats) -> Floats:
        padded = np.zeros(NUM_FIT)
        padded[: len(values)] = values
        return np.asarray(seconds_of(rows.shape[chosen], core, arrays.link, padded))

    mine = rows.fitting
    found = fit(lambda v: predict(mine, v), rows.seconds[mine], parameters, search=20)
    values = np.array([found[n] for n in EXCHANGE_FIT])
    price = predict(np.ones(len(mine), np.bool_), values)
    kernel = Kernel(
        kind=kind, format="any", name=name, data=data, parameter=found,
        train=ErrorSummary(**asdict(error(price[mine], rows.seconds[mine]))),
        held_out=ErrorSummary(**asdict(error(price[~mine], rows.seconds[~mine]))),
        spread=spread(price[~mine], rows.seconds[~mine]),
    )  # fmt: skip
    return kernel, price
