"""The `ridgeline` command: one subcommand a file of `sim/commands/`.

Bad input ends with one line on standard error and exit code 2; an interrupt with 130.
"""

import argparse
import importlib
import pathlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from kernels.errors import InputError


class _Parser(argparse.ArgumentParser):
    """One line instead of a usage page, so that a script's log names what is wrong."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{self.prog}: {message}")


def build_parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """The parser with every subcommand found in `sim/commands/`; with `chosen`, only that one gets its options
    (so that `ridgeline --help` and every verb load nothing that they do not need)."""
    parser = _Parser(prog="ridgeline", description="Simulate the machines that run large models.", allow_abbrev=False)
    verbs = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for path in sorted((pathlib.Path(__file__).parent / "commands").glob("[a-z]*.py")):
        module = importlib.import_module(f"sim.commands.{path.stem}")
        verb = verbs.add_parser(path.stem, help=module.HELP, description=module.HELP, allow_abbrev=False)
        if chosen in (None, path.stem):
            module.add_arguments(verb)
        verb.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    try:
        words = sys.argv[1:] if argv is None else list(argv)
        chosen = next((word for word in words if not word.startswith("-")), "")
        arguments = build_parser(chosen).parse_args(words)
        return int(arguments.run(arguments) or 0)
    except InputError as error:
        print(f"ridgeline: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        print("ridgeline: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
