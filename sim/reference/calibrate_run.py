"""`calibrate` as a function: probes and fit of the reference device, then the host time of its serving loop.

Whole steps of a small model are run as well. What they take beyond the sum of their operators, each measured alone, is
the loop's own time, a step, a layer, a sequence and a token, and goes into the same file under `[engine]`.
"""

import dataclasses
import math
import pathlib
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import nnls

from hw_models.device import cost
from kernels.errors import InputError
from kernels.optable import KINDS, OpTable, WorkTable
from sim.record.export import table_bytes, write_json
from sim.record.write import check_folder, check_output, write_files
from workloads.formats import PARTS, Formats
from workloads.lowering import Plan, lower_step
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec
from workloads.placement import Placement

STEP_SHARE = 0.2  # of the budget: whole steps and their operators
PROBE = ModelSpec(  # small enough to be built in a second, with every operator of a dense model
    "probe", "probe", 512, 8192, 4096, (Block(Attention(8, 4, 64, 64, rope_dim=64), FeedForward(1536)),), (0,) * 2
)
DEPTHS = (2, 8)  # layers: two, to tell a layer's share from a step's
HOST = ("step_s", "layer_s", "seq_s", "token_s", "prefill_s")
NUM_OPERATOR = 160  # different ones of all steps, about
MIN_STEP = 3  # shapes of each depth, to tell a step, a layer and a sequence apart
MAX_GRAPH = 256  # tokens of the largest captured step
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
STEPS: tuple[tuple[tuple[int, int], ...], ...] = (  # (new tokens, keys) of each sequence
    ((1, 100),), ((1, 100),) * 4, ((1, 200),) * 16, ((1, 60),) * 32, ((64, 64),), ((256, 256),), ((128, 300),),
    ((64, 64), *((1, 150),) * 8), ((1, 400),) * 8, ((1, 120),) * 24, ((200, 200), *((1, 200),) * 16), ((32, 32),) * 2,
)  # fmt: skip
MAX_BUDGET_S = 86400.0
UNITS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}


def to_seconds(text: str) -> float:
    """A duration as written on the command line.

    >>> to_seconds("90s"), to_seconds("3min"), to_seconds("45")
    (90.0, 180.0, 45.0)
    >>> to_seconds("soon")
    Traceback (most recent call last):
    ...
    kernels.errors.InputError: budget = 'soon': not a time; allowed: a number and s, min or h, such as 180s
    """
    digits = text.strip().rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text.strip()[len(digits) :] or "s"
    try:
        seconds = float(digits) * UNITS[unit]
    except (ValueError, KeyError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise InputError("not a time", field="budget", value=text, allowed="a number and s, min or h, such as 180s")
    if not 1.0 <= seconds <= MAX_BUDGET_S:
        raise InputError("out of range", field="budget", value=text, allowed="1s to 24h")
    return seconds


def execute(
    device: str,
    out: str | pathlib.Path,
    *,
    budget_s: float = 180.0,
    formats: tuple[str, ...] = (),
    seed: int = 0,
    probes: str | pathlib.Path | None = None,
    json: str | None = None,
    quiet: bool = False,
) -> str:
    """Calibrate `device` ("cpu" or "cuda"), write the file (and the raw probes), and return the summary.

    An interrupt ends the probing; what was measured until then is fitted and written.
    """
    file = pathlib.Path(out)
    if file.suffix != ".toml":
        raise InputError("a machine is named by a .toml file", field="--out", value=str(out), allowed="FILE.toml")
    check_folder(file.parent, "out")
    if file.exists():
        check_output(file, "out")
    if probes:
        check_folder(probes, "probes")
    from hw_models.reference import require_torch

    require_torch()
    from hw_models.reference.calibrate import calibrate, summary

    show_progress = _progress(quiet)
    command = f"ridgeline calibrate --device {device} --budget {budget_s:g}s --seed {seed}"
    if formats:
        command += f" --formats {','.join(formats)}"
    found = calibrate(device, budget_s, formats, seed, command, show_progress, STEP_SHARE)
    steps, engine = measure_steps(found, STEP_SHARE * budget_s)
    show_progress("", 0)
    files = {file: found.file_bytes(**({"engine": engine} if engine else {}))}
    if probes:  # a CSV a kind, with the columns of the measured operator files
        raw = {**found.probes, "step": steps}
        files |= {pathlib.Path(probes) / f"{kind}.csv": table_bytes(frame) for kind, frame in raw.items()}
    write_files(files)
    if json:
        result = {"device": found.environment.name, "relative": found.relative, "errors": found.errors}
        write_json({**result, "kernels": found.fitted.error, "steps": steps, "engine": engine}, json)
    miss = (steps["simulated_s"] / steps["measured_s"] - 1).abs().mean()
    steps_text = f"{100 * miss:.1f} % ({len(steps)} shapes)" if len(steps) else "not measured"
    return f"{summary(found)}\n\nwhole steps of small models: {steps_text}\nwrote {file}"


def _progress(quiet: bool) -> Any:
    done: dict[str, int] = {}

    def report(what: str, count: int) -> None:
        if quiet or not sys.stderr.isatty():
            return
        done[what] = count
        line = ", ".join(f"{name} {number}" for name, number in done.items()) if what else ""
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)

    return report


