"""The proof on a real GPU, one script within eight minutes: `python -m tests.gpu.prove --out proof`.

It calibrates the device (every candidate kernel is checked against higher precision), then serves a dense and an expert
model for real and simulated, at three loads each, and the busiest of each twice, so that an error stands beside what
two runs of the same differ by. Written into the folder: `machine.toml` (the profile), `raw/` (every probe),
`errors.json` (held-out errors by kind), `proof.json` (a row a model, load and metric) and the same on the screen. It
leaves with 0 where every error is within its goal or the noise, with 1 where one is not, with 3 where the time was up
before a model was compared.

`--device cpu` runs the same on this processor with small models; a test does so, so that the script works the first
time that a GPU is there.
"""

import argparse
import json
import pathlib
import sys
import time
from typing import Any, NamedTuple

import pandas as pd

from kernels.errors import InputError
from sim.record.export import write_json
from sim.reference.calibrate_run import execute, to_seconds
from sim.reference.reference_run import Comparison, reference_run
from sim.run.scenario import Scenario
from sim.show.tables import table

CALIBRATION_SHARE = 0.5  # of the time: the probes; the rest is for the runs
GOAL = {"mean_step_s": 0.08, "mean_ttft_ms": 0.12, "mean_tpot_ms": 0.12}  # of the error, as a fraction
LOADS = {"light": 0.3, "busy": 0.8, "saturated": 100.0}  # of the requests a second that are served at most


class Size(NamedTuple):
    """What is served on a kind of device: models, formats, lengths, requests a load."""

    models: dict[str, Any]  # a ready model, or the fields of a config.json
    number_format: str
    prompt: str
    output: str
    num_request: int
    limits: dict[str, Any]


_SMALL = {
    "model_type": "llama", "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 3,
    "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 4096,
    "max_position_embeddings": 1024, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": False,
}  # fmt: skip
_SMALL_EXPERTS = _SMALL | {
    "model_type": "mixtral", "intermediate_size": 512, "num_local_experts": 4, "num_experts_per_tok": 2,
}  # fmt: skip
SIZES = {
    "cuda": Size(
        {"dense": "llama-3.2-1b", "experts": "olmoe-1b-7b"}, "bf16", "uniform:min=128:max=1024",
        "uniform:min=32:max=160", 64, {"token_budget": 2048, "max_num_seq": 64, "max_model_len": 2048},
    ),
    "cpu": Size(
        {"dense": _SMALL, "experts": _SMALL_EXPERTS}, "fp32", "uniform:min=30:max=120", "uniform:min=8:max=24", 10,
        {"token_budget": 128, "max_num_seq": 8, "max_model_len": 512, "memory_share": 0.2},
    ),
}  # fmt: skip


def scenario(size: Size, model: str, machine: str, requests: str) -> Scenario:
    """The scenario of a load on the calibrated machine."""
    return Scenario(
        model=model, system=machine, engine=machine, policy="vllm_v1", weight_format=size.number_format,
        kv_format=size.number_format, requests=requests, **size.limits,
    )  # fmt: skip


def most_rate(size: Size, model: str, machine: str) -> float:
    """Requests a second that the simulation serves where all are there from the start."""
    from sim.run.simulate import simulate

    load = f"batch:n={size.num_request},prompt={size.prompt},output={size.output}"
    return float(simulate(scenario(size, model, machine, load)).metrics["request_throughput"])


def rows_of(name: str, load: str, found: Comparison, again: Comparison | None) -> list[dict[str, Any]]:
    """A row a metric: simulated, measured, measured `again`, the error, and the noise of the two runs."""
    second = None if again is None else again.summary.set_index("metric")["measured"]
    rows = []
    for record in found.summary.to_dict("records"):
        row: dict[str, Any] = {str(name): value for name, value in record.items()}
        metric, other = str(row["metric"]), float("nan") if second is None else float(second[row["metric"]])
        noise = abs(other / row["measured"] - 1)
        rows.append(
            {"model": name, "load": load, **row, "again": other, "noise": noise, "goal": GOAL.get(metric, float("nan"))}
        )
    return rows


def within(row: dict[str, Any]) -> bool:
    """Whether a row's error is within its goal, or within what two runs of the same differ by."""
    return bool(abs(row["error"]) <= row["goal"] or abs(row["error"]) <= row["noise"])


def prove(device: str, folder: pathlib.Path, budget_s: float) -> list[dict[str, Any]]:
    """Calibrates and compares until the time is up; the rows, which are written after every run."""
    end = time.monotonic() + budget_s
    folder.mkdir(parents=True, exist_ok=True)
    machine, size = str(folder / "machine.toml"), SIZES[device]
    print(
        execute(
            device, machine, budget_s=max(1.0, CALIBRATION_SHARE * budget_s), formats=(size.number_format,),
            probes=folder / "raw", json=str(folder / "errors.json"), quiet=True,
        )
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    for name, given in size.models.items():
        model = str(given)
        if isinstance(given, dict):
            model = str(folder / f"{name}.json")
            pathlib.Path(model).write_text(json.dumps(given))
        most = most_rate(size, model, machine)
        for load, share in LOADS.items():
            if rows and time.monotonic() > end:
                print(f"the time is up: {name}, {load} and what follows were not run", file=sys.stderr)
                return rows
            many = f"n={size.num_request},prompt={size.prompt},output={size.output}"
            asked = scenario(size, model, machine, f"poisson:rate={share * most:.6g},{many}")
            found = reference_run(asked, device)
            again = reference_run(asked, device) if load == "saturated" else None
            rows += rows_of(name, load, found, again)
            write_json({"device": device, "rows": rows}, folder / "proof.json")
    return rows


def main(words: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="prove", description="calibrate this device, then simulator against runs")
    parser.add_argument("--device", default="cuda", choices=tuple(SIZES))
    parser.add_argument("--budget", default="8min", help="time for all of it (default 8min)")
    parser.add_argument("--out", default="proof", help="folder of what it writes (default: proof)")
    chosen = parser.parse_args(words)
    try:
        rows = prove(chosen.device, pathlib.Path(chosen.out), to_seconds(chosen.budget))
    except InputError as error:
        print(f"prove: {error}", file=sys.stderr)
        return error.exit_code
    print(table(pd.DataFrame(rows)))
    judged = [row for row in rows if row["metric"] in GOAL]
    short = [f"{row['model']} {row['load']} {row['metric']} {row['error']:+.1%}" for row in judged if not within(row)]
    print(f"{len(judged) - len(short)} of {len(judged)} errors within their goals" + "".join(f"\n  {s}" for s in short))
    return 3 if not judged else 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
