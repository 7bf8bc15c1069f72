"""Profiles of recurrent kernels from operator times: convolutions, decode steps and chunked scans of gated delta rules
(`gdn.csv.gz`, a decay a head) and of Kimi's delta attention (`kda.csv.gz`, a decay a channel).

The kernels that vLLM chooses; conv and decode kernels that SGLang shares with it count too. Fitted on half of the
shapes, checked on the other half. `hw_models.calibration.shipped` writes the profiles.
"""

import functools
import pathlib
from collections.abc import Callable
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from hw_models import catalog
from hw_models.calibration.fit import Floats, Parameter, error, fit, half, spread
from hw_models.calibration.measured import read_frame
from hw_models.device import rate
from hw_models.forms import FORMS
from hw_models.profile import ErrorSummary, Kernel
from kernels.formats import FORMATS
from kernels.jit import njit
from kernels.machine import NUM_FIT
from kernels.scan import CHUNK, scan_s
from kernels.stream import stream_s

Ints = npt.NDArray[np.intp]

VALUE = 2.0  # bytes of an activation (bf16)
STATE = 4.0  # and of a value of the recurrent state, which these kernels keep in fp32
STREAM_SOUGHT = (
    Parameter("launch_s", 4e-6, 5e-7, 2e-5), Parameter("mem_eff", 0.7, 0.1, 1.0),
    Parameter("vector_eff", 1.0, 1.0, 1.0), Parameter("p", 0.0, 0.0, 0.0),
    Parameter("ramp_byte", 1e5, 1e2, 1e8), Parameter("warm_l2", 0.0, 0.0, 0.0),
    Parameter("l2_ratio", 1.0, 1.0, 1.0),
)  # fmt: skip
SCAN_SOUGHT = (
    Parameter("launch_s", 5e-6, 5e-7, 5e-5), Parameter("start_s", 4e-6, 1e-8, 5e-5),
    Parameter("compute_eff", 0.5, 0.02, 1.0), Parameter("mem_eff", 0.7, 0.1, 1.0), Parameter("p", 2.0, 1.0, 8.0),
    Parameter("serial", 1.0, 1.0, 1.0),
)  # fmt: skip


class Source(NamedTuple):
    """What a kind is fitted on: a file, kernels of it and the phase that they serve."""

    file: str
    kernels: tuple[str, ...]
    name: str  # in the profile


SOURCES: dict[str, Source] = {
    "conv": Source("gdn.csv.gz", ("causal_conv1d_fn", "causal_conv1d_update"), "causal_conv1d"),
    "recur": Source(
        "gdn.csv.gz", ("fused_recurrent_gated_delta_rule_packed_decode",), "fused_recurrent_gated_delta_rule"
    ),
    "scan": Source("gdn.csv.gz", ("chunk_gated_delta_rule_flashinfer",), "chunk_gated_delta_rule_flashinfer"),
    "scan_channel": Source("kda.csv.gz", ("flashkda_fwd",), "flashkda_fwd"),
}


class Rows(NamedTuple):
    """Counts, FLOPs and bytes of measured rows, as recurrent layer kinds write them into an operator table."""

    token: Floats
    seq: Floats
    head: Floats
    flop: Floats
    read: Floats
    write: Floats


def rows_of(frame: pd.DataFrame, kind: str) -> Rows:
    """The rows of a file as operators of `kind`: a gated delta rule, or one with a decay a channel."""
    seq, head, k_head = (frame[name].to_numpy(float) for name in ("batch", "num_v_head", "num_k_head"))
    dk, dv, token = (frame[name].to_numpy(float) for name in ("head_k_dim", "head_v_dim", "query_len"))
    token = token * seq
    if kind == "conv":
        channel, tap = frame["conv_channel"].to_numpy(float), frame["d_conv"].to_numpy(float)
        moved = (token + seq * (tap - 1)) * channel * VALUE
        return Rows(token, seq, head, token * channel * (2 * tap + 5), moved + channel * tap * VALUE, moved)
    decay = k_head * dk if kind == "scan_channel" else head
    state = seq * head * dk * dv * STATE
    small = (head + (decay if kind == "scan_channel" else head)) * VALUE  # decays and biases of the layer
    read = token * (2 * k_head * dk + head * dv + decay + head) * VALUE + state + small
    chunk = 2.0 * CHUNK * (3 * dk + 2 * dv) + 6.0 * dk * dv
    flop = token * head * (7.0 * dk * dv if kind == "recur" else chunk)
    return Rows(token, seq, head, flop, read, token * head * dv * VALUE + state)


@njit
def stream_seconds(rows: Rows, peak: float, rates: Floats, values: Floats) -> Floats:
    """Seconds of each row as a stream."""
    seconds = np.empty(len(rows.flop))
    for i in range(len(seconds)):
        seconds[i] = stream_s(rows.flop[i], rows.read[i], rows.write[i], rates, values)[0]
    return seconds


@njit
def scan_seconds(rows: Rows, peak: float, rates: Floats, values: Floats) -> Floats:
    """Seconds of each row as a chunked scan."""
    seconds = np.empty(len(rows.flop))
    for i in range(len(seconds)):
        byte = rows.read[i] + rows.write[i]
        token, seq, head = int(rows.token[i]), int(rows.seq[i]), int(rows.head[i])
        seconds[i] = scan_s(token, seq, head, rows.flop[i], byte, peak, rates, values)[0]
    return seconds


def fit_folder(folder: str | pathlib.Path, device: str) -> list[Kernel]:
    """One kernel a kind whose file is there."""
    own = catalog.device(device)
    rates, peak = rate(own), own.peak(next(form.pipe for form in FORMATS if form.name == "bf16"))
    found = []
    for kind, source in SOURCES.items():
        path = pathlib.Path(folder) / source.file
        if not path.exists():
            continue
        frame = read_frame(path)
        chosen = frame["kernel"].isin(source.kernels) & ~frame["stack"].str.startswith("trtllm")
        frame = frame[chosen].reset_index(drop=True)
        rows, seconds = rows_of(frame, kind), frame["latency_ms"].to_numpy(float) * 1e-3
        made = scan_seconds if kind.startswith("scan") else stream_seconds
        sought = SCAN_SOUGHT if kind.startswith("scan") else STREAM_SOUGHT
        train = half(*(frame[name] for name in ("batch", "query_len", "num_k_head", "num_v_head", "conv_channel")))
        predict = functools.partial(_predict, made, rows, peak, rates)
        order = np.flatnonzero(train)[np.argsort(rows.flop[train], kind="stable")]
        values = fit(functools.partial(predict, order), seconds[order], sought)
        vector, out = np.array([values[name] for name in FORMS[kind].names]), np.flatnonzero(~train)
        checked = predict(out, vector)
        found.append(
            Kernel(
                kind=kind,
                format="any",
                name=source.name,
                default=True,
                data=source.file,
                parameter=values,
                train=ErrorSummary(**asdict(error(predict(order, vector), seconds[order]))),
                held_out=ErrorSummary(**asdict(error(checked, seconds[out]))),
                spread=spread(checked, seconds[out]),
            )
        )
    return found


def _predict(
    made: Callable[..., Floats], rows: Rows, peak: float, rates: Floats, chosen: Ints, values: Floats
) -> Floats:
    slots = np.zeros(NUM_FIT)
    slots[: len(values)] = values
    return made(Rows(*(column[chosen] for column in rows)), peak, rates, slots)
