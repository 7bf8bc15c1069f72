"""Options of the command line made from the fields of `Scenario`, so that the two cannot differ."""

import argparse
import dataclasses
import functools
import pathlib
import re
from collections.abc import Collection
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
    """One `--option` a field (`max_num_seq` is `--max-num-seq`), and an optional scenario file (or `many`). `fields`:
    those that the verb reads (none named: all but the `unread`); of a file it takes these alone."""
    from sim.run.scenario import FIELD_NAMES, Scenario
    from sim.run.scenario_check import hints, kind

    fields = [name for name in fields or FIELD_NAMES if name not in unread]
    parser.add_argument(
        "scenarios" if many else "scenario",
        nargs="*" if many else "?",
        metavar="SCENARIO.toml",
        help="a scenario file; options win over it",
    )
    parser.set_defaults(scenario_fields=tuple(fields))
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


def add_fronts(parser: argparse.ArgumentParser) -> None:
    """`--from-vllm` and its like: the command line of a serving engine, read as the scenario that it is."""
    for engine in sorted(path.stem for path in FRONTS.glob("*.toml")):
        parser.add_argument(
            f"--from-{engine}", dest="fronts", action="append", metavar="COMMAND",
            type=functools.partial(_front, engine),
            help=f"the command line of a server of {engine}: every flag is used, said to have no effect, or refused",
        )  # fmt: skip


def _front(engine: str, text: str) -> tuple[str, str]:
    return engine, text


def front_of(arguments: argparse.Namespace) -> "Front | None":
    """What the engine's command line says, where one is given."""
    fronts = getattr(arguments, "fronts", None) or []
    if not fronts:
        return None
    if len(fronts) > 1 or getattr(arguments, "scenario", None):
        raise InputError("one command line, or one scenario file", field=f"from_{fronts[-1][0]}", value=fronts[-1][1])
    from sim.run.front import read_command

    engine, command = fronts[0]
    return read_command(engine, command, _given(arguments))


def build(
    arguments: argparse.Namespace, defaults: dict[str, Any] | None = None, file: str | None = None,
    front: "Front | None" = None, beside: Collection[str] = (),
) -> "Scenario":  # fmt: skip
    """The scenario that the parsed options say: defaults of the verb, then the file or front, then the options.
    `beside`: tables of the file that are the verb's own."""
    from sim.run.scenario import FIELD_NAMES, from_mapping, read_toml

    file = file or getattr(arguments, "scenario", None)
    given = _given(arguments)
    if front is not None:
        with front.named():
            return from_mapping({**(defaults or {}), **front.fields_with(given)})
    values = read_toml(file) if file else {}
    values = {name: value for name, value in values.items() if name not in beside}
    fields = arguments.scenario_fields
    if len(fields) < len(FIELD_NAMES) and file:
        from_mapping(values, file)  # the file is a scenario of its own, and right as one
        values = {name: value for name, value in values.items() if name in fields}
    return from_mapping(
        {**(defaults or {}), **values, **given}, file_of=lambda name: file if name not in given else None
    )


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
