"""`ridgeline sweep scenario.toml --over FIELD=VALUES ...`: a scenario at many points."""

import argparse

HELP = "a scenario over any of its fields: a row a point, kept in a folder, resumed after a kill, on many processes"

SHOWN = (
    "completed", "request_throughput", "request_goodput", "output_throughput", "p99_ttft_ms", "p99_tpot_ms",
    "p99_e2el_ms", "energy_j_per_million_output_token", "usd_per_million_output_token",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from sim.run import scenario_arguments

    parser.add_argument(
        "--over", action="append", default=[], metavar="FIELD=VALUES",
        help="what varies, once a field: `policy=vllm_v1,sarathi`, `seed=0:39:1` (low:high:step, the end included),"
        " `requests.rate=1:8:1` (a part of a load or an option); `;` between values that hold commas",
    )  # fmt: skip
    parser.add_argument("--store", metavar="DIR", help="keep rows here: what is there is not computed again")
    parser.add_argument("--executor", choices=("local", "ray"), default="local", help="who computes (default: local)")
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="points at a time (default: the processors of this machine, or of Ray's)"
    )
    parser.add_argument("--sampler", choices=("grid", "optuna"), default="grid", help="which points (default: grid)")
    parser.add_argument("--trials", type=int, metavar="N", help="points that optuna proposes")
    parser.add_argument("--minimise", metavar="METRIC", help="what optuna lowers")
    parser.add_argument("--maximise", metavar="METRIC", help="what optuna raises")
    parser.add_argument("--json", metavar="FILE", help="write the rows")
    parser.add_argument("--csv", metavar="FILE", help="write the rows as CSV")
    parser.add_argument("--plot", metavar="FILE", help="draw tokens/s a user against tokens/s a GPU, $ and joules")
    parser.add_argument("--html", metavar="FILE", help="write the rows as one page that needs no network")
    scenario_arguments.add(parser)


def run(arguments: argparse.Namespace) -> int:
    import pathlib
    import sys

    from sim.record.export import check_picture, table_bytes, write_json, write_picture
    from sim.record.write import write_files
    from sim.run import scenario_arguments
    from sim.show.tables import table
    from sim.show.time_left import TimeLeft
    from sim.sweep.sweep import run_sweep

    a = arguments
    if a.plot:
        check_picture(a.plot)
    scenario = scenario_arguments.build(a)
    jobs = a.jobs if a.jobs is not None else 0 if a.executor == "ray" else _processors()
    with TimeLeft() as progress:
        done = run_sweep(
            scenario, a.over, store=a.store, executor=a.executor, jobs=jobs, sampler=a.sampler, trials=a.trials,
            minimise=a.minimise, maximise=a.maximise, progress=progress,
        )  # fmt: skip
    if a.json:
        rest: dict[str, object] = {} if done.complete else {"complete": False}
        rest |= {"note": notes} if (notes := scenario_arguments.notes_of(a)) else {}
        about = {"scenario": scenario.digest(), "over": {axis.name: list(axis.values) for axis in done.axes}}
        write_json({"rows": done.rows, **about, **rest}, a.json)
    frame = done.frame
    if a.csv:
        write_files({pathlib.Path(a.csv): table_bytes(frame)})
    if a.html and done.served:
        from sim.show.page.points_page import sweep_page_bytes

        write_files({pathlib.Path(a.html): sweep_page_bytes(done)})
    if a.plot and done.served:
        from sim.show.pareto import pareto

        title = f"{scenario.model} on {scenario.system}, over {', '.join(axis.name for axis in done.axes)}"
        write_picture(pareto(frame, title), a.plot, {"scenario": scenario.digest()})
    columns = [*(axis.name for axis in done.axes), "status", *(name for name in SHOWN if name in frame)]
    print("\n".join([*scenario_arguments.note_lines(a), table(frame[columns])]))
    for word in ("calibration", "note"):
        for said in sorted({row.get(word, "") for row in done.rows} - {""}):
            print(f"{word.capitalize()}: {said}, {sum(row.get(word) == said for row in done.rows)} points")
    for why in sorted({row["why"] for row in done.rows} - {""}):
        print(f"{sum(row['why'] == why for row in done.rows)} points: {why}")
    if not done.complete:
        return 130
    if not done.served:
        print("ridgeline: no request was served at any point", file=sys.stderr)
        return 3
    return 0


def _processors() -> int:
    """Those that this process may use."""
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
