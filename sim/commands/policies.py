"""`ridgeline policies`: what schedules a replica, spreads requests and drafts tokens, with every option."""

import argparse

HELP = "list scheduling policies, routers and progress models with their options"
TITLE = {
    "policy": "policies (--policy NAME:option=value,...)",
    "router": "routers (--router NAME)",
    "progress": "progress models (--speculate NAME:option=value,...)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="FILE", help="write the list")


def run(arguments: argparse.Namespace) -> int:
    from sim.record.export import write_json
    from sim.serving.listing import plugin_rows

    rows = plugin_rows()
    if arguments.json is not None:
        write_json({"rows": rows}, arguments.json)
    for kind, title in TITLE.items():
        print(title)
        for row in rows:
            if row["kind"] == kind:
                print(f"  {row['name']:<18} {row['help']}")
                for option in row["options"]:
                    print(f"  {'':<20}{option['name']}={option['default']}: {option['help']} ({option['allowed']})")
    return 0
