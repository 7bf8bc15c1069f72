"""`ridgeline trace`: execution traces (Chakra, Kineto) between file formats, or replayed on a system."""

import argparse

HELP = "convert execution traces (Chakra, Chrome, Kineto), or replay those of many ranks on a system"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, files in and the file out."""
    parser.add_argument("action", choices=["convert", "replay"], help="convert IN OUT; replay IN... OUT --system NAME")
    parser.add_argument(
        "source", nargs="+", metavar="IN", help="a Chakra trace, all ranks of one to replay, or of a Kineto recording"
    )
    parser.add_argument(
        "target", metavar="OUT", help=".et, .json, .flat.json, .trace.json (Chrome), .csv (Kineto); replay: .csv"
    )
    parser.add_argument("--kernels", action="store_true", help="convert: a .csv of kernels by name, not of collectives")
    parser.add_argument("--system", help="replay: the machine, rank r on device r")
    parser.add_argument("--groups", metavar="FILE", help="replay: process groups, as in comm_group.json")
    parser.add_argument("--roofline", action="store_true", help="replay: compute nodes by num_ops and tensor_size")


def run(arguments: argparse.Namespace) -> int:
    """Convert or replay, and say what was written."""
    from sim.trace.trace_convert import convert, replay_files

    a = arguments
    if a.action == "convert":
        print(convert(a.source, a.target, kernels=a.kernels, system=a.system, groups=a.groups, roofline=a.roofline))
    else:
        print(replay_files(a.source, a.target, a.system, groups=a.groups, roofline=a.roofline, kernels=a.kernels))
    return 0
