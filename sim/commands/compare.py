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
    import sys

    from kernels.errors import InputError
    from sim.record.export import write_json
    from sim.run import scenario_arguments
    from sim.run.compare import compare, vary
    from sim.show.tables import table

    for many, one in (("systems", "system"), ("policies", "policy")):
        if getattr(arguments, many) and getattr(arguments, f"field_{one}"):
            raise InputError(f"has no effect beside --{many}", field=one, value=getattr(arguments, f"field_{one}"))
    base = [scenario_arguments.build(arguments, file=file) for file in arguments.scenarios or [None]]
    frame = compare(vary(base, arguments.systems, arguments.policies))
    if arguments.json:
        write_json({"rows": frame} | ({} if frame.attrs["complete"] else {"complete": False}), arguments.json)
    print(table(frame))
    if not frame.attrs["complete"]:
        return 130
    completed = frame.set_index("metric").loc["completed"]
    idle = [name for name in frame.columns[1:] if " / " not in name and not completed[name]]
    if idle:
        print(f"ridgeline: no request was served: {', '.join(idle)}", file=sys.stderr)
    return 3 if idle else 0
