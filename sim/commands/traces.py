"""`ridgeline traces`: the load generators and trace formats; with a load or a file, what is in it."""

import argparse

HELP = "list load generators and trace formats, or describe a load"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The load to describe, and its seed."""
    parser.add_argument(
        "requests", nargs="?", help="a trace file, FORMAT:FILE, or a generator such as poisson:rate=2,..."
    )
    parser.add_argument("--seed", type=int, default=0, help="of a generator (default 0)")
    parser.add_argument("--json", metavar="FILE", help="write the list or the description")


def run(arguments: argparse.Namespace) -> int:
    """Print the list or the description."""
    from sim.record.export import write_json
    from sim.show.load_report import describe_load, list_sources, show_load, show_sources

    if arguments.requests is None:
        sources = list_sources()
        content: dict[str, object] = {"rows": sources}
        print(show_sources(sources))
    else:
        content = describe_load(arguments.requests, arguments.seed)
        print(show_load(content))
    if arguments.json:
        write_json(content, arguments.json)
    return 0
