"""Options of the command line made from the fields of `Scenario`, so that the two cannot differ."""

import argparse
import dataclasses
import typing
from typing import Any

from sim.run.scenario import Scenario, from_mapping, read_toml


def add(parser: argparse.ArgumentParser, many: bool = False) -> None:
    """One `--option` a field (`max_num_seq` is `--max-num-seq`), and an optional scenario file (or `many`)."""
    parser.add_argument(
        "scenarios" if many else "scenario",
        nargs="*" if many else "?",
        metavar="SCENARIO.toml",
        help="a scenario file; options win over it",
    )
    hints = typing.get_type_hints(Scenario)
    for field in dataclasses.fields(Scenario):
        flag, text = "--" + field.name.replace("_", "-").lower(), field.metadata["help"].replace("%", "%%")
        text = f"{text} (default: {field.default})" if field.default != "" else text
        keywords: dict[str, Any] = {"dest": f"field_{field.name}", "default": None, "help": text}
        if hints[field.name] is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, **keywords)
        else:
            choices = (
                typing.get_args(hints[field.name]) if typing.get_origin(hints[field.name]) is typing.Literal else None
            )
            parser.add_argument(flag, choices=choices, metavar=None if choices else "X", **keywords)


def build(arguments: argparse.Namespace, defaults: dict[str, Any] | None = None, file: str | None = None) -> Scenario:
    """The scenario that the parsed options say: defaults of the verb, then the file, then the options."""
    file = file or getattr(arguments, "scenario", None)
    given = {
        name.removeprefix("field_"): value
        for name, value in vars(arguments).items()
        if name.startswith("field_") and value is not None
    }
    values = read_toml(file) if file else {}
    return from_mapping({**(defaults or {}), **values, **given}, file=file)
