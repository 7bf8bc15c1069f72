"""`ridgeline compare A.toml B.toml ...`: scenarios side by side."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

HELP = "run several scenarios (files, or one load on several systems) and print them side by side"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from sim.run import scenario_arguments

    parser.add_argument("--systems", metavar="A,B", help="machines to run the same scenario on")
    parser.add_argument("--policies", metavar="A;B", help="policies to run the same scenario under, `;` between them")
    parser.add_argument("--json", metavar="FILE", help="write the table")
    parser.add_argument("--plot", metavar="FILE", help="draw tokens/s a user against tokens/s a GPU, $ and joules")
    scenario_arguments.add(parser, many=True)


def differing(about: "dict[str, dict[str, Any]]") -> list[str]:
    """What each scenario is, a sentence a line: once what holds of all, else with the scenario's name.

    >>> differing({"a": {"calibration": "measured on a"}, "b": {"calibration": "inherited from a", "note": ["cut"]}})
    ['a: Calibration: measured on a.', 'b: Calibration: inherited from a.', 'b: Note: cut.']
    """
    from sim.show.report import what_it_is

    said = {name: what_it_is(one) for name, one in about.items()}
    lines = [f"{name}: {one}" if any(one not in other for other in said.values()) else one
             for name, sentences in said.items() for one in sentences]  # fmt: skip
    return list(dict.fromkeys(lines))


def run(arguments: argparse.Namespace) -> int:
    import contextlib
    import sys

    from kernels.errors import InputError
    from sim.record.export import check_picture, write_json, write_picture
    from sim.run import scenario_arguments
    from sim.show.tables import table

    if arguments.plot:
        check_picture(arguments.plot)
    for many, one in (("systems", "system"), ("policies", "policy")):
        if getattr(arguments, many) and getattr(arguments, f"field_{one}"):
            raise InputError(f"has no effect beside --{many}", field=one, value=getattr(arguments, f"field_{one}"))
    fronts = scenario_arguments.fronts_of(arguments)
    if fronts:
        base = [scenario_arguments.build(arguments, front=front) for front in fronts]
    else:
        base = [scenario_arguments.build(arguments, file=file) for file in arguments.scenarios or [None]]
    for place, scenario in enumerate(base):
        with fronts[place].named() if fronts else contextlib.nullcontext():
            scenario_arguments.check_known(scenario)

    from sim.run.compare import compare, vary

    every = vary(base, arguments.systems, arguments.policies)
    frame = compare(every, (lambda place: fronts[place * len(fronts) // len(every)].named()) if fronts else None)
    about, notes = frame.attrs["about"], scenario_arguments.notes_of(arguments)
    if arguments.json:
        said = {"about": about} | ({"note": notes} if notes else {})
        write_json({"rows": frame} | said | ({} if frame.attrs["complete"] else {"complete": False}), arguments.json)
    if arguments.plot and any(row["completed"] for row in frame.attrs["points"]):
        from sim.show.pareto import pareto

        title = " and ".join(dict.fromkeys(one.model for one in every))
        write_picture(pareto(frame, title), arguments.plot, {"scenario": " ".join(one.digest() for one in every)})
    print("\n".join([*scenario_arguments.note_lines(arguments), *differing(about), table(frame)]))
    if not frame.attrs["complete"]:
        return 130
    completed = frame.set_index("metric").loc["completed"]
    idle = [name for name in frame.columns[1:] if " / " not in name and not completed[name]]
    if idle:
        print(f"ridgeline: no request was served: {', '.join(idle)}", file=sys.stderr)
    return 3 if idle else 0
