"""The `ridgeline` command: one subcommand a file of `sim/commands/`.

Bad input ends with one line on standard error and exit code 2, a run in which nothing was served with 3, an interrupt
with 130, another signal with 128 and its number. `--json -` writes the JSON to standard output, and what is for people
to standard error.
"""

import argparse
import contextlib
import gc
import importlib
import io
import math
import os
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from kernels import blame
from kernels.errors import InputError, printable
from sim.record.write import check_folder, check_output, is_special
from sim.run import stop
from sim.run.scenario_arguments import named

OUTPUTS = ("json", "plot", "trace", "csv", "html", "markdown", "junit")  # options that name a file to write
FOLDERS = ("simulate", "quickstart")  # verbs whose `--out` names a folder


MOST_INTEGER = 1 << 64  # of an option that says no range of its own: every float holds it


def _whole(text: str) -> int:
    value = int(text)
    if abs(value) > MOST_INTEGER:
        raise argparse.ArgumentTypeError(f"beyond what there is: {text!r}; allowed: up to {MOST_INTEGER}")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"not a finite number: {text!r}")
    return value


class _Parser(argparse.ArgumentParser):
    """One line instead of a usage page, so that a script's log names what is wrong; numbers that are numbers."""

    def add_argument(self, *names: Any, **more: Any) -> argparse.Action:
        """As argparse's; a whole number is bounded, a float finite."""
        kind = more.get("type")
        if kind in (int, float):
            more["type"] = _whole if kind is int else _finite
        return super().add_argument(*names, **more)

    def error(self, message: str) -> NoReturn:
        verb = self.prog.removeprefix("ridgeline").strip()
        message = re.sub(r"(\S{40})\S{40,}(\S{10})", r"\1...\2", message)
        message = message.replace("_whole value", "int value").replace("_finite value", "float value")
        raise InputError(f"{verb}: {message}" if verb else message)


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
    if argv is None:  # a process of its own: it loads many objects and drops few
        gc.set_threshold(100_000, 50, 100)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a name that its encoding does not have is written out
                stream.reconfigure(errors="backslashreplace")
    try:
        with stop.signals(last=argv is None):
            return _run(sys.argv[1:] if argv is None else list(argv))
    except InputError as error:
        return _refuse(str(error), error.exit_code)
    except BrokenPipeError:
        _drop_output()
        return 0
    except OSError as error:
        _drop_output()
        where = error.filename or "standard output"
        return _refuse(f"{where}: {error.strerror or error}")
    except MemoryError:
        return _refuse("this needs more memory than there is")
    except KeyboardInterrupt:
        _refuse(stop.said())
        return stop.exit_code()
    except (Exception, SystemExit) as error:  # in a user's own code: its file and line; else a fault of ours
        found = blame.blame(error)
        if found is None:
            raise
        return _refuse(str(found))


def _run(words: list[str]) -> int:
    for word in words:
        if re.fullmatch("--[^=]+=--", word):  # argparse would take it for the end of the options
            raise InputError("is no value", field=word[2:-3], value="--")
    chosen = next((word for word in words if not word.startswith("-")), "")
    arguments = build_parser(chosen).parse_args(words)
    met: dict[str, str] = {}
    for field in OUTPUTS:
        path = getattr(arguments, field, None)
        if path is not None and not (path == "-" and field == "json"):
            check_output(path, field)
            first = met.setdefault(os.path.realpath(path), field)
            if first != field and not is_special(path):
                raise InputError(f"would replace what --{first} writes", field=field, value=path)
    if arguments.command in FOLDERS and getattr(arguments, "out", None) is not None:
        check_folder(arguments.out, "out")
    if any(getattr(arguments, field, None) for field in ("plot", "out")):
        _keep_fonts()
    # JSON to standard output is for another program: what is for people goes to standard error
    piped = getattr(arguments, "json", None) == "-"
    with contextlib.redirect_stdout(sys.stderr) if piped else contextlib.nullcontext(), named(arguments):
        code = int(arguments.run(arguments) or 0)
    if sys.stdout is not None:
        sys.stdout.flush()  # a full disk behind it is said here
    if code != stop.EXIT_INTERRUPTED:
        return code
    return _refuse(f"{stop.said()}: what was done until then is kept, marked as not complete", stop.exit_code())


def _keep_fonts() -> None:
    """What matplotlib writes when it is first imported (the fonts that it found) goes into the cache."""
    from kernels import cache

    held = cache.base()
    if held is not None:
        os.environ.setdefault("MPLCONFIGDIR", str(held / "matplotlib"))


def _refuse(message: str, code: int = 2) -> int:
    with contextlib.suppress(OSError, AttributeError):  # nobody may be there to read it
        print(f"ridgeline: {printable(message)}", file=sys.stderr)
    return code


def _drop_output() -> None:
    """What standard output still holds goes nowhere: Python would try to write it once more as it ends."""
    if sys.stdout is sys.__stdout__ and sys.stdout is not None:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
