"""`ridgeline validate offline FILE`: throughput of a batch of requests that share a prefix, against its simulation.

A row is a number of requests, all there from the start, each a shared prefix and tokens of its own, and the requests a
second that a back end served: `vllm` (every request for itself), `vllm+pc` (the prefix cached: its KV held once, its
prefill done once) or `vllm+` (the prefix attended to by all requests together as well: RelayAttention). A file of
**plain batches** (so many prompts of one length, answers of one length, and the seconds of the whole) is compared by
`sim.validate._batches`, each framework with its own profile of the machine. A file without
lengths but with tokens a second is of conversations: lengths of that mean, spread as those of ShareGPT are.
"""

import argparse
import pathlib
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hw_models.calibration.odd_rows import OddRows

HELP = "throughput of batches with a shared prefix (offline inference) against their simulation"

ALIASES: dict[str, tuple[str, ...]] = {
    "model": ("model", "model_id", "model_path"),
    "system": ("system", "gpu", "hardware", "device"),
    "tp": ("tp", "tensor_parallel", "tp_size"),
    "backend": ("backend", "engine"),
    "num_request": ("num_request", "nreqs", "num_prompts"),
    "prefix_len": ("prefix_len", "prefixlen", "system_prompt_len"),
    "own_len": ("own_len", "ctxlen", "prompt_len", "input_len"),
    "output_len": ("output_len", "outlen"),
    "prompt_and_output_token_per_s": ("process_tok_per_sec", "total_token_throughput"),
    "output_token_per_s": ("generate_tok_per_sec", "output_throughput"),
    "request_per_s": ("request_per_s", "req_per_sec", "request_throughput"),
}
NEEDED = ("backend", "num_request", "prefix_len", "request_per_s")
MOST = 1e6  # of requests, tokens of one, devices, or requests a second: what a run can be asked for
BACKENDS = {"vllm": "alone", "vllm+pc": "cached", "vllm+": "together"}
GIVEN = {"model": "llama-2-7b", "system": "a100_sxm_80gb", "tp": 1}  # where neither file nor command says
POLICY = "vllm_v0:max_token=4096,max_seq=256"
ENGINE = "vllm_0.2_a100"
SPREAD = (1.5, 1024, -0.3)  # of sharegpt_lengths.csv: sigma of the logarithm, longest, prompt with output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="CSV of batches")
    parser.add_argument("--engine", default=ENGINE, help=f"engine profile (default: {ENGINE})")
    for name, usual in GIVEN.items():
        parser.add_argument(f"--{name}", type=type(usual), help=f"where the file has no such column (default: {usual})")
    parser.add_argument("--json", metavar="OUT", help="write the rows")


def run(arguments: argparse.Namespace) -> int:
    from sim.validate._rows import finish

    given = {name: getattr(arguments, name) for name in GIVEN if getattr(arguments, name)}
    rows, reasons = validate_offline(arguments.file, arguments.engine, **given)
    return finish(rows, arguments.json, reasons)


