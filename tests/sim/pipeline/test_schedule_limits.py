"""Schedules at the edge: times, hops, memory and sizes beyond what integer ticks hold are refused with their range."""

from typing import Any

import pytest

from kernels.errors import InputError
from sim.cli import main
from sim.pipeline.schedule_run import simulate_schedule

BIG = 2**63 - 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times": (BIG, 1, 1)}, f"times = {BIG}: out of range; allowed: 0 to {2**62}"),
        ({"times": (1, 10**30, 1)}, "times = 1000000000000000000000000000000: out of range"),
        ({"times": (1, -1, 1)}, "times = -1: out of range"),
        ({"times": (1.5, 1, 1)}, "times = 1.5: one integer for all stages, or one a stage"),
        ({"times": (True, 1, 1)}, "times = True: one integer"),
        ({"hop": BIG}, f"hop = {BIG}: out of range"),
        ({"hop": 10**30}, "hop = 1000000000000000000000000000000: out of range"),
        ({"recompute": BIG}, f"recompute = {BIG}: out of range"),
        ({"memory": (BIG, 0, -1)}, f"memory = {BIG}: out of range; allowed: -1000000000000 to 1000000000000"),
        # 4 ranks x 8 microbatches x 3 kinds x 2 chunks = 192 operations: (2^62 / 192) / 2 for the pair / 3 terms
        ({"times": (2**61, 0, 0)}, f"times = {2**61}: 192 operations of it may pass 2^62; allowed: 0 to "),
        ({"hop": 2**61}, f"hop = {2**61}: 192 operations of it may pass 2^62; allowed: 0 to {2**62 // 192 // 3}"),
    ],
)
def test_what_ticks_cannot_hold_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        simulate_schedule("zb-v", 4, 8, **change)
    assert str(caught.value).startswith(message)


def test_the_largest_times_allowed_end_after_they_begin() -> None:
    largest = 2**62 // 192 // 2 // 3
    op = simulate_schedule("zb-v", 4, 8, times=(largest, 0, 0))[1].op
    assert (op["end"] >= op["start"]).all()
    assert op["end"].max() >= 16 * largest  # of one rank: 8 microbatches of 2 chunks, one after another


@pytest.mark.parametrize(
    ("stages", "microbatches", "message"),
    [
        (10**9, 8, "stages = 1000000000: too many; allowed: 1 to 2000000"),
        (4, 10**9, "microbatches = 1000000000: too many; allowed: 1 to 2000000"),
        (2000, 2000, "microbatches = 2000: too many operations for 2000 ranks; allowed: 1 to 1000"),
    ],
)
def test_more_operations_than_a_minute_replays_are_refused(stages: int, microbatches: int, message: str) -> None:
    with pytest.raises(InputError) as caught:
        simulate_schedule("1f1b", stages, microbatches)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "words", [["--times", "9223372036854775807,1,1"], ["--hop", "9" * 30], ["--memory", "1e9,0,0"]]
)
def test_the_command_line_says_so_in_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schedule", "1f1b", "--stages", "2", "--microbatches", "2", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
