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
        text = path.read_text()  # a study's imports are heavy: only its docstring is read
        help_line = text.split('"""')[1].split("\n")[0].replace("%", "%%")  # argparse formats it
        verb = verbs.add_parser(path.stem.replace("_", "-"), help=help_line, description=help_line, allow_abbrev=False)
        verb.add_argument("--plot", metavar="FILE", help="draw it (.svg, .png, .pdf)")
        verb.add_argument("--json", metavar="FILE", help="write the rows")
        if "\ndef stage_table(" in text:
            verb.add_argument(
                "--stages", metavar="TRACE", help="stage cycles of a trace (columns seq_len,ch_idx) instead"
            )
            verb.add_argument("--model", default="gpt3-7b", help="model of --stages (default: gpt3-7b)")
        if "\ndef step_table(" in text:
            verb.add_argument("--step", action="store_true", help="one decode step on each machine instead")
            verb.add_argument("--model", default="mixtral-8x7b", help="model of --step (default: mixtral-8x7b)")
            verb.add_argument("--batch", type=int, default=32, help="sequences of --step (default: 32)")
            verb.add_argument("--input", type=int, default=2048, help="tokens that each has (default: 2048)")
            verb.add_argument("--devices", type=int, default=4, help="devices of --step (default: 4)")
        verb.set_defaults(module=f"studies.{path.stem}")


def run(arguments: argparse.Namespace) -> int:
    from sim.run.study import execute, stages, step

    if getattr(arguments, "stages", None):
        print(stages(arguments.module, arguments.stages, arguments.model, arguments.plot, arguments.json))
        return 0
    if getattr(arguments, "step", False):
        size = {"batch": arguments.batch, "input": arguments.input, "devices": arguments.devices}
        print(step(arguments.module, arguments.model, size, arguments.plot, arguments.json))
        return 0
    print(execute(arguments.module, arguments.plot, arguments.json))
    return 0
