"""`ridgeline accuracy`: held-out errors of the shipped calibrations, as the README has them."""

import argparse

HELP = "errors of the shipped calibrations on shapes that their fits have not seen"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engines", action="store_true", help="of the engine profiles, on runs or shapes left out")
    parser.add_argument("--json", metavar="FILE", help="write the table")


def run(arguments: argparse.Namespace) -> int:
    from hw_models import accuracy
    from sim.record.export import write_json
    from sim.reference import engine_accuracy

    frame = engine_accuracy.left_out() if arguments.engines else accuracy.held_out()
    if arguments.json:
        write_json({"rows": frame}, arguments.json)
    print(engine_accuracy.markdown(frame) if arguments.engines else accuracy.markdown(frame))
    return 0
