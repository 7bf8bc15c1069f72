"""`ridgeline validate serving FILE`: measured load tests of a serving engine against their simulation.

A run is one engine under one load or several, one after another (stages); a row is a stage. Requests come at a
constant rate; prompts are a system prompt and a question, drawn from few distinct ones that repeat; a file with one
question a system prompt is taken to ask a new one each time (`hw_models/calibration/anatomy.md` says why). Clients give
up after a deadline (column `timeout_s`, else 300 s). A stage where more than a twentieth of the requests failed, or
that served less than nine tenths of what was asked, is overloaded: there only the throughput means something. A file
of prompt and token times goes to `ridgeline validate steps`, one of batches to `ridgeline validate offline`.
"""

import argparse
import math
import pathlib
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hw_models.calibration.odd_rows import OddRows

HELP = "measured load tests of a serving engine (TTFT, end-to-end, throughput) against their simulation"

COLUMNS = (
    "run", "gpu", "model", "tp", "max_num_seqs", "max_num_batched_tokens", "max_model_len", "stage", "request_per_s",
    "duration_s", "num_system_prompt", "num_user_per_system_prompt", "system_prompt_len", "question_len", "output_len",
)  # fmt: skip
ALIASES = {  # other names of columns; case does not matter
    "gpu": ("system", "hardware", "device"),
    "model": ("model_id", "model_path"),
    "tp": ("tensor_parallel", "tp_size"),
    "pp": ("pipeline_parallel", "pp_size"),
    "dp": ("data_parallel", "dp_size"),
    "ep": ("expert_parallel", "ep_size"),
    "request_per_s": ("request_rate", "rate", "rps", "qps"),
    "duration_s": ("duration",),
    "output_len": ("osl", "output_length"),
}
OPTIONAL = {"pp": 1, "dp": 1, "ep": 1}  # columns that a file may leave out
POSITIVE = (
    "tp", "pp", "dp", "ep", "request_per_s", "duration_s", "output_len", "max_num_seqs", "max_num_batched_tokens",
    "max_model_len", "num_system_prompt", "num_user_per_system_prompt", "measured_prompt_len_mean", "timeout_s",
)  # fmt: skip
OR_ZERO = ("stage", "system_prompt_len", "question_len", "completed", "failed")
OVERLOAD = 0.05  # share of failed requests
BEHIND = 0.9  # share of the rate asked for
TIMEOUT_S = (
    300.0  # in the overloaded runs that are published no answer took longer, and the 99th percentiles come close
)
BLANK = {"timeout_s": TIMEOUT_S, "tp": 1.0, "pp": 1.0, "dp": 1.0, "ep": 1.0}  # what an empty cell means
MOST = 1e7  # of a count, a length or a time
MOST_REQUEST = 1e6  # of a stage
VLLM = "vllm_0.15"
STATISTICS = ("mean", "median", "p90", "p99")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="CSV of load tests")
    parser.add_argument("--engine", help="engine profile (default: vllm_0.15, or that of the file's own verb)")
    parser.add_argument("--json", metavar="OUT", help="write the rows")


def run(arguments: argparse.Namespace) -> int:
    from sim.validate._rows import finish

    kind = kind_of(pathlib.Path(arguments.file))
    if kind == "steps":
        from sim.validate import steps

        rows, reasons = steps.validate_steps(arguments.file, arguments.engine or steps.ENGINE)
    elif kind == "offline":
        from sim.validate import offline

        rows, reasons = offline.validate_offline(arguments.file, arguments.engine or offline.ENGINE)
    else:
        rows, reasons = validate_serving(arguments.file, arguments.engine or VLLM)
    return finish(rows, arguments.json, reasons)


def kind_of(path: pathlib.Path) -> str:
    """Which verb a file is of, by its columns: `steps` (batches and their phases), `offline`, else `serving`."""
    from hw_models.calibration.measured import read_frame
    from sim.validate import offline, steps

    columns = {str(name).lower() for name in read_frame(path).columns}
    if "stage" in columns:
        return "serving"
    if columns & set(offline.ALIASES["backend"]) and columns & set(offline.ALIASES["prefix_len"]):
        return "offline"
    timed = any(columns & set(steps.ALIASES[name]) for name in ("prompt_s", "token_s", "step_s"))
    return "steps" if timed else "serving"


