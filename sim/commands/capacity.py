"""`ridgeline capacity`: the largest rate that meets an objective."""

import argparse

from sim.run import scenario_arguments

HELP = "the largest request rate that meets --goodput, by search"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    scenario_arguments.add(parser, unread=["price_USDph"])  # prints no cost
    parser.add_argument("--share", type=float, default=0.9, help="of requests within the objective (default: 0.9)")
    parser.add_argument("--tolerance", type=float, default=0.02, help="of the rate (default: 0.02)")
    parser.add_argument("--json", metavar="FILE", help="write the answer and every rate tried")


def run(arguments: argparse.Namespace) -> int:
    from sim.record.export import write_json
    from sim.show.progress import note
    from sim.show.report import what_it_is
    from sim.show.tables import table

    scenario = scenario_arguments.build(arguments)
    scenario_arguments.check_known(scenario)

    from sim.run.capacity import capacity

    def progress(rate: float, met: float) -> None:
        note(f"{rate:.4g} requests/s: {met:.1%} within the objective")

    rate, tried = capacity(scenario, share=arguments.share, tolerance=arguments.tolerance, progress=progress)
    about = tried.attrs["about"]
    about = about | (
        {"note": said} if (said := [*scenario_arguments.notes_of(arguments), *about.get("note", ())]) else {}
    )
    if arguments.json:
        answer = {"capacity_request_per_s": rate, "tried": tried, "scenario": scenario.digest(), **about}
        write_json(answer | ({} if tried.attrs["complete"] else {"complete": False}), arguments.json)
    print("\n".join([*what_it_is(about), table(tried)]))
    print(f"capacity: {rate:.4g} requests/s with {arguments.share:.0%} of requests within {scenario.goodput}")
    return 0 if tried.attrs["complete"] else 130
