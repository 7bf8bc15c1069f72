"""An error in a user's own code (a policy, a router, a schedule) as one line with the file and line of that code."""

import sys
from collections.abc import Iterable
from types import CodeType, ModuleType

from kernels import turns
from kernels.errors import InputError

FILES: set[str] = set()
"""Files of users' code that this process runs, under the names that their code objects carry."""
MAX_SOURCE_BYTE = 1 << 24


def run_source(source: bytes, path: str, module: ModuleType, what: str, is_bounded: bool = True) -> None:
    """Run a user's file as `module`, from its text, its loops counted where it `is_bounded`, and leaving no bytecode
    beside it; whatever it raises, `sys.exit` included, is an `InputError` that names its line."""
    FILES.add(path)
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        text = turns.bounded(source, path, module.__dict__) if is_bounded else source
        code: CodeType = compile(text, path, "exec", dont_inherit=True)
        exec(code, module.__dict__)
    except KeyboardInterrupt:
        raise
    except SyntaxError as error:
        raise InputError(f"cannot be read as a {what}: {error.msg}", file=error.filename or path,
                         line=error.lineno) from None  # fmt: skip
    except BaseException as error:
        if isinstance(error, InputError) and error.file is not None:
            raise
        found = blame(error, [path])
        raise found or InputError(f"cannot be read as a {what}: {describe(error)}", file=path) from error
    finally:
        sys.dont_write_bytecode = written


def blame(error: BaseException, files: Iterable[str] = ()) -> InputError | None:
    """The error as one of the last line of users' code that it passed through (compiled code too: numba adds its
    frames); None where it passed through none. `files`: of users' code, beside `FILES`."""
    known = FILES | set(files)
    found: BaseException | None = error
    while found is not None:  # SimPy raises a copy, whose cause is what was raised
        place: tuple[str, int] | None = None
        trace = found.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename in known:
                place = (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
            trace = trace.tb_next
        if place is not None:
            return InputError(describe(found), file=place[0], line=place[1])
        found = found.__cause__
    return None


def describe(error: BaseException) -> str:
    """What was raised, in words of one line.

    >>> describe(ValueError("no such thing")), describe(SystemExit(3))
    ('ValueError: no such thing', 'calls sys.exit(3)')
    """
    if isinstance(error, SystemExit):
        return f"calls sys.exit({error.code if error.code is not None else ''})"
    text = " ".join(str(error).split())
    text = text if len(text) <= 200 else text[:197] + "..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
