"""`ridgeline study`: one published headline a file of `studies/`."""

import argparse
import importlib
import importlib.util
import pathlib

HELP = "paper against simulated: one published headline a study"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="study", metavar="STUDY", required=True)
    found = importlib.util.find_spec("studies")
    folder = pathlib.Path(found.submodule_search_locations[0]) if found and found.submodule_search_locations else None
    for path in sorted(folder.glob("[a-z]*.py")) if folder else []:
        help_line = path.read_text().split('"""')[1].split("\n")[0]  # a study's imports are heavy: only its docstring
        verb = verbs.add_parser(path.stem.replace("_", "-"), help=help_line, description=help_line, allow_abbrev=False)
        verb.add_argument("--plot", metavar="FILE", help="draw it (.svg, .png, .pdf)")
        verb.add_argument("--json", metavar="FILE", help="write the rows")
        verb.set_defaults(module=f"studies.{path.stem}")


def run(arguments: argparse.Namespace) -> int:
    from sim.study_run import execute

    print(execute(arguments.module, arguments.plot, arguments.json))
    return 0
