"""Profiles of norms, rotary, activations, adds and embeddings from per-layer operator times.

The folder holds CSV files of models, a row a token count and tensor-parallel size. Fitted on half of the shapes,
checked on the other half; times under 3 us, where the timer's step of 1 us is a third, are not fitted. Kinds that
no file times take the constants of the residual add. `hw_models.calibration.shipped` writes the profiles.
"""

import functools
import pathlib
from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from hw_models import catalog
from hw_models.calibration.fit import Floats, Parameter, error, fit, half, spread
from hw_models.calibration.measured import read_frame
from hw_models.device import rate
from hw_models.forms import COLLECTIVE_KINDS, EXCHANGE_KINDS, RECURRENT_KINDS, STREAM_KINDS
from hw_models.profile import ErrorSummary, Kernel, Profile
from kernels.jit import njit
from kernels.stream import STREAM_FIT, stream_s

Rows = npt.NDArray[np.intp]

COLUMNS: dict[str, tuple[str, ...]] = {  # kind -> columns of the files
    "embed": ("emb_ms",),
    "norm": ("input_layernorm_ms", "post_attention_layernorm_ms"),
    "rope": ("attn_rope_ms",),
    "act": ("mlp_act_ms",),
    "add": ("add_ms",),
}
SOUGHT = (
    Parameter("launch_s", 3e-6, 5e-7, 1e-5),
    Parameter("mem_eff", 0.6, 0.1, 1.0),
    Parameter("vector_eff", 1.0, 1.0, 1.0),
    Parameter("p", 0.0, 0.0, 0.0),
    Parameter("ramp_byte", 1e5, 1e2, 1e8),
    Parameter("warm_l2", 0.6, 0.1, 1.5),
    Parameter("l2_ratio", 1.5, 1.0, 6.0),
)
LEAST_S = 3e-6


@njit
def seconds_of(read_byte: Floats, write_byte: Floats, rates: Floats, fit_vector: Floats) -> Floats:
    """Seconds of each stream of these bytes; FLOPs of elementwise operators never bound a GPU."""
    seconds = np.empty(len(read_byte))
    for i in range(len(read_byte)):
        seconds[i] = stream_s(0.0, read_byte[i], write_byte[i], rates, fit_vector)[0]
    return seconds


def rows_of(folder: pathlib.Path, kind: str) -> tuple[Floats, Floats, Floats]:
    """(bytes read, bytes written, seconds) of a kind's rows in all files."""
    read, write, seconds = [], [], []
    for file in sorted(folder.glob("*.csv*")):
        frame = read_frame(file)
        gated = 2 if "post_attention_layernorm_ms" in frame.columns else 1
        for column in COLUMNS[kind]:
            if column not in frame.columns:
                continue
            head = (frame["num_head"] + frame["num_kv_head"]) * frame["hidden"] // frame["num_head"]
            width, sources = {
                "rope": (head // frame["tp"], 1),
                "act": (frame["inter"] // frame["tp"], gated),
                "add": (frame["hidden"], 2),
            }.get(kind, (frame["hidden"], 1))
            value = (frame["num_token"] * width).to_numpy(float)
            read.append(2.0 * sources * value)
            write.append(2.0 * value)
            kernel = 3 - gated if kind == "add" else 1  # a parallel block adds twice: attention and feed-forward part
            seconds.append(frame[column].to_numpy(float) * 1e-3 / kernel)
    return np.concatenate(read), np.concatenate(write), np.concatenate(seconds)


def fit_folder(folder: str | pathlib.Path, device: str) -> list[Kernel]:
    """One kernel a stream kind."""
    rates = rate(catalog.device(device))
    found: dict[str, Kernel] = {}
    for kind in COLUMNS:
        read, write, seconds = rows_of(pathlib.Path(folder), kind)
        kept = seconds > 0
        read, write, seconds = read[kept], write[kept], seconds[kept]
        train = half(read.astype(np.int64), write.astype(np.int64))
        some = train & (seconds >= LEAST_S)
        order = np.flatnonzero(some)[np.argsort(read[some], kind="stable")]

        def predict(values: Floats, rows: Rows, read: Floats = read, write: Floats = write) -> Floats:
            return np.asarray(seconds_of(read[rows], write[rows], rates, values))

        values = fit(functools.partial(predict, rows=order), seconds[order], SOUGHT)
        vector = np.array([values[name] for name in STREAM_FIT])
        out = np.flatnonzero(~train & (seconds >= LEAST_S))
        checked = predict(vector, out)
        found[kind] = Kernel(
            kind=kind,
            format="any",
            name="torch",
            default=True,
            data="layers",
            parameter=values,
            train=ErrorSummary(**asdict(error(predict(vector, order), seconds[order]))),
            held_out=ErrorSummary(**asdict(error(checked, seconds[out]))),
            spread=spread(checked, seconds[out]),
        )
    add = found["add"].model_copy(update={"train": None, "held_out": None, "data": "as add"})
    return [found.get(kind, add.model_copy(update={"kind": kind})) for kind in STREAM_KINDS]


def taken(near: Profile, which: str) -> list[Kernel]:
    """A relative's streams, collectives or scans for a device on which nobody measured any: launch and hop times as
    they are, efficiencies as shares of the device's own rates."""
    kinds = {
        "stream": STREAM_KINDS, "collective": (*COLLECTIVE_KINDS, *EXCHANGE_KINDS), "scan": RECURRENT_KINDS
    }[which]  # fmt: skip
    return [k.model_copy(update={"train": None, "held_out": None}) for k in near.kernel if k.kind in kinds]
