"""A worker process of a sweep: a point a line on standard input, an answer a line on standard output."""

import json
import os
import sys
import traceback
from collections.abc import Mapping
from typing import Any

from hw_models.process import end_with_parent
from kernels import blame
from kernels.errors import InputError
from sim.sweep.point import run_point


def answered(key: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A point's row, or what was wrong, as plain values."""
    try:
        return {"key": key, "row": run_point(key, fields)}
    except InputError as error:
        return {"key": key, "refused": str(error)}
    except Exception as error:
        found = blame.blame(error)  # a user's own code: its file and line
        return {"key": key} | ({"fault": traceback.format_exc()} if found is None else {"refused": str(found)})


def main() -> None:
    """Until standard input ends."""
    end_with_parent()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a user's file prints is no answer
    for line in sys.stdin.buffer:
        key, fields = json.loads(line)
        said = answered(key, fields)
        out.write(json.dumps(_plain(said)).encode() + b"\n")
        out.flush()


def _plain(said: dict[str, Any]) -> Any:
    from sim.record.provenance import canonical

    return canonical(said)


if __name__ == "__main__":
    main()
