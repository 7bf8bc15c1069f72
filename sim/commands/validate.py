"""`ridgeline validate`: one verb a file of `sim/validate/`."""

import argparse
import importlib
import pathlib

import sim.validate

HELP = "compare with measured or published numbers; fits nothing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="WHAT", required=True)
    for path in sorted(pathlib.Path(sim.validate.__path__[0]).glob("[a-z]*.py")):
        module = importlib.import_module(f"sim.validate.{path.stem}")
        verb = verbs.add_parser(path.stem, help=module.HELP, description=module.HELP, allow_abbrev=False)
        module.add_arguments(verb)
        verb.set_defaults(run_verb=module.run)


def run(arguments: argparse.Namespace) -> int:
    return int(arguments.run_verb(arguments) or 0)
