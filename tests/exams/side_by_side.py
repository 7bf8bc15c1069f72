"""Another program's plans beside ours, step for step."""

import dataclasses
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.exams.vllm_scheduler.cases import Case
from tests.exams.vllm_scheduler.ours import Plan

SHARE = 0.99  # of the cases of every class, whose plans are the same from the first step to the last


def planned(module: str, cases: Sequence[Case], folders: Sequence[Path]) -> list[list[Plan]]:
    """Plans of another program's scheduler, which `module` drives in a process of its own."""
    given = json.dumps([dataclasses.asdict(each) for each in cases])
    root = Path(__file__).parents[2]
    command = [sys.executable, "-W", "ignore", "-m", module, *map(str, folders)]
    done = subprocess.run(command, input=given, capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [
        [(start, {int(i): n for i, n in rows.items()}) for start, rows in plans] for plans in json.loads(done.stdout)
    ]


def compare(cases: Sequence[Case], theirs: Sequence[list[Plan]], ours: Callable[[Case], list[Plan]]) -> None:
    """Plans are the same in `SHARE` of the cases of every class."""
    same, count, differ = Counter[str](), Counter[str](), []
    for given, other in zip(cases, theirs, strict=True):
        plans, kind = ours(given), given.name.rpartition("-")[0]
        count[kind] += 1
        same[kind] += plans == other
        if plans != other:
            step = next(k for k in range(len(other) + 1) if plans[k : k + 1] != other[k : k + 1])
            differ.append(f"{given.name}: step {step} is {plans[step : step + 1]}, theirs {other[step : step + 1]}")
    short = {kind: f"{same[kind]} of {n}" for kind, n in count.items() if same[kind] < n * SHARE}
    assert not short, "\n".join([str(short), *differ[:10]])
