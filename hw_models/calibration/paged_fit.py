"""Decode attention of a device of which nothing else was measured: a benchmark of shared prompts on an A40.

Its rows time the parts of attention of a batch on a system prompt; those that read each sequence's own keys alone
(`attn_usr`, microseconds) are decodes of one query on `ctxlen` keys, and on the prompt's too where nothing is shared.
Constants start from the relative's and are drawn to it, as with few probes; half of the shapes fit, half check.
"""

import pathlib
from dataclasses import asdict

import numpy as np
import pandas as pd

from hw_models import catalog
from hw_models.calibration.attention import sought
from hw_models.calibration.fit import error, fit, half, spread
from hw_models.calibration.inherit import scaled
from hw_models.calibration.kernel_fit import predictor
from hw_models.calibration.measured import from_frame, read_frame
from hw_models.device import machine
from hw_models.profile import ErrorSummary, Kernel, Profile
from kernels.attention import ATTENTION_FIT
from kernels.formats import FORMAT_CODE

NAME, HEAD, WIDTH = "vllm_paged_attention", 52, 128  # heads by the file's bytes a token (26.6 kB)


def frame(file: pathlib.Path) -> pd.DataFrame:
    """The file's decodes under the columns of measured operators."""
    table = read_frame(file)
    shared = table["relay"].astype(str).str.lower() == "true"
    keys = table["ctxlen"] + np.where(shared, 0, table["prefixlen"])
    found = pd.DataFrame({"batch": table["nreqs"], "kv_len": keys, "latency_ms": table["attn_usr"] * 1e-3})
    shape = found.groupby(["batch", "kv_len"])["latency_ms"].median().reset_index()  # a shape, a row
    return shape.assign(
        dtype="bfloat16", kv_dtype="bfloat16", kernel=NAME, num_head=HEAD, num_kv_head=HEAD, head_dim=WIDTH
    )


def fit_file(file: pathlib.Path, device: str, relative: Profile, relative_device: str) -> list[Kernel]:
    """The kernel of decodes, fitted on half of the file's shapes."""
    heir = catalog.device(device)
    arrays = machine(catalog.system(device), "sol")
    measured = from_frame(frame(file), file, arrays)  # but for the writes of keys, which are timed apart
    near = relative.find("attn_decode", "bf16")
    assert near is not None
    start = scaled(near, catalog.device(relative_device), heir).parameter
    parameters = sought("attn_decode", NAME, windows=False, widths=False, narrow=False, relative=start)
    rows = np.arange(len(measured.ops))
    train = half(measured.frame["batch"], measured.frame["kv_len"])
    code = FORMAT_CODE["bf16"]
    chosen = fit(predictor(measured, rows[train], arrays, "attn_decode", code), measured.seconds[train], parameters)
    values = np.array([chosen[p.name] for p in parameters])
    seconds = predictor(measured, rows, arrays, "attn_decode", code)(values)
    by_half = [ErrorSummary(**asdict(error(seconds[part], measured.seconds[part]))) for part in (train, ~train)]
    constants = dict(zip(ATTENTION_FIT, values.tolist(), strict=True))
    return [
        Kernel(
            kind="attn_decode", format="bf16", name=NAME, default=True, parameter=constants, data=file.name,
            train=by_half[0], held_out=by_half[1], spread=spread(seconds[~train], measured.seconds[~train]),
        )
    ]  # fmt: skip