def validate_offline(
    file: str | pathlib.Path, engine: str = ENGINE, **given: Any
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """A row of error of the throughput for each back end (`kernel`), and in all. Fits nothing."""
    import numpy as np

    from hw_models.calibration.odd_rows import OddRows
    from kernels.errors import InputError
    from sim.validate._batches import batch_rows, file_rows
    from sim.validate._light import light_s, note_light, note_slow
    from sim.validate._rows import error_row

    path = pathlib.Path(file)
    batches = file_rows(path)
    if batches is not None:
        return batch_rows(batches)
    odd = OddRows(path)
    frame = read(path, odd, **given)
    good = odd.stands(len(frame))
    reasons: Counter[str] = Counter()
    ours = np.full(len(frame), np.nan)
    for index, row in enumerate(frame.to_dict("records")):
        if not good[index]:
            continue
        try:
            token = row["num_request"] * (row["own_len"] + row["output_len"])  # all computed, whatever the prefix is
            least_s, _ = light_s(str(row["model"]), str(row["system"]), int(row["tp"]), int(token))
            rate = throughput(row, engine)
        except InputError as error:
            reasons[str(error)] += 1
            continue
        took_s, where = row["num_request"] / row["request_per_s"], (odd, index, "seconds of the batch")
        if not (note_light(*where, took_s, least_s) or note_slow(*where, took_s, row["num_request"] / rate)):
            ours[index] = rate
    odd.stands(len(frame))
    odd.count(reasons)
    rows = []
    for name in [*dict.fromkeys(frame["backend"]), "all"]:
        chosen = (frame["backend"] == name).to_numpy() | (name == "all")
        ran = chosen & np.isfinite(ours)
        pair = ours[ran].tolist(), frame["request_per_s"].to_numpy(float)[ran].tolist()
        fmt, system = ("all", "all") if name == "all" else ("-", str(frame["system"].iloc[0]))
        rows.append(error_row("throughput", name, system, *pair, int(chosen.sum()), number_format=fmt))
    return rows, reasons


def read(path: pathlib.Path, odd: "OddRows | None" = None, **given: Any) -> Any:
    """The file with our column names; an `InputError` for what is amiss, of values where there is no `odd` to note
    them."""
    import pandas as pd

    from hw_models.calibration.measured import read_frame
    from hw_models.calibration.odd_rows import OddRows
    from kernels.errors import InputError

    raw = read_frame(path, ())
    noted = OddRows(path) if odd is None else odd
    lower = {str(name).lower(): str(name) for name in raw.columns}
    frame = raw.iloc[:, :0].copy()
    for name, aliases in ALIASES.items():
        source = next((lower[alias] for alias in aliases if alias in lower), None)
        if source is not None and name in ("model", "system", "backend"):
            usual = given.get(name, GIVEN.get(name))
            frame[name] = raw[source].fillna(usual).astype(str) if usual else noted.text(raw, source)
        elif source is not None:
            blank = given.get(name, GIVEN.get(name))
            frame[name] = noted.number(raw, source, positive=name != "prefix_len", most=MOST, blank=blank)
        elif name in NEEDED:
            raise InputError("column is missing", file=path, field=name, value="", allowed=aliases)
        elif name in GIVEN:
            frame[name] = given.get(name, GIVEN[name])
    if odd is None:
        noted.check()
    if "own_len" in frame and "output_len" in frame:
        return frame
    rates = ("prompt_and_output_token_per_s", "output_token_per_s")
    for name in rates:
        if name not in frame:
            raise InputError("neither lengths nor rates", file=path, field=name, value="", allowed=ALIASES[name])
    prompt = (frame[rates[0]] - frame[rates[1]]) / frame["request_per_s"] - frame["prefix_len"]
    output = frame[rates[1]] / frame["request_per_s"]
    noted.note(prompt.round() < 1, "leaves no tokens of a request's own", rates[0], frame[rates[0]].to_list())
    prompt, output = (pd.Series(each).clip(lower=1.0) for each in (prompt, output))
    return frame.assign(own_len=prompt.round(), output_len=output.round(), spread=True)


def throughput(row: dict[str, Any], engine: str) -> float:
    """Requests a second of one row."""
    from kernels.errors import InputError
    from sim.run.scenario import from_mapping
    from sim.run.simulate import simulate
    from sim.validate._published_names import known_model, known_system

    if row["backend"] not in BACKENDS:
        raise InputError("unknown", field="backend", value=row["backend"], allowed=list(BACKENDS))
    kind, prefix = BACKENDS[row["backend"]], int(row["prefix_len"])
    prompt, output = f"{int(row['own_len'])}", f"{int(row['output_len'])}"
    if row.get("spread"):
        sigma, longest, corr = SPREAD
        prompt, output = (f"lognormal:mean={mean}:sigma={sigma}:max={longest}" for mean in (prompt, output))
        output += f",corr={corr}"
    load = f"batch:n={int(row['num_request'])},prompt={prompt},output={output}"
    if prefix:
        load += f",num_system_prompt=1,system_prompt_len={prefix}"
    scenario = from_mapping(
        {
            "model": known_model(str(row["model"])),
            "system": known_system(str(row["system"])),
            "tp": int(row["tp"]),
            "policy": POLICY,
            "requests": load,
            "prefix_cache": kind != "alone",
            "attention": "relay" if kind == "together" else "paged",
            "engine": engine,
        }
    )
    metrics = simulate(scenario).metrics
    if not metrics["completed"]:
        raise InputError("no request is served", field="prefix_len", value=prefix)
    return float(metrics["request_throughput"])
