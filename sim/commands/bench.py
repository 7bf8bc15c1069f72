"""`ridgeline bench`: how fast the simulator is, with the work counted."""

import argparse

HELP = "how fast the simulator is: steps, requests and operators a processor second"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="benchmarks to run (default: all but weeks of operation and serve_pools_1m, serve_pools_10m)",
    )
    parser.add_argument("--json", metavar="FILE", help="write the table")


def run(arguments: argparse.Namespace) -> int:
    import sys

    from sim.bench.bench import bench, exponent
    from sim.record.export import write_json
    from sim.show.tables import table

    def progress(name: str) -> None:
        if sys.stderr.isatty():
            print(name, file=sys.stderr)

    frame = bench(arguments.names, progress)
    rate = frame.assign(
        steps_per_cpu_s=frame["steps"] / frame["cpu_s"],
        requests_per_cpu_s=frame["requests"] / frame["cpu_s"],
        operators_per_cpu_s=frame["operators"] / frame["cpu_s"],
        peak_rss_MB=frame["peak_rss_byte"] / 1e6,
    ).drop(columns="peak_rss_byte")
    if arguments.json:
        write_json({"benchmarks": frame}, arguments.json)
    print(table(rate))
    growth = exponent(frame)
    if growth is not None:
        print(f"processor time grows as requests^{growth:.2f} between 100,000 and 1,000,000 requests")
    return 0
