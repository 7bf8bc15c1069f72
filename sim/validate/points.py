"""`ridgeline validate points FILE`: steady-state serving points (a concurrency, TTFT, TPOT) against their simulation.

A row names a model, a system, a placement, input and output lengths, a concurrency and formats, and what was
measured. It is simulated as a closed loop: that many users, each asking again as soon as it is answered; the first
and the last round are left out. Columns go by the names in `ALIASES`.
"""

import argparse
import pathlib
from collections import Counter
from typing import Any

HELP = "steady-state serving points (TTFT, TPOT at a concurrency) against their simulation"

ALIASES: dict[str, tuple[str, ...]] = {
    "model": ("model", "model_id", "model_path"),
    "system": ("system", "gpu", "hardware", "device"),
    "tp": ("tp", "tensor_parallel", "tp_size"),
    "pp": ("pp", "pipeline_parallel", "pp_size"),
    "dp": ("dp", "data_parallel", "dp_size"),
    "ep": ("ep", "expert_parallel", "ep_size"),
    "input_len": ("input_len", "isl", "input_length", "prompt_len", "prompt_token"),
    "output_len": ("output_len", "osl", "output_length", "output_token"),
    "concurrency": ("concurrency", "max_concurrency", "batch", "batch_size", "users"),
    "weight_format": ("weight_format", "format", "weights", "quantization", "gemm_dtype", "dtype"),
    "kv_format": ("kv_format", "kv_dtype", "kv_cache_dtype"),
    "ttft_s": ("ttft_s", "ttft_ms", "ttft", "mean_ttft_ms", "median_ttft_ms"),
    "tpot_s": ("tpot_s", "tpot_ms", "tpot", "mean_tpot_ms", "median_tpot_ms"),
}
NEEDED = ("model", "system", "input_len", "output_len", "concurrency")
ROUNDS = 6  # requests a user: the first and the last are not counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="CSV of points")
    parser.add_argument("--engine", default="vllm_0.15", help="engine profile (default: vllm_0.15)")
    parser.add_argument("--json", metavar="OUT", help="write the rows")


def run(arguments: argparse.Namespace) -> int:
    from sim.validation_rows import report

    rows, reasons = validate_points(arguments.file, arguments.engine)
    print(report(rows, arguments.json))
    for reason, count in reasons.most_common():
        print(f"not simulated: {count} rows: {reason}")
    return 0


def validate_points(file: str | pathlib.Path, engine: str = "vllm_0.15") -> tuple[list[dict[str, Any]], Counter[str]]:
    """A row of error for TTFT and for TPOT by system and model (`kernel`), and in all. Fits nothing."""
    import numpy as np

    from kernels.errors import InputError
    from sim.validation_rows import error_row

    frame = read(pathlib.Path(file))
    reasons: Counter[str] = Counter()
    found = {"ttft_s": np.full(len(frame), np.nan), "tpot_s": np.full(len(frame), np.nan)}
    for index, row in enumerate(frame.to_dict("records")):
        try:
            found["ttft_s"][index], found["tpot_s"][index] = simulate_point(row, engine)
        except InputError as error:
            reasons[str(error)] += 1
    rows = []
    groups = [("all", "all", np.ones(len(frame), bool))]
    for system, model in sorted(set(zip(frame["system"], frame["model"], strict=True))):
        groups.append((system, model, ((frame["system"] == system) & (frame["model"] == model)).to_numpy()))
    for system, model, chosen in groups:
        for metric in ("ttft_s", "tpot_s"):
            if metric not in frame:
                continue
            measured = frame[metric].to_numpy(float)
            given = chosen & np.isfinite(measured)
            ran = given & np.isfinite(found[metric])
            pair = found[metric][ran].tolist(), measured[ran].tolist()
            rows.append(error_row(metric.removesuffix("_s"), str(model), str(system), *pair, int(given.sum())))
    return rows, reasons


def read(path: pathlib.Path) -> Any:
    """The file with our column names, times in seconds; an `InputError` where a column or a value is amiss."""
    from hw_models.calibration.measured import number, read_frame
    from kernels.errors import InputError

    raw = read_frame(path)
    lower = {str(name).lower(): name for name in raw.columns}
    frame = raw.iloc[:, :0].copy()
    for name, aliases in ALIASES.items():
        source = next((lower[alias] for alias in aliases if alias in lower), None)
        if source is None:
            if name in NEEDED:
                raise InputError("column is missing", file=path, field=name, value="", allowed=aliases)
            continue
        if name in ("model", "system", "weight_format", "kv_format"):
            frame[name] = raw[source].astype(str)
            continue
        values = number(raw, str(source), path, positive=True)
        milliseconds = name.endswith("_s") and not str(source).lower().endswith("_s")
        frame[name] = values * 1e-3 if milliseconds else values
    if not {"ttft_s", "tpot_s"} & set(frame.columns):
        raise InputError("nothing was measured", file=path, field="ttft_s", value="", allowed=ALIASES["ttft_s"])
    return frame


def simulate_point(row: dict[str, Any], engine: str) -> tuple[float, float]:
    """Mean TTFT and TPOT (seconds) of the steady rounds of one point."""
    from kernels.errors import InputError
    from sim.scenario import from_mapping
    from sim.simulate import simulate
    from sim.validate.serving import known_model

    users = int(row["concurrency"])
    load = (
        f"closed_loop:users={users},n={users * ROUNDS},prompt={int(row['input_len'])},output={int(row['output_len'])}"
    )
    given: dict[str, Any] = {name: int(row[name]) for name in ("tp", "pp", "dp", "ep") if name in row}
    given |= {name: str(row[name]) for name in ("weight_format", "kv_format") if name in row}
    policy = f"vllm_v1:max_token=8192,max_seq={max(256, users)}"
    scenario = from_mapping(
        {
            "model": known_model(str(row["model"])),
            "system": str(row["system"]),
            "requests": load,
            "policy": policy,
            "engine": engine,
            "router": "least_outstanding",
            **given,
        }
    )
    requests = simulate(scenario).run.requests
    steady = requests.sort_values("arrival_s").iloc[users : users * (ROUNDS - 1)]
    done = steady[steady["status"] == "finished"]
    if not len(done):
        why = steady["reason"].iloc[0] or "unfinished"
        raise InputError(f"no request is served: {why}", field="input_len", value=int(row["input_len"]))
    return float(done["ttft_s"].mean()), float(done["tpot_s"].mean())