def validate_serving(file: str | pathlib.Path, engine: str = VLLM) -> tuple[list[dict[str, Any]], Counter[str]]:
    """A row a metric (`format`: its statistic) and run, then totals over the runs that are not overloaded, and over
    the overloaded ones (`size_class`); and why rows were not simulated. Fits nothing."""
    import numpy as np
    import pandas as pd

    from hw_models.calibration.odd_rows import OddRows
    from kernels.errors import InputError
    from sim.validate._light import note_slow
    from sim.validate._rows import error_row

    odd = OddRows(pathlib.Path(file))
    frame = read(odd.file, odd)
    good = odd.stands(len(frame))
    note_implausible(frame, odd)
    good &= odd.stands(len(frame))
    reasons: Counter[str] = Counter()
    parts = [frame[~good].assign(overloaded=False)]
    for _, stages in frame[good].groupby("run", sort=False):
        try:
            parts.append(simulate_run(stages, engine))
        except InputError as error:
            reasons[str(error)] += len(stages)
            parts.append(stages.assign(overloaded=overloaded(stages)))
            continue
        for index, row in parts[-1][~parts[-1]["overloaded"]].iterrows():
            for name in ("e2e_mean_s", "tpot_mean_s"):
                if note_slow(odd, int(index), name, row.get(name, np.nan), row[f"simulated_{name}"]):
                    parts[-1] = parts[-1].drop(index=index)
                    parts.append(frame.loc[[index]].assign(overloaded=False))
                    break
    odd.stands(len(frame))
    odd.count(reasons)
    both = pd.concat(parts, ignore_index=True)
    rows = []
    metrics = [
        (f"{name}_{statistic}_s", name, statistic) for name in ("ttft", "e2e", "tpot") for statistic in STATISTICS
    ]
    metrics.append(("request_throughput_per_s", "throughput", "mean"))
    for run_name in [*dict.fromkeys(both["run"]), "all"]:
        of_run = both if run_name == "all" else both[both["run"] == run_name]
        for state in ("served", "overloaded"):
            some = of_run[of_run["overloaded"] == (state == "overloaded")]
            for column, name, statistic in metrics:
                if not len(some) or column not in some or (state == "overloaded" and name != "throughput"):
                    continue
                simulated = f"simulated_{column}"
                ran = some.dropna(subset=[column, simulated]) if simulated in some else some.iloc[:0]
                ours, theirs = (ran[simulated].tolist(), ran[column].tolist()) if len(ran) else ([], [])
                count, gpu = int(some[column].notna().sum()), str(some["gpu"].iloc[0])
                tags = {"number_format": statistic, "size_class": state}
                rows.append(error_row(name, str(run_name), gpu, ours, theirs, count, **tags))
    reasons["overloaded: of its times none is compared, its throughput is"] += int(both["overloaded"].sum())
    for column, name, statistic in metrics:
        if statistic != "mean" or column not in both:
            continue
        meant = both if name == "throughput" else both[~both["overloaded"]]
        pairs = meant.reindex(columns=[f"simulated_{column}", column]).dropna()
        tags = {"number_format": "all", "size_class": "all"}
        given = int(both[column].notna().sum())
        rows.append(error_row(name, "all", "all", pairs.iloc[:, 0].tolist(), pairs.iloc[:, 1].tolist(), given, **tags))
    return rows, +reasons


def read(path: pathlib.Path, odd: "OddRows | None" = None) -> Any:
    """The file, checked; `tpot_mean_s` is derived where first token and end are given. Values that are amiss are
    `odd`, or an `InputError` where there is no such to note them."""
    from hw_models.calibration.measured import read_frame
    from hw_models.calibration.odd_rows import OddRows
    from kernels.errors import InputError

    timed = [f"{name}_{statistic}_s" for name in ("ttft", "e2e", "tpot") for statistic in STATISTICS]
    frame = read_frame(path, (*timed, "duration_s", "timeout_s"))
    noted = OddRows(path) if odd is None else odd
    lower = {str(name).lower(): name for name in frame.columns}
    ours = {lower[name]: name for name in (*COLUMNS, *OPTIONAL) if name in lower}
    for name, others in ALIASES.items():
        found = next((lower[other] for other in others if other in lower), None)
        if name not in lower and found is not None:
            ours[found] = name
    frame = frame.rename(columns=ours)
    for name in COLUMNS:
        if name not in frame.columns:
            raise InputError("column is missing", file=path, field=name, value="", allowed=COLUMNS)
    for name in ("run", "gpu", "model"):
        frame[name] = noted.text(frame, name)
    for name in (name for name in POSITIVE if name in frame.columns):
        frame[name] = noted.number(frame, name, positive=True, most=MOST, blank=BLANK.get(name))
    for name in (name for name in OR_ZERO if name in frame.columns):
        frame[name] = noted.number(frame, name, most=MOST)
    asked = frame["request_per_s"] * frame["duration_s"]
    many = "more requests than a run is asked for"
    noted.note(asked > MOST_REQUEST, many, "duration_s", frame["duration_s"].to_list(), f"{MOST_REQUEST:,.0f} requests")
    for name in frame.columns:
        if name.startswith(("ttft_", "e2e_", "request_throughput")):
            frame[name] = noted.number(frame, name, positive=True, most=MOST, blank=math.nan)
    if odd is None:
        noted.check()
    if {"ttft_mean_s", "e2e_mean_s"} <= set(frame.columns):
        several = (frame["output_len"] - 1).where(frame["output_len"] > 1)  # one token has no time after it
        frame["tpot_mean_s"] = (frame["e2e_mean_s"] - frame["ttft_mean_s"]) / several
    return frame


