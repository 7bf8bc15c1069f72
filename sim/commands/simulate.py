"""`ridgeline simulate`: serve a load and print what came of it."""

import argparse
import pathlib

from sim.run import scenario_arguments

HELP = "serve a load on a machine: latencies, throughput, goodput, KV use, energy and cost"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    scenario_arguments.add(parser)
    parser.add_argument("--out", metavar="FOLDER", help="write tables, plots and a Perfetto timeline here")
    parser.add_argument("--html", metavar="FILE", help="write the run as one page that needs no network")
    parser.add_argument("--json", metavar="FILE", help="write the metrics under vLLM's benchmark field names")
    parser.add_argument(
        "--export", action="append", default=[], metavar="FORMAT=FILE",
        help="write the run for another tool: aiperf, inferencex, kubernetes, llm_d, prometheus, sglang_serve, "
        "trtllm_serve, vllm, vllm_serve; several may be given",
    )  # fmt: skip
    parser.add_argument("--format", choices=("csv", "parquet"), default="csv", help="of the tables in --out")
    parser.add_argument(
        "--uncertainty", type=int, default=0, metavar="N", help="intervals from N resamples of the calibration's spread"
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(arguments: argparse.Namespace) -> int:
    _check(arguments)
    exports = _exports(arguments)
    scenario = scenario_arguments.build(arguments)
    scenario_arguments.check_known(scenario)

    from sim.run.simulate import simulate, simulate_intervals
    from sim.show.progress import Progress
    from sim.show.report import console

    with Progress(not arguments.quiet) as progress:
        done = simulate(
            scenario, record_steps=bool(arguments.out or arguments.html), progress=progress,
            notes=scenario_arguments.notes_of(arguments),
        )  # fmt: skip
    lines = [console(done.run, done.metrics)]
    intervals, complete = None, True
    if arguments.uncertainty and done.served:
        from sim.show.report import load_words
        from sim.show.tables import table

        try:
            intervals = simulate_intervals(scenario, arguments.uncertainty)
            lines.append(table(intervals))
            lines.append(load_words(done.metrics, intervals.attrs["load_state"]))
        except KeyboardInterrupt:
            complete = False
    if arguments.json:
        from sim.run.results import metrics_file

        metrics_file(done, arguments.json, intervals)
    if exports and done.served:
        from sim.record.write import write_files
        from sim.show.exports import export

        write_files({path: export(done, name) for path, name in exports.items()})
    if arguments.html and done.served:
        from sim.record.write import write_files
        from sim.show.page.run_page import run_page_bytes

        write_files({pathlib.Path(arguments.html): run_page_bytes(done)})
    if arguments.out:
        from sim.run.results import write_results

        lines += map(str, write_results(done, pathlib.Path(arguments.out), arguments.format))
    if not arguments.quiet:  # after the files: whoever reads this may stop reading
        print("\n".join(lines))
    return exit_code(done) if complete else 130


def exit_code(done: object) -> int:
    """0 for a run in which requests were served, 3 where none was, 130 where it was interrupted."""
    import sys

    from sim.run.simulate import Simulation
    from sim.show.report import nothing_served

    assert isinstance(done, Simulation)
    if not done.result.complete:
        return 130
    if not done.served:
        print(f"ridgeline: {nothing_served(done.run)}", file=sys.stderr)
        return 3
    return 0


def _exports(arguments: argparse.Namespace) -> "dict[pathlib.Path, str]":
    """The files to export to, tried before the work."""
    if not arguments.export:
        return {}
    from sim.record.write import check_output
    from sim.show.exports import parse

    found = parse(arguments.export)
    for path in found:
        check_output(path, "export")
    return found


def _check(arguments: argparse.Namespace) -> None:
    """Options that need another."""
    from kernels.errors import InputError

    if arguments.format != "csv" and not arguments.out:
        raise InputError("has no effect without --out", field="format", value=arguments.format, allowed="csv")
    if arguments.uncertainty and arguments.quiet and not arguments.json:
        raise InputError("has no effect with --quiet and without --json", field="uncertainty",
                         value=arguments.uncertainty, allowed="0")  # fmt: skip
    if arguments.uncertainty not in (0, *range(2, 100_001)):
        raise InputError("out of range", field="uncertainty", value=arguments.uncertainty, allowed="0; or 2 to 100000")
