"""`ridgeline regress --baseline FILE`: do my scenarios give what they gave, and if not, why?"""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.regress.baseline import Entry
    from sim.run.scenario import Scenario

HELP = "run recorded scenarios again: what moved, by how much, and which operator or decision moved it"
EXIT_MOVED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO.toml", help="what --record records")
    parser.add_argument("--baseline", metavar="FILE", required=True, help="the recorded results")
    parser.add_argument(
        "--record", action="store_true",
        help="run the scenarios and write the baseline; without scenarios, those that it holds, anew",
    )  # fmt: skip
    parser.add_argument("--relative", metavar="X", type=float,
                        help="share of a recorded result by which it may move (default: 0, exact)")  # fmt: skip
    parser.add_argument("--absolute", metavar="X", type=float,
                        help="amount by which it may move, in its own unit (default: 0)")  # fmt: skip
    parser.add_argument("--worse-only", action="store_true", default=None, help="what became better has not moved")
    parser.add_argument("--only", metavar="A,B", help="entries of the baseline to run")
    parser.add_argument("--json", metavar="FILE", help="write what moved and why")
    parser.add_argument("--markdown", metavar="FILE", help="write it for a pull request")
    parser.add_argument("--junit", metavar="FILE", help="write it for a CI server, as JUnit XML")


def run(arguments: argparse.Namespace) -> int:
    import pathlib

    from kernels.errors import InputError
    from sim.record.export import write_json
    from sim.record.write import write_files
    from sim.regress import baseline, report
    from sim.regress.judge import Threshold, frame
    from sim.show.progress import note

    if arguments.record:
        return _record(arguments)
    if arguments.scenarios:
        raise InputError("has no effect without --record", field="scenario", value=arguments.scenarios[0])
    threshold = Threshold(arguments.relative or 0.0, arguments.absolute or 0.0, bool(arguments.worse_only))
    only = [name for name in (arguments.only or "").split(",") if name]
    wanted = len(baseline.chosen(baseline.read(arguments.baseline), only))

    from sim.regress.run import regress

    verdicts = regress(arguments.baseline, threshold, only, lambda name: note(f"{name} ..."))
    complete = len(verdicts) == wanted
    if not verdicts:
        raise KeyboardInterrupt
    print(report.text(verdicts))
    moved = [one for one in verdicts if not one.holds]
    said = "as recorded" if not moved else f"moved: {', '.join(one.name for one in moved)}"
    print(f"{len(verdicts) - len(moved)} of {wanted} scenarios {said if not moved else 'as recorded; ' + said}")
    if arguments.json:
        why = [{"entry": one.name, "cause": cause} for one in moved for cause in one.causes]
        new = [{"entry": one.name, "metric": name, "now": now} for one in verdicts for name, now in one.new.items()]
        write_json({"rows": frame(verdicts), "causes": why, "new": new, "complete": complete, "num_entry": wanted,
                    "num_moved": len(moved)}, arguments.json)  # fmt: skip
    files = {}
    if arguments.markdown:
        files[pathlib.Path(arguments.markdown)] = report.markdown(verdicts).encode()
    if arguments.junit:
        files[pathlib.Path(arguments.junit)] = report.junit(verdicts)
    write_files(files)
    return 130 if not complete else EXIT_MOVED if moved else 0


def _record(arguments: argparse.Namespace) -> int:
    from kernels.errors import InputError
    from sim.record.write import check_output
    from sim.regress import baseline
    from sim.run.scenario import from_file, from_mapping
    from sim.show.progress import note

    for name in ("relative", "absolute", "worse_only", "json", "markdown", "junit"):
        if (value := getattr(arguments, name)) is not None:
            raise InputError("has no effect beside --record", field=name.replace("_", "-"), value=value)
    if arguments.only and arguments.scenarios:
        raise InputError("has no effect beside scenarios to record", field="only", value=arguments.only)
    check_output(arguments.baseline, "baseline")

    def say(name: str) -> None:
        note(f"{name} ...")

    if arguments.scenarios:
        chosen = {name: from_file(path) for name, path in baseline.names_of(arguments.scenarios).items()}
        entries = _recorded(chosen, say)
    else:
        held = baseline.read(arguments.baseline)
        only = [name for name in (arguments.only or "").split(",") if name]
        again = {
            entry.name: from_mapping(entry.scenario, f"{arguments.baseline}: {entry.name}")
            for entry in baseline.chosen(held, only)
        }
        new = {entry.name: entry for entry in _recorded(again, say)}
        entries = [new.get(entry.name, entry) for entry in held.entry]
    baseline.write(arguments.baseline, entries)
    print(f"{arguments.baseline}: {len(entries)} scenarios recorded")
    return 0


def _recorded(scenarios: "dict[str, Scenario]", say: "Callable[[str], None]") -> "list[Entry]":
    from sim.regress.run import record

    return record(scenarios, say)
