"""`ridgeline programs`: a load of programs that ask, probe, share and stop while they run."""

import argparse

from sim.run import scenario_arguments

HELP = "a load of live programs: requests that start, wait for, share with and stop others"
UNREAD = ("order", "goodput", "price_USDph", "run_ahead", "timeout_s")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    scenario_arguments.add(parser, unread=UNREAD)
    parser.add_argument(
        "--program", default="chain_of_thought",
        help="kind with its options, NAME:option=value,..., or a path of its file: one, chain_of_thought, "
        "self_consistency, tree_search (default: chain_of_thought)",
    )  # fmt: skip
    parser.add_argument(
        "--queue",
        default="request",
        help="order of the waiting queue: request, program or remaining (default: request)",
    )
    parser.add_argument(
        "--outside", default="", metavar="NAME=PLACES,...", help="servers outside that programs call, and their places"
    )
    parser.add_argument("--json", metavar="FILE", help="write the tables")


def run(arguments: argparse.Namespace) -> int:
    from kernels.errors import NothingServedError
    from sim.show.ending import end
    from sim.show.tables import table

    scenario, outside = scenario_arguments.build(arguments), places(arguments.outside)
    scenario_arguments.check_known(scenario)

    from sim.cluster.simulate_programs import simulate_programs

    done = simulate_programs(scenario, arguments.program, order=arguments.queue, outside=outside)
    complete, produced = done.result.complete, int(done.programs["produced_token"].sum())
    if complete and not produced:
        why = done.requests["reason"].mode()[0] if len(done.requests) else "no program asked for one"
        raise NothingServedError(f"no request was served: {why}", field="requests", value=scenario.requests)
    tables = {"figures": done.summary, "rows": done.programs, "requests": done.requests}
    return end(arguments, tables, [table(done.summary)], served=produced, complete=complete)


def places(text: str) -> dict[str, int]:
    """`NAME=PLACES,...` as places by name.

    >>> places("reward=2,tool=8")
    {'reward': 2, 'tool': 8}
    """
    from kernels.errors import InputError

    found: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        name, _, number = part.partition("=")
        if not name or not number.isdecimal() or name in found:
            raise InputError("not NAME=PLACES, once", field="outside", value=part)
        found[name] = int(number)
    return found
