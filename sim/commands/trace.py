"""`ridgeline trace convert IN OUT`: execution traces (Chakra, Kineto) between file formats."""

import argparse

HELP = "convert execution traces: Chakra .et and JSON, Chrome timelines, Kineto to rows to fit on"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, files in and the file out."""
    parser.add_argument("action", choices=["convert"], help="convert IN OUT")
    parser.add_argument("source", nargs="+", metavar="IN", help="a Chakra trace, or the ranks of a Kineto recording")
    parser.add_argument("target", metavar="OUT", help=".et, .json, .flat.json, .trace.json (Chrome), .csv (Kineto)")
    parser.add_argument("--kernels", action="store_true", help="a .csv of kernels by name, not of collectives")


def run(arguments: argparse.Namespace) -> int:
    """Convert and say what was written."""
    from sim.trace_convert import convert

    print(convert(arguments.source, arguments.target, kernels=arguments.kernels))
    return 0
