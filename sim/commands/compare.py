"""`ridgeline compare A.toml B.toml ...`: scenarios side by side."""

import argparse

HELP = "run several scenarios (files, or one load on several systems) and print them side by side"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from sim.run import scenario_arguments

    parser.add_argument("--systems", metavar="A,B", help="machines to run the same scenario on")
    parser.add_argument("--policies", metavar="A;B", help="policies to run the same scenario under, `;` between them")
    parser.add_argument("--json", metavar="FILE", help="write the table")
    scenario_arguments.add(parser, many=True)


def run(arguments: argparse.Namespace) -> int:
    from sim.record.export import write_json
    from sim.run import scenario_arguments
    from sim.run.compare import compare, vary
    from sim.show.tables import table

    base = [scenario_arguments.build(arguments, file=file) for file in arguments.scenarios or [None]]
    frame = compare(vary(base, arguments.systems, arguments.policies))
    print(table(frame))
    if arguments.json:
        write_json({"rows": frame}, arguments.json)
    return 0
