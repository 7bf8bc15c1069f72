"""Engine profiles of stacks that were measured on offline batches: a start, a time a layer, a time a token, and how
much slower their kernels are than the calibrated ones (never faster). llama.cpp has a factor and a time a device.

vLLM's paged attention of 2024 read keys once for each query head. FlashAttention took its place on NVIDIA's; on Max
1550 a batch of 8 billion parameters and 8 heads of keys takes as long as one of 7 and 32, and on MI300X decodes of
Mixtral grow with their keys as if it had 32. There (`UNSHARED`) decode attention has a factor of its own. MI250's rows,
of a model whose seven query heads share one of keys, show no such reads.

    python -m sim.reference.batch_fit argonne_llm_inference_bench.csv.gz

writes a profile a (framework, machine) to `sim/serving/engines/`. The times are linear in the constants; their least
mean absolute relative error is a linear program. Errors are also given with a model left out at a time, with a batch
size where there is one model.
"""

import dataclasses
import datetime
import pathlib
import sys
from typing import Any

import numpy as np
from scipy.optimize import linprog

from kernels.errors import InputError
from kernels.machine import Floats
from sim.record.write import write_files
from sim.serving.engine_profile import FOLDER, load
from sim.validate._batches import LAYERS_APART, Offline, fidelity_of, file_rows, offline_of, steps_of

CONSTANTS = ("request_s", "layer_s", "token_s", "device_s", "kernel_factor", "decode_factor")
UNSHARED = (("vllm_2024", "max_1550"), ("vllm_2024", "mi300x"))
TWICE = 2.0  # decode attention that slow tells its share of a step: times are linear in it
OWN_FACTOR = ("mi300x", "mi250", "max_1550")  # their files state how much slower their kernels are


def columns(one: Offline, unshared: bool) -> list[float]:
    """What each constant is multiplied by; the last two are kernels but decode attention, and that."""
    from workloads import models

    fidelity = fidelity_of(one.where.system)
    bare = dataclasses.replace(load("none"), unshared=unshared)
    waves, size, prompt_s, token_s = steps_of(one, bare, fidelity)
    slow_prompt_s, slow_token_s = steps_of(one, dataclasses.replace(bare, decode_factor=TWICE), fidelity)[2:]
    steps, num_device = one.output_len, one.where.tp * one.where.pp
    chunks = -(-one.input_len // one.chunk) if one.chunk else 1
    every = waves * (steps - 1 + chunks)
    token = size * (one.input_len + one.output_len - 1)
    kernel_s = waves * (prompt_s + (steps - 1) * token_s)
    decode_s = (waves * (slow_prompt_s + (steps - 1) * slow_token_s) - kernel_s) / (TWICE - 1.0)
    wait = every * num_device if num_device > 1 else 0.0
    layer = every * models.load(one.where.model).num_layer
    return [1.0, layer, waves * token, wait, kernel_s - decode_s, decode_s]


def fit(table: Floats, seconds: Floats, least: Floats, most: Floats) -> Floats:
    """Constants between `least` and `most` with the least mean absolute relative error."""
    relative = table / seconds[:, None]
    scale = np.abs(relative).max(axis=0) + 1e-30
    relative = relative / scale
    count, width = table.shape
    one = np.eye(count)
    left = np.block([[relative, -one], [-relative, -one]])
    right = np.concatenate([np.ones(count), -np.ones(count)])
    cost = np.concatenate([np.zeros(width), np.ones(count)])
    bounds = [*zip(least * scale, most * scale, strict=True), *[(0.0, None)] * count]
    found = linprog(cost, left, right, bounds=bounds, method="highs")
    assert found.x is not None  # all constants at their least are allowed
    return np.asarray(found.x[:width] / scale)


def profile_of(name: str, stack: str, device: str, rows: list[tuple[Offline, float]], data: str) -> dict[str, Any]:
    """A profile's table, with its errors."""
    unshared = (stack, device) in UNSHARED
    table = np.array([columns(one, unshared) for one, _ in rows])
    seconds = np.array([measured for _, measured in rows])
    least, most = np.array([0.0, 0.0, 0.0, 0.0, 1.0]), np.array([9.9, 9.9, 9.9, 9.9, 100.0])
    if stack == LAYERS_APART:
        most[:3] = 0.0
        least[4] = 0.1
    elif device in OWN_FACTOR:
        most[4] = 1.0
    if unshared:
        least, most = np.append(least, 1.0), np.append(most, 100.0)
    else:
        table = np.column_stack([table[:, :4], table[:, 4] + table[:, 5]])
    by_model = np.array([one.where.model for one, _ in rows])
    group = by_model if len(set(by_model)) > 1 else np.array([str(one.batch * one.input_len) for one, _ in rows])
    constant = fit(table, seconds, least, most)
    error = np.abs(table @ constant / seconds - 1)
    out = np.zeros(len(rows))
    for key in set(group):
        here = group == key
        out[here] = np.abs(table[here] @ fit(table[~here], seconds[~here], least, most) / seconds[here] - 1)
    values = {key: float(f"{value:.4g}") for key, value in zip(CONSTANTS, constant, strict=False)}
    if unshared:
        values |= {"decode_factor": float(f"{constant[5] / constant[4]:.4g}"), "unshared": True}
    return {
        "title": f"{name} on {device}, offline batches",
        "source": f"fit of {', '.join(key for key, value in values.items() if value)} on {len(rows)} batches of {data}",
        "step_s": 0.0, "seq_s": 0.0, "stream_s": 0.0, **values, "stack": stack, "device": device,
        "fit": {
            "data": data, "command": "python -m sim.reference.batch_fit FILE", "num_run": len(rows),
            "date": f"{datetime.date.today()}",
            "left_out": "a model at a time" if group is by_model else "a length and batch at a time",
            "error": {"e2e": round(float(error.mean()), 4)},
            "left_out_error": {"e2e": round(float(out.mean()), 4)},
        },
    }  # fmt: skip


def main() -> None:
    """Fits and writes every profile of a file."""
    import tomli_w

    from hw_models import catalog

    path = pathlib.Path(sys.argv[1])
    frame = file_rows(path)
    if frame is None:
        raise InputError("no file of offline batches", file=path, field="columns", value="")
    kept: dict[tuple[str, str, str], list[tuple[Offline, float]]] = {}
    for record in frame.to_dict("records"):
        row = {str(key): value for key, value in record.items()}
        try:
            one = offline_of(row)
            columns(one, unshared=False)
        except InputError:
            continue
        device = catalog.system(one.where.system).device.name
        kept.setdefault((str(row["framework"]), one.stack, device), []).append((one, float(row["latency_s"])))
    for (name, stack, device), rows in sorted(kept.items()):
        made = profile_of(name, stack, device, rows, path.name)
        write_files({FOLDER / f"{stack}_{device}.toml": tomli_w.dumps(made).encode()})


if __name__ == "__main__":
    main()