def note_implausible(frame: Any, odd: "OddRows") -> None:
    """Notes rows whose first token comes after their end, or that beat the speed of light tenfold: a token each step at
    best, the prompt found in the cache."""
    from kernels.errors import InputError
    from sim.validate._light import light_s, note_light
    from sim.validate._published_names import known_format

    for index, row in enumerate(frame.to_dict("records")):
        if index in odd.reason:
            continue
        sizes = {name: int(row.get(name, 1)) for name in ("tp", *OPTIONAL)}
        num_device = max(sizes["tp"] * sizes["dp"], sizes["ep"]) * sizes["pp"]
        stored = known_format(str(row.get("weight_format", "")), str(row["model"]))
        try:
            _, step_s = light_s(str(row["model"]), str(row["gpu"]), num_device, 1, stored)
        except InputError:
            step_s = 0.0  # counted when it comes to run
        for statistic in STATISTICS:
            first, end = f"ttft_{statistic}_s", f"e2e_{statistic}_s"
            if first in row and end in row and row[first] > row[end]:
                why = "the first token comes after the end"
                most = f"at most {row[end]:g}"
                error = InputError(why, file=odd.file, line=index + 2, field=first, value=row[first], allowed=most)
                odd.add(index, f"{first}: {why}", error)
            for name, num_step in ((first, 1.0), (end, float(row["output_len"]))):
                if name in row:
                    note_light(odd, index, name, row[name], step_s * num_step)


def overloaded(stages: Any) -> Any:
    """Which stages failed more than a twentieth of their requests, or fell behind the rate asked for."""
    late = stages["stage"] < 0
    if {"completed", "failed"} <= set(stages.columns):
        late = late | (stages["failed"] > OVERLOAD * (stages["completed"] + stages["failed"]))
    if "request_throughput_per_s" in stages.columns:
        late = late | (stages["request_throughput_per_s"] < BEHIND * stages["request_per_s"])
    return late


def scenario_of(stages: Any, engine: str) -> Any:
    """The scenario of a run; its load holds the stages in order."""
    from sim.run.scenario import from_mapping
    from sim.validate._published_names import known_format, known_model, known_system

    first = stages.sort_values("stage").iloc[0]
    prompt = float(first.get("measured_prompt_len_mean", first["system_prompt_len"] + first["question_len"]))
    question = max(1, round(prompt - first["system_prompt_len"]))
    num_user = int(first["num_user_per_system_prompt"])
    spans = "+".join(f"{row.request_per_s:g}:{row.duration_s:g}" for row in stages.sort_values("stage").itertuples())
    load = (
        f"staged:stages={spans},cv=0,prompt={question},output={int(first['output_len'])},"
        f"num_system_prompt={int(first['num_system_prompt'])},system_prompt_len={int(first['system_prompt_len'])}"
        + (f",num_user_per_system_prompt={num_user}" if num_user > 1 else "")
    )
    policy = f"vllm_v1:max_token={int(first['max_num_batched_tokens'])},max_seq={int(first['max_num_seqs'])}"
    return from_mapping(
        {
            "model": known_model(str(first["model"])),
            "system": known_system(str(first["gpu"])),
            **{name: int(first.get(name, one)) for name, one in {"tp": 1, **OPTIONAL}.items()},
            "policy": policy,
            "max_model_len": int(first["max_model_len"]),
            "requests": load,
            "engine": engine,
            "timeout_s": float(first.get("timeout_s", TIMEOUT_S)),
            "weight_format": known_format(str(first.get("weight_format", "")), str(first["model"])),
            "kv_format": known_format(str(first.get("kv_format", "")), ""),
        }
    )


def simulate_run(stages: Any, engine: str) -> Any:
    """The stages with `overloaded` and a `simulated_` column for each metric."""
    import numpy as np

    from sim.run.simulate import simulate

    done = simulate(scenario_of(stages, engine))
    requests = done.run.requests
    stages = stages.sort_values("stage").assign(overloaded=overloaded(stages))
    start = 0.0
    for index, stage in stages.iterrows():
        stop = start + float(stage["duration_s"])
        some = requests[(requests["arrival_s"] >= start) & (requests["arrival_s"] < stop)]
        finished = some[some["status"] == "finished"]
        tpot: Any = (
            (finished["e2e_s"] - finished["ttft_s"]) / np.maximum(finished["committed_token"] - 1, 1)
        ).to_numpy()
        for name, values in (("ttft", finished["ttft_s"]), ("e2e", finished["e2e_s"]), ("tpot", tpot)):
            numbers = (np.mean(values), *np.percentile(values, [50, 90, 99])) if len(finished) else (np.nan,) * 4
            for statistic, value in zip(STATISTICS, numbers, strict=True):
                stages.loc[index, f"simulated_{name}_{statistic}_s"] = value
        if len(finished):
            span = float(some["finish_s"].max()) - start  # those that gave up are waited for too
            stages.loc[index, "simulated_request_throughput_per_s"] = len(finished) / span
        start = stop
    return stages
