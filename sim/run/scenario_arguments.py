"""Options of the command line made from the fields of `Scenario`, so that the two cannot differ."""

import argparse
import contextlib
import dataclasses
import functools
import pathlib
import re
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from kernels.errors import InputError

if TYPE_CHECKING:  # `ridgeline --help` imports this file and makes no scenario
    from sim.run.front import Front
    from sim.run.scenario import Scenario

FRONTS = pathlib.Path(__file__).parent / "fronts"
MAX_DIGIT = 4000  # of a whole number that Python reads


def add(
    parser: argparse.ArgumentParser, many: bool = False, fields: Collection[str] = (), unread: Collection[str] = ()
) -> None:
    """One `--option` a field (`max_num_seq` is `--max-num-seq`), and an optional scenario file or server's command line
    (or `many`). `fields`: those that the verb reads (none named: all but the `unread`); of a file or a command line it
    takes these alone, and says which it left out."""
    from sim.run.scenario import FIELD_NAMES, Scenario
    from sim.run.scenario_check import hints, kind

    fields = [name for name in fields or FIELD_NAMES if name not in unread]
    parser.add_argument(
        "scenarios" if many else "scenario",
        nargs="*" if many else "?",
        metavar="SCENARIO.toml",
        help="a scenario file; options win over it",
    )
    parser.set_defaults(scenario_fields=tuple(fields), many=many)
    _add_fronts(parser)
    for field in dataclasses.fields(Scenario):
        if field.name not in fields:
            continue
        flag, text = "--" + field.name.replace("_", "-").lower(), field.metadata["help"].replace("%", "%%")
        text = f"{text} (default: {field.default})" if field.default != "" else text
        keywords: dict[str, Any] = {"dest": f"field_{field.name}", "default": None, "help": text}
        if hints()[field.name] is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, **keywords)
        else:
            choices = getattr(hints()[field.name], "__args__", ())
            parser.add_argument(
                flag, metavar="|".join(choices) if kind(hints()[field.name]) is str and choices else "X", **keywords
            )


def _add_fronts(parser: argparse.ArgumentParser) -> None:
    """`--from-vllm` and its like: the command line of a serving engine, read as the scenario that it is."""
    for engine in sorted(path.stem for path in FRONTS.glob("*.toml")):
        parser.add_argument(
            f"--from-{engine}", dest="fronts", action="append", metavar="COMMAND",
            type=functools.partial(_front, engine),
            help=f"the command line of a server of {engine}: every flag is used, said to have no effect, or refused",
        )  # fmt: skip


def _front(engine: str, text: str) -> tuple[str, str]:
    return engine, text


def fronts_of(arguments: argparse.Namespace) -> "list[Front]":
    """What the engines' command lines say, read once; one at most, but for a verb that takes many scenarios."""
    if "fronts_read" not in arguments:
        fronts = getattr(arguments, "fronts", None) or []
        file = getattr(arguments, "scenario", None) or getattr(arguments, "scenarios", None)
        if fronts and (file or (len(fronts) > 1 and not arguments.many)):
            allowed = "command lines, or scenario files" if arguments.many else "one command line, or one scenario file"
            raise InputError(allowed, field=f"from_{fronts[-1][0]}", value=fronts[-1][1])
        arguments.fronts_read = []
        if fronts:
            from sim.run.front import read_command

            given = _given(arguments)
            if machines := getattr(arguments, "systems", None):  # of a verb that tries several
                given["system"] = machines
            arguments.fronts_read = [read_command(engine, command, given) for engine, command in fronts]
    found: list[Front] = arguments.fronts_read
    return found


@contextlib.contextmanager
def named(arguments: argparse.Namespace) -> Iterator[None]:
    """Errors about a field that the one command line set name its flag; of many, the verb knows whose it is."""
    with contextlib.ExitStack() as stack:
        if "fronts" in arguments and len(fronts := fronts_of(arguments)) == 1:
            stack.enter_context(fronts[0].named())
        yield


def build(
    arguments: argparse.Namespace, defaults: dict[str, Any] | None = None, file: str | None = None,
    front: "Front | None" = None, beside: Collection[str] = (),
) -> "Scenario":  # fmt: skip
    """The scenario that the parsed options say: defaults of the verb, then the file or command line, then the options.

    `beside`: tables of the file that are the verb's own. What a verb does not read of a file or a command line is a
    sentence of `notes_of`."""
    from sim.run.scenario import FIELD_NAMES, from_mapping, read_toml

    file = file or getattr(arguments, "scenario", None)
    front = front or next(iter(fronts_of(arguments)), None)
    given, fields, notes = _given(arguments), arguments.scenario_fields, notes_of(arguments)
    if front is not None:
        values = front.fields_with(given)
        with front.named():
            from_mapping(values)
        said = [note if len(fronts_of(arguments)) == 1 else f"{front.engine}: {note}" for note in front.notes]
    else:
        values, said = read_toml(file) if file else {}, []
        values = {name: value for name, value in values.items() if name not in beside}
        if len(fields) < len(FIELD_NAMES) and file:
            from_mapping(values, file)  # the file is a scenario of its own, and right as one
    unread = [name for name in values if name in FIELD_NAMES and name not in fields]
    stated = {name: name for name in values} if front is None else front.flag_of
    said += [f"{stated[name]}: not read by {arguments.command}" for name in unread if name in stated]
    notes += [note for note in said if note not in notes]
    values = {name: value for name, value in values.items() if name not in unread}
    with front.named() if front is not None else contextlib.nullcontext():
        return from_mapping(
            {**(defaults or {}), **values, **given}, file_of=lambda name: file if name not in given else None
        )


def check_known(scenario: "Scenario") -> None:
    """Model and machine are there: a misspelt name is said before anything is compiled, or its compiler loaded."""
    from hw_models import catalog
    from workloads import models

    models.load(scenario.model)
    catalog.system(scenario.system)


def notes_of(arguments: argparse.Namespace) -> list[str]:
    """Sentences on what of a file or a command line had no effect, for a verb's report and its JSON."""
    if "notes" not in arguments:
        arguments.notes = []
    found: list[str] = arguments.notes
    return found


def note_lines(arguments: argparse.Namespace) -> list[str]:
    """`notes_of` as lines of a report.

    >>> note_lines(argparse.Namespace(notes=["--port: no effect on time"]))
    ['Note: --port: no effect on time.']
    """
    return [f"Note: {note}." for note in notes_of(arguments)]


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The fields that options name."""
    return {
        name.removeprefix("field_"): read_text(name.removeprefix("field_"), value)
        for name, value in vars(arguments).items()
        if name.startswith("field_") and value is not None
    }


def read_text(name: str, text: Any) -> Any:
    """The text of an option in the type of its field; text that is no such value stays text, for the scenario's own
    check to refuse.

    >>> read_text("tp", "8"), read_text("tp", "2.0"), read_text("memory_share", "0.5")
    (8, '2.0', 0.5)
    """
    from sim.run.scenario_check import hints, kind

    expected = kind(hints()[name])
    if expected is int and isinstance(text, str) and re.fullmatch(r"[+-]?[0-9]+", text):
        return int(text[:MAX_DIGIT])  # out of every range, as the whole number is
    if (
        expected is float
        and isinstance(text, str)
        and re.fullmatch(r"[+-]?[0-9.]+(e[+-]?[0-9]+)?|[+-]?(nan|inf)", text, re.I)
    ):
        try:
            return float(text)
        except ValueError:
            return text
    return text
