"""`python -m tests.exams EXAM [NUMBER [CLASS ...]]`: of NUMBER cases of each class, how many have the plans of another
program's scheduler from the first step to the last; EXAM is one of `EXAMS`."""

import sys
from pathlib import Path

from tests.exams.sglang_scheduler import test_sglang_scheduler as sglang
from tests.exams.side_by_side import differences
from tests.exams.vllm_scheduler import test_vllm_scheduler as vllm

EXAMS = {f"vllm-{version}": vllm.exam(version) for version in vllm.VERSIONS} | {f"sglang-{sglang.VERSION}": sglang.EXAM}


def main(name: str, number: str = "200", *kinds: str) -> None:
    """Prints a line a class as it is done, then those that differ."""
    exam = EXAMS[name]
    for kind in kinds or exam.classes:
        cases = [exam.case(kind, k) for k in range(int(number))]
        differ = differences(exam, cases, Path("wheels"))
        print(f"{name} {kind}: {len(cases) - len(differ)} of {len(cases)}", flush=True)
        for line in differ[:10]:
            print(f"  {line}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
