"""How a verb ends whose answer is tables: a JSON file where it is asked for, lines, and an exit code."""

import argparse
from collections.abc import Iterable, Mapping
from typing import Any


def end(
    arguments: argparse.Namespace, tables: Mapping[str, Any], lines: Iterable[str], *, served: int,
    complete: bool = True,
) -> int:  # fmt: skip
    """Writes `tables` to `arguments.json` with notes on what had no effect, prints these and `lines`, and returns the
    exit code: 0, 3 where no request was `served`, 130 for a run that was interrupted."""
    import sys

    from sim.record.export import write_json
    from sim.run import scenario_arguments

    notes = scenario_arguments.notes_of(arguments)
    if arguments.json:
        more = ({"note": notes} if notes else {}) | ({} if complete else {"complete": False})
        write_json(dict(tables) | more, arguments.json)
    print("\n".join([*scenario_arguments.note_lines(arguments), *lines]))
    if not complete:
        return 130
    if not served:
        print("ridgeline: no request was served", file=sys.stderr)
        return 3
    return 0
