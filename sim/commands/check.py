"""`ridgeline check`: is this machine's file valid, what follows from it, and what in it is odd."""

import argparse

HELP = "check a device, node, link or system file: errors, derived figures, implausible numbers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="a TOML file, or the name of a catalogued machine")
    parser.add_argument("--json", metavar="FILE", help="write figures and findings as JSON")


def run(arguments: argparse.Namespace) -> int:
    from hw_models import describe, plausible
    from sim.record.export import write_json
    from sim.show import tables as show

    kind, spec = describe.read(arguments.file)
    figures, odd = describe.derived(arguments.file), plausible.findings(arguments.file)
    if arguments.json:
        result = {"kind": kind, "name": spec.name, "valid": True, "derived": figures, "findings": odd}
        write_json(result, arguments.json)
    print(f"{spec.name}: a valid {kind}\n\n{show.table(figures)}\n")
    print(f"{len(odd)} findings\n{show.table(odd)}" if len(odd) else "no findings")
    return 0
