"""The `ridgeline` command: one subcommand a file of `sim/commands/`.

Bad input ends with one line on standard error and exit code 2, a run in which nothing was served with 3, an interrupt
with 130. `--json -` writes the JSON to standard output, and what is for people to standard error.
"""

import argparse
import contextlib
import importlib
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from kernels.errors import InputError

OUTPUTS = ("json", "plot", "trace", "csv")  # options that name a file to write


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
        for field in OUTPUTS:
            _check_output(field, getattr(arguments, field, None))
        # JSON to standard output is for another program: what is for people goes to standard error
        piped = getattr(arguments, "json", None) == "-"
        with contextlib.redirect_stdout(sys.stderr) if piped else contextlib.nullcontext():
            return int(arguments.run(arguments) or 0)
    except InputError as error:
        print(f"ridgeline: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        print("ridgeline: interrupted", file=sys.stderr)
        return 130


def _check_output(field: str, path: str | None) -> None:
    """What cannot be written is said before the work, not after it."""
    if path is None or path == "-":
        return
    file = pathlib.Path(path)
    if file.is_dir() or not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
        raise InputError(f"cannot be written: --{field} names a file in a folder that is there", file=file)


if __name__ == "__main__":
    sys.exit(main())
