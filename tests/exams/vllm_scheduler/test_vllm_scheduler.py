"""vLLM's own scheduler beside the policy `vllm_v1`, step for step (`pytest -m nightly tests/exams`: many cases)."""

from pathlib import Path

import pytest

from sim.serving.engine_profile import load
from tests.exams.side_by_side import Exam
from tests.exams.vllm_scheduler import ours
from tests.exams.vllm_scheduler.cases import CLASSES, case
from tests.exams.wheels import unpacked

VERSIONS = {"0.15.1": "vllm_0.15", "0.33.0": "vllm_0.33"}
ONCE_DIFFERENT = {
    "four_stages_tight": (11, 21, 23),  # admitted again while a token was in flight
    "priority_tight": (147,),  # a plan preempts and schedules nothing
    "states_ahead_tight": (3,),  # preempted before its last token was heard of
}


def exam(version: str) -> Exam:
    """Of one version."""

    def wheels(folder: Path) -> tuple[Path, Path]:
        wheel = unpacked("vllm", version, folder, ("vllm/", f"vllm-{version}"))
        return wheel, unpacked("msgspec", "0.23.0", folder)

    profile = VERSIONS[version]
    own = load(profile).scheduler.find_state
    newer = ("states_", "interval")  # of the version 0.33
    kinds = tuple(kind for kind in CLASSES if own or not kind.startswith(newer) or kind == "states_alone")
    return Exam(kinds, case, "tests.exams.vllm_scheduler.theirs", wheels, lambda given: ours.run(given, profile))


def check(version: str, folder: Path, number: int) -> None:
    """`number` cases of every class."""
    given = exam(version)
    cases = [case(kind, k) for kind in given.classes for k in sorted({*range(number), *ONCE_DIFFERENT.get(kind, ())})]
    given.check(folder, cases)


@pytest.mark.parametrize("version", VERSIONS)
def test_plans_are_vllms(version: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    check(version, tmp_path_factory.mktemp("wheel"), 3)


@pytest.mark.nightly
@pytest.mark.parametrize("version", VERSIONS)
def test_plans_are_vllms_in_many_cases(version: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    check(version, tmp_path_factory.mktemp("wheel"), 200)
