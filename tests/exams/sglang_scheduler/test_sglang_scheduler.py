"""SGLang's own admission and radix tree beside the policy `sglang`, step for step."""

from pathlib import Path

import pytest

from tests.exams.sglang_scheduler.cases import CLASSES, case
from tests.exams.side_by_side import Exam
from tests.exams.vllm_scheduler import ours
from tests.exams.wheels import unpacked

VERSION = "0.5.23"


def _wheels(folder: Path) -> tuple[Path, Path]:
    inside = ("sglang/", f"sglang-{VERSION}")
    return unpacked("sglang", VERSION, folder, inside), unpacked("msgspec", "0.23.0", folder)


EXAM = Exam(
    CLASSES, case, "tests.exams.sglang_scheduler.theirs", _wheels, lambda given: ours.run(given, "sglang", "sglang")
)


def check(folder: Path, number: int) -> None:
    """`number` cases of every class."""
    EXAM.check(folder, [case(kind, k) for kind in CLASSES for k in range(number)])


def test_plans_are_sglangs(tmp_path_factory: pytest.TempPathFactory) -> None:
    check(tmp_path_factory.mktemp("wheel"), 3)


@pytest.mark.nightly
def test_plans_are_sglangs_in_many_cases(tmp_path_factory: pytest.TempPathFactory) -> None:
    check(tmp_path_factory.mktemp("wheel"), 200)
