"""`ridgeline devices`: the catalogue, or one device, node, link or system in full."""

import argparse

HELP = "list devices, nodes and links, or one in full with the source of every number"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="a name or a file (all of the catalogue by default)")
    parser.add_argument("--json", metavar="FILE", help="write the tables as JSON")


def run(arguments: argparse.Namespace) -> int:
    from hw_models import describe
    from sim.record.export import write_json
    from sim.show import tables as show

    if arguments.name:
        kind, spec = describe.read(arguments.name)
        tables = {"numbers": describe.numbers(arguments.name), "derived": describe.derived(arguments.name)}
        head = {"kind": kind, "name": spec.name}
    else:
        tables = {"devices": describe.devices(), "nodes": describe.nodes(), "links": describe.links()}
        head = {}
    if arguments.json:
        write_json({**head, **tables}, arguments.json)
    parts = [f"{value} " for value in head.values()]
    print("\n\n".join([*(["".join(parts).strip()] if parts else []), *map(show.table, tables.values())]))
    return 0