def measure_steps(found: Any, budget_s: float) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Whole steps of small models (columns `num_layer, num_seq, num_token, num_prefill`): measured seconds of their
    operators and of the steps (`operator_s, measured_s`), priced ones (`priced_s, simulated_s`), and the engine profile
    that explains what the measured operators do not."""
    from hw_models.reference.device import ReferenceDevice
    from hw_models.reference.model import build_model, graph_batches

    kind = found.environment.device
    fmt = next(name for name in ("bf16", "fp16", "fp32") if name in {kernel.format for kernel in found.fitted.kernel})
    captured = graph_batches(kind, max(len(shape) for shape in STEPS))
    machine = found.machine()
    alone = ReferenceDevice(kind, budget_s / (2 * NUM_OPERATOR), 3)
    rows = []
    end = time.perf_counter() + budget_s
    try:
        for num_layer in DEPTHS:
            spec = dataclasses.replace(PROBE, layer=(0,) * num_layer)
            model = build_model(spec, kind, fmt, 1024, 16, captured)
            for number, shape in enumerate(STEPS):
                if number >= MIN_STEP and time.perf_counter() > end:
                    break  # of each depth a few, whatever the budget
                took_s = _measured_s(model, shape, budget_s / len(STEPS) / len(DEPTHS) / 2)
                ops, work = _operators(spec, shape, fmt)
                num_token = sum(query_len for query_len, _ in shape)
                num_prefill = sum(query_len > 1 for query_len, _ in shape)
                priced_s = float(cost(ops, work, machine)["time_ps"].sum()) * 1e-12
                operator_s = _alone_s(alone, ops, work)
                rows.append((num_layer, len(shape), num_token, num_prefill, operator_s, priced_s, took_s))
    except KeyboardInterrupt:  # the probes are measured: what steps there are must do
        pass
    columns = ["num_layer", "num_seq", "num_token", "num_prefill", "operator_s", "priced_s", "measured_s"]
    frame = pd.DataFrame(rows, columns=columns)
    if frame.empty:
        return frame.assign(simulated_s=0.0), {}
    # launches run ahead of a GPU alone, where no graph holds them; a CPU computes in the call
    eager = (frame["num_prefill"] > 0).to_numpy() & (kind == "cuda")
    host, _ = fit_host(frame, eager)
    frame["simulated_s"] = step_s(frame, frame["priced_s"].to_numpy(float), eager, host)
    return frame, {
        "title": f"reference loop on {found.environment.name}",
        "source": f"{found.profile.source}: {len(frame)} steps of models of {DEPTHS[0]} and {DEPTHS[1]} layers of "
        f"width {PROBE.hidden}, in {fmt}, less their operators, measured alone",
        **{name: float(f"{value:.4g}") for name, value in host.items()},
        "request_s": 0.0,
        "stream_s": 0.0,
        "captured": graph_batches(kind, MAX_GRAPH),
    }


def fit_host(frame: pd.DataFrame, eager: Flags) -> tuple[dict[str, float], Floats]:
    """Host seconds by field of the engine profile, and the seconds of each step that they and its operators give.

    Terms are not negative and least in the squared relative error; a step that is `eager` lasts no shorter than the
    launches of its layers, whose time is tried on a grid.
    """
    measured_s, operator_s = frame["measured_s"].to_numpy(float), frame["operator_s"].to_numpy(float)
    terms = _terms(frame)
    best_miss, best = math.inf, (0.0, np.zeros(len(HOST)))
    for dispatch_s in (0.0, *np.geomspace(1e-6, 1e-2, 161)) if eager.any() else (0.0,):
        device_s = np.maximum(operator_s, eager * frame["num_layer"].to_numpy(float) * dispatch_s)
        host, miss = nnls(terms / measured_s[:, None], np.maximum(measured_s - device_s, 0.0) / measured_s)
        over = np.maximum(device_s - measured_s, 0.0) / measured_s  # what no added term can mend
        if (total := miss**2 + float(over @ over)) < best_miss:
            best_miss, best = total, (float(dispatch_s), host)
    found = {**dict(zip(HOST, best[1].tolist(), strict=True)), "dispatch_layer_s": best[0]}
    return found, step_s(frame, operator_s, eager, found)


def step_s(frame: pd.DataFrame, operator_s: Floats, eager: Flags, host: dict[str, float]) -> Floats:
    """Seconds of each step whose operators take `operator_s`, with these host times."""
    device_s = np.maximum(operator_s, eager * frame["num_layer"].to_numpy(float) * host["dispatch_layer_s"])
    return np.asarray(device_s + _terms(frame) @ np.array([host[name] for name in HOST]))


def _terms(frame: pd.DataFrame) -> Floats:
    """What each of `HOST` is multiplied by, a row a step."""
    counts = frame.assign(step=1, prefill=frame["num_prefill"] > 0)
    return counts[["step", "num_layer", "num_seq", "num_token", "prefill"]].to_numpy(float)


def _operators(spec: ModelSpec, shape: tuple[tuple[int, int], ...], fmt: str) -> tuple[OpTable, WorkTable]:
    """The operators of a step of `spec`."""
    query_len, kv_len = (np.array(column) for column in zip(*shape, strict=True))
    plan = Plan(query_len, kv_len, query_len == 1, np.ones(len(shape), bool))
    names: dict[str, Any] = dict.fromkeys(PARTS, fmt)
    return lower_step(spec, Formats(**names), Placement(), 0, plan)


def _alone_s(device: Any, ops: OpTable, work: WorkTable) -> float:
    """Seconds of all operators by the kernels that the model runs, each measured alone."""
    from hw_models.reference.probe import MODEL_KERNEL

    total_s = 0.0
    for op in ops:
        rows = work[op["work_start"] : op["work_stop"]]
        timing = device.measure(op, rows, MODEL_KERNEL.get(KINDS[op["kind"]], "")).timing
        total_s += timing.median_s * int(op["count"])
    return total_s


def _measured_s(model: Any, shape: tuple[tuple[int, int], ...], budget_s: float) -> float:
    """Median seconds of a step, of three repeats at least, with weights in memory, as those of a larger model are."""
    from hw_models.reference.candidate import cool
    from hw_models.reference.model import Span

    per_seq = -(-max(kv for _, kv in shape) // 16)
    spans = [Span(q, kv, range(i * per_seq, (i + 1) * per_seq)) for i, (q, kv) in enumerate(shape)]
    model.step(spans)
    samples: list[float] = []
    end = time.perf_counter() + budget_s
    while len(samples) < 3 or (time.perf_counter() < end and len(samples) < 50):
        cool(model.device)
        samples.append(model.step(spans)[1])
    return float(np.median(samples))
