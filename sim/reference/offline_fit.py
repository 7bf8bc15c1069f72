"""Fits an engine profile's host time on measured throughputs of offline batches.

    python -m sim.reference.offline_fit ../shared/data/serving/relay_attention/offline_synthetic_a100_llama2_7b.csv \
        --base vllm_2023_a100 --out sim/serving/engines/vllm_0.2_a100.toml

Kernels and the launches of a layer are the base's, which was measured on the same host and GPU. Fitted are the host's
seconds a sequence, of which a single process without tensor parallelism spends less: nothing is sent to other
processes (nor has a prompt a time of its own: a fit finds zero). On half of the rows that share nothing (`vllm`), by a
hash of their lengths; all other rows check it.
"""

import argparse
import dataclasses
import datetime
import pathlib
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hw_models.calibration.fit import half
from sim.reference.engine_fit import write
from sim.serving.engine_profile import EngineProfile, Fit, load

Floats = npt.NDArray[np.float64]

START_S = 1e-4  # where the search starts, which is also its scale


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sim.reference.offline_fit", description="fit host time on offline batches"
    )
    parser.add_argument("file", metavar="FILE", help="CSV of batches, as `validate offline` reads it")
    parser.add_argument("--base", default="vllm_2023_a100", help="profile of the same host, whose kernels are kept")
    parser.add_argument("--out", required=True, metavar="TOML", help="where the fitted profile goes")
    given = parser.parse_args(words)
    file, out = pathlib.Path(given.file), pathlib.Path(given.out)
    profile = fitted(file, load(given.base), out)
    print(profile.seq_s, profile.fit)
    folder = file.parent.name
    assert profile.fit is not None
    command = f"python -m sim.reference.offline_fit ../shared/data/serving/{folder}/{file.name} --base {given.base}"
    done = dataclasses.replace(profile.fit, command=f"{command} --out sim/serving/engines/{out.name}")
    write(out, dataclasses.replace(profile, fit=done))
    return 0


def fitted(file: pathlib.Path, base: EngineProfile, out: pathlib.Path) -> EngineProfile:
    """The profile, with its errors on the rows fitted and on the others."""
    from scipy.optimize import least_squares

    from sim.validate.offline import read

    rows = read(file)
    train = half(*(rows[name] for name in ("own_len", "output_len", "prefix_len"))) & (rows["backend"] == "vllm")
    start = dataclasses.replace(
        base,
        title="vLLM 0.2, eager, one A100",
        source=f"fit of seq_s on half of the vllm rows of {file.name}; the rest of {base.title}",
        stack="",
        prefill_s=0.0,
    )

    def residual(x: Floats) -> Floats:
        return errors(rows[train], dataclasses.replace(start, seq_s=float(x[0]) * START_S), out)

    found = least_squares(residual, [1.0], bounds=(0.0, 20.0), diff_step=[0.05], max_nfev=6, xtol=1e-3)
    profile = dataclasses.replace(start, seq_s=float(found.x[0]) * START_S)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    both = [round(float(np.abs(np.expm1(errors(rows[some], profile, out))).mean()), 4) for some in (train, ~train)]
    mean = [{"throughput": error} for error in both]
    how = "the other half, and both halves of the other back ends"
    return dataclasses.replace(profile, fit=Fit(file.name, "", today, int(train.sum()), mean[0], mean[1], how))


def errors(rows: pd.DataFrame, profile: EngineProfile, out: pathlib.Path) -> Floats:
    """Logarithms of simulated over measured throughput. The profile is tried as the file that it will be."""
    from sim.validate.offline import throughput

    write(out, dataclasses.replace(profile, fit=None))
    each: list[dict[str, Any]] = [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]
    return np.array([np.log(throughput(row, str(out)) / row["request_per_s"]) for row in each])


if __name__ == "__main__":
    sys.exit(main())
