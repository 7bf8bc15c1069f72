"""`ridgeline reference run`: serve a scenario on a real device and on its simulated one, and compare."""

import argparse
from typing import Any

from sim.run import scenario_arguments

HELP = "run a scenario for real with a reference model, beside its simulation"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="WHAT", required=True)
    text = "serve the load on this machine under the scenario's policies, and simulate it on the scenario's system"
    run_verb = verbs.add_parser("run", help=text, description=text, allow_abbrev=False)
    scenario_arguments.add(run_verb)
    run_verb.add_argument("--device", default="cpu", help="cuda or cpu (default cpu)")
    run_verb.add_argument(
        "--mode",
        default="live",
        help="live: the clock follows the device; replay: the simulator's own plans (default live)",
    )
    run_verb.add_argument("--json", metavar="FILE", help="write summary, requests and steps")
    run_verb.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run(arguments: argparse.Namespace) -> int:
    from sim.record.export import write_json
    from sim.reference.reference_run import reference_run
    from sim.show import tables as show
    from sim.show.progress import Progress

    scenario = scenario_arguments.build(arguments)
    with Progress(not arguments.quiet) as progress:
        found = reference_run(scenario, arguments.device, mode=arguments.mode, progress=progress)
    if arguments.json:
        tables: dict[str, Any] = {"summary": found.summary, "requests": found.requests, "steps": found.steps}
        tables |= {"note": notes} if (notes := scenario_arguments.notes_of(arguments)) else {}
        write_json(tables, arguments.json)
    if not arguments.quiet:
        for line in scenario_arguments.note_lines(arguments):
            print(line)
        print(f"{len(found.requests)} requests, {len(found.steps)} steps\n\n{show.table(found.summary)}")
    return 0 if found.measured.result.complete else 130
