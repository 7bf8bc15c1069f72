"""`ridgeline operate`: a load on replicas that are scaled with it, drained, lost and replaced."""

import argparse
from typing import Any

from sim.run import scenario_arguments

HELP = "replicas that are scaled with the load, drained, lost and replaced: latencies, engine hours, what happened"
UNREAD = ("goodput",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    scenario_arguments.add(parser, unread=UNREAD)
    parser.add_argument(
        "--operation", metavar="FILE",
        help="TOML with an [operation] table (default: the one of the scenario's file)",
    )  # fmt: skip
    parser.add_argument("--scaler", default="", metavar="RULE", help="rule of scaling, in place of the table's")
    parser.add_argument("--load-gbps", type=float, default=0.0, metavar="X", help="likewise, storage to a replica")
    parser.add_argument("--json", metavar="FILE", help="write the tables")


def run(arguments: argparse.Namespace) -> int:
    import sys

    from kernels.errors import InputError
    from sim.cluster.operation import from_table
    from sim.record.export import write_json
    from sim.run.scenario import read_toml
    from sim.show.report import load_words
    from sim.show.tables import table

    file = arguments.operation or arguments.scenario
    found = read_toml(file).get("operation", None if arguments.operation else {}) if file else {}
    if not isinstance(found, dict):
        raise InputError("has no [operation] table", file=file, field="operation", value=found)
    values: dict[str, Any] = dict(found)
    values |= {"scaler": arguments.scaler} if arguments.scaler else {}
    values |= {"load_GBps": arguments.load_gbps} if arguments.load_gbps else {}
    rules = from_table(values, file)
    scenario = scenario_arguments.build(arguments, beside=("operation",))
    scenario_arguments.check_known(scenario)

    from sim.cluster.simulate_operation import simulate_operation

    done = simulate_operation(scenario, rules)
    complete, served = done.result.result.complete, int(done.requests["served"].sum())
    if arguments.json:
        tables: dict[str, Any] = {"rows": done.summary, "figures": done.figures, "events": done.events,
                                  "load_state": done.load_state, "queue_drift": done.queue_drift}  # fmt: skip
        tables |= {"note": notes} if (notes := scenario_arguments.notes_of(arguments)) else {}
        write_json(tables | ({} if complete else {"complete": False}), arguments.json)
    print("\n".join([*scenario_arguments.note_lines(arguments), table(done.summary)]))
    print(table(done.figures))
    print(load_words({"load_state": done.load_state, "queue_drift": done.queue_drift}))
    if not complete:
        return 130
    if not served:
        print("ridgeline: no request was served", file=sys.stderr)
        return 3
    return 0
