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


@dataclasses.dataclass(frozen=True)
class Exam:
    """Cases, and who plans them."""

    classes: Sequence[str]
    case: Callable[[str, int], Case]  # the n-th of a class
    module: str  # drives the other program, in a process of its own
    wheels: Callable[[Path], Sequence[Path]]  # its wheels, unpacked (below the folder, where none is kept)
    ours: Callable[[Case], list[Plan]]

    def check(self, folder: Path, cases: Sequence[Case]) -> None:
        """Plans are the same in `SHARE` of the cases of every class."""
        differ = differences(self, cases, folder)
        count = Counter(_class(each.name) for each in cases)
        missed = Counter(_class(line.partition(":")[0]) for line in differ)
        short = {kind: f"{missed[kind]} of {n} differ" for kind, n in count.items() if missed[kind] > n * (1 - SHARE)}
        assert not short, "\n".join([str(short), *differ[:10]])


def _class(name: str) -> str:
    return name.rpartition("-")[0]


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


def differences(exam: Exam, cases: Sequence[Case], folder: Path) -> list[str]:
    """A line a case whose plans differ: its name, and the first step that does."""
    found = []
    for given, theirs in zip(cases, planned(exam.module, cases, exam.wheels(folder)), strict=True):
        plans = exam.ours(given)
        if plans != theirs:
            step = next(k for k in range(len(theirs) + 1) if plans[k : k + 1] != theirs[k : k + 1])
            found.append(f"{given.name}: step {step} is {plans[step : step + 1]}, theirs {theirs[step : step + 1]}")
    return found
