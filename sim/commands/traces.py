"""`ridgeline traces`: the load generators and trace formats; with a load or a file, what is in it."""

import argparse

HELP = "list load generators and trace formats, or describe a load"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The load to describe, and its seed."""
    parser.add_argument(
        "requests", nargs="?", help="a trace file, FORMAT:FILE, or a generator such as poisson:rate=2,..."
    )
    parser.add_argument("--seed", type=int, default=0, help="of a generator (default 0)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the list or the description."""
    import json

    from sim.load_report import describe_load, list_sources, show_load, show_sources

    if arguments.requests is None:
        sources = list_sources()
        print(json.dumps(sources.to_dict("records"), indent=2) if arguments.json else show_sources(sources))
        return 0
    found = describe_load(arguments.requests, arguments.seed)
    print(json.dumps(found, indent=2) if arguments.json else show_load(found))
    return 0
