"""`ridgeline simulate`: serve a load and print what came of it."""

import argparse

from sim.run import scenario_arguments

HELP = "serve a load on a machine: latencies, throughput, goodput, KV use, energy and cost"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    scenario_arguments.add(parser)
    parser.add_argument("--out", metavar="FOLDER", help="write tables, plots and a Perfetto timeline here")
    parser.add_argument("--json", metavar="FILE", help="write the metrics under vLLM's benchmark field names")
    parser.add_argument("--format", choices=("csv", "parquet"), default="csv", help="of the tables in --out")
    parser.add_argument(
        "--uncertainty", type=int, default=0, metavar="N", help="intervals from N resamples of the calibration's spread"
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(arguments: argparse.Namespace) -> int:
    import pathlib

    from sim.run.results import metrics_file, write_results
    from sim.run.simulate import simulate, simulate_intervals
    from sim.show.progress import Progress
    from sim.show.report import console

    scenario = scenario_arguments.build(arguments)
    with Progress(not arguments.quiet) as progress:
        done = simulate(scenario, record_steps=bool(arguments.out), progress=progress)
    if not arguments.quiet:
        print(console(done.run, done.metrics))
    intervals = None
    if arguments.uncertainty:
        from sim.show.tables import table

        intervals = simulate_intervals(scenario, arguments.uncertainty)
        if not arguments.quiet:
            print(table(intervals))
    if arguments.json:
        metrics_file(done, arguments.json, intervals)
    if arguments.out:
        for path in write_results(done, pathlib.Path(arguments.out), arguments.format):
            if not arguments.quiet:
                print(path)
    return 0 if done.result.complete else 130
