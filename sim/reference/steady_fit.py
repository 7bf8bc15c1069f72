"""What vLLM 0.11 spends beside its kernels, on steady loads whose step time was measured: seconds a sequence (samplers,
input kernels), and a layer of block-scaled experts.

    python -m sim.reference.steady_fit DATA --out sim/serving/engines/vllm_0.11.toml  # DATA: a folder with power/

Block-scaled experts ran another kernel than the calibrated one (rows are aligned to full tiles, quantised twice and
gathered): Qwen3-235B in fp8 decodes eight sequences on eight H100 in 25 ms, and in bf16, twice the bytes, in 20.
Times are linear in both constants, their least mean absolute relative error is a linear program, and errors are also
given with a model left out. Only one model has such experts, so that the second constant is never checked on another.
"""

import argparse
import dataclasses
import datetime
import pathlib
import sys
from typing import Any

import numpy as np
import pandas as pd

from kernels.errors import InputError
from sim.reference.batch_fit import fit
from sim.reference.engine_fit import write
from sim.serving.engine_profile import EngineProfile, Fit, load
from sim.validate._power_rows import deployment
from sim.validate._steady import steady
from workloads import models

FILES = ("ml_energy_llm.csv", "ml_energy_multimodal.csv")
LEAST, MOST = np.array([0.0, 0.0, 1.0]), np.array([1e-3, 1e-3, 1.0])  # the kernels are as priced


def rows_of(folder: pathlib.Path, profile: EngineProfile) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What each constant and the rest are multiplied by (a row a load), measured seconds of a step, and models."""
    bare = dataclasses.replace(profile, seq_s=0.0, block_expert_s=0.0)
    table, seconds, names = [], [], []
    for file in FILES:
        for record in pd.read_csv(folder / file).to_dict("records"):
            row: dict[str, Any] = {str(key): value for key, value in record.items()}
            try:
                where, replicas = deployment(row, row["model"], row["gpu"], row["num_gpu"])
                batch, output = row["batch_mean"] / replicas, row["output_len_mean"]
                rest_s, _ = steady(where, bare, batch, output, row["task"])
            except InputError:
                continue
            blocks = models.load(where.model).num_block()
            layer = sum(count for block, count in blocks.items() if block.ffn.num_expert)
            count = max(1, round(batch))
            table.append([count * (1 + 1 / output), layer * (where.weight_format == "fp8_block"), rest_s])
            seconds.append(row["batch_mean"] / row["output_tok_per_s"])
            names.append(where.model)
    return np.array(table), np.array(seconds), np.array(names)


def fitted(folder: pathlib.Path, profile: EngineProfile) -> EngineProfile:
    """The profile with both constants found, and its errors."""
    table, seconds, names = rows_of(folder, profile)
    constant = fit(table, seconds, LEAST, MOST)
    error = np.abs(table @ constant / seconds - 1)
    out = np.zeros(len(seconds))
    for name in sorted(set(names)):
        here = names == name
        out[here] = np.abs(table[here] @ fit(table[~here], seconds[~here], LEAST, MOST) / seconds[here] - 1)
    told = Fit(
        data=" and ".join(FILES), command="python -m sim.reference.steady_fit DATA --out FILE",
        date=f"{datetime.date.today()}", num_run=len(seconds), error={"step": round(float(error.mean()), 4)},
        left_out_error={"step": round(float(out.mean()), 4)},
    )  # fmt: skip
    seq_s, block_expert_s = (float(f"{value:.3g}") for value in constant[:2])
    source = (
        f"fit of seq_s, block_expert_s on {len(seconds)} steady loads of {' and '.join(FILES)}, with prompt lengths of"
        " their five tasks (sim/validate/_steady.py); step_s as vLLM 0.15; scheduler as 0.15: its own was not driven"
    )
    return dataclasses.replace(profile, source=source, fit=told, seq_s=seq_s, block_expert_s=block_expert_s)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sim.reference.steady_fit", description="fit on steady loads")
    parser.add_argument("folder", metavar="DATA", help="a folder with power/")
    parser.add_argument("--out", required=True, metavar="TOML", help="where the fitted profile goes")
    given = parser.parse_args(words)
    write(pathlib.Path(given.out), fitted(pathlib.Path(given.folder) / "power", load("vllm_0.11")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
