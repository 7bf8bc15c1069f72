"""`ridgeline calibrate`: probe this machine, fit it, and write one file that `--system` accepts."""

import argparse

HELP = "measure this machine within a budget and write it as a file that --system accepts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", required=True, help="cuda or cpu")
    parser.add_argument("--budget", default="180s", help="time to measure, such as 90s or 3min (default 180s)")
    parser.add_argument(
        "--out", required=True, metavar="FILE.toml", help="the machine: measured rates and fitted kernels"
    )
    parser.add_argument("--probes", metavar="DIR", help="write the raw probes here, a CSV a kind")
    parser.add_argument("--formats", default="", help="number formats to probe, such as bf16,fp8 (default: by device)")
    parser.add_argument("--seed", type=int, default=0, help="of the shapes drawn (default 0)")
    parser.add_argument("--json", metavar="FILE", help="write errors by kind as JSON")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(arguments: argparse.Namespace) -> int:
    from sim.reference.calibrate_run import execute, to_seconds

    text = execute(
        arguments.device,
        arguments.out,
        budget_s=to_seconds(arguments.budget),
        formats=tuple(filter(None, arguments.formats.split(","))),
        seed=arguments.seed,
        probes=arguments.probes,
        json=arguments.json,
        quiet=arguments.quiet,
    )
    if not arguments.quiet:
        print(text)
    return 0
