"""vLLM's own scheduler beside the policy `vllm_v1`, step for step (`pytest -m nightly tests/exams`: many cases)."""

import dataclasses
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.exams.vllm_scheduler import ours
from tests.exams.vllm_scheduler.cases import CLASSES, Case, case
from tests.exams.wheels import unpacked

VERSIONS = {"0.15.1": "vllm_0.15", "0.33.0": "vllm_0.33"}
SHARE = 0.99  # of the cases of every class, whose plans are the same from the first step to the last
KNOWN: dict[tuple[str, str], float] = {}  # classes and versions below it, and their share


def planned_by_vllm(cases: list[Case], folders: list[Path]) -> list[list[ours.Plan]]:
    """Plans of vLLM's scheduler, made in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.exams.vllm_scheduler.theirs", *map(str, folders)]
    given = json.dumps([dataclasses.asdict(each) for each in cases])
    root = Path(__file__).parents[3]
    done = subprocess.run(command, input=given, capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [
        [(start, {int(i): n for i, n in rows.items()}) for start, rows in plans] for plans in json.loads(done.stdout)
    ]


def compare(version: str, folder: Path, number: int) -> None:
    """Plans of `number` cases of every class are the same in so many of them as the class promises."""
    wheel = unpacked("vllm", version, folder, ("vllm/", f"vllm-{version}"))
    needed = unpacked("msgspec", "0.23.0", folder)
    cases = [case(kind, k) for kind in CLASSES for k in range(number)]
    same, differ = Counter[str](), []
    for given, theirs in zip(cases, planned_by_vllm(cases, [wheel, needed]), strict=True):
        plans = ours.run(given, VERSIONS[version])
        kind = given.name.rpartition("-")[0]
        same[kind] += plans == theirs
        if plans != theirs:
            step = next(k for k in range(len(theirs) + 1) if plans[k : k + 1] != theirs[k : k + 1])
            differ.append(f"{given.name}: step {step} is {plans[step : step + 1]}, vLLM's {theirs[step : step + 1]}")
    short = {kind: same[kind] for kind in CLASSES if same[kind] < number * KNOWN.get((kind, version), SHARE)}
    assert not short, "\n".join([f"of {number}: {short}", *differ[:10]])


@pytest.mark.parametrize("version", VERSIONS)
def test_plans_are_vllms(version: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    compare(version, tmp_path_factory.mktemp("wheel"), 3)


@pytest.mark.nightly
@pytest.mark.parametrize("version", VERSIONS)
def test_plans_are_vllms_in_many_cases(version: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    compare(version, tmp_path_factory.mktemp("wheel"), 200)
