"""`ridgeline accuracy`: held-out errors of the shipped calibrations, as the README has them."""

import argparse

HELP = "errors of the shipped calibrations on shapes that their fits have not seen"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="FILE", help="write the table")


def run(arguments: argparse.Namespace) -> int:
    from hw_models.accuracy import held_out, markdown
    from sim.export import write_json

    frame = held_out()
    if arguments.json:
        write_json({"rows": frame}, arguments.json)
    print(markdown(frame))
    return 0
