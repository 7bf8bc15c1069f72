"""Layers on the move: nothing lost, nothing sent twice, interleaved cuts send less."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.errors import InputError
from studies._migration import Worker, flows, holdings, migration_s


@settings(max_examples=30, deadline=None)
@given(
    before=st.lists(st.integers(1, 6), min_size=2, max_size=5), dp=st.integers(2, 5), stage=st.integers(0, 4),
    interleaved=st.booleans(),
)  # fmt: skip
def test_every_byte_has_a_holder_and_gets_there(before: list[int], dp: int, stage: int, interleaved: bool) -> None:
    failed = [(0, stage % len(before))]
    held = holdings(before, dp, failed, interleaved)
    assert sum(one.end - one.begin for one in held) == pytest.approx(sum(before))
    moved = flows(before, before, dp, failed, interleaved=interleaved)
    # the other stages stay as they are; what the lost one held has to come from its snapshot or lie there already
    stages = {worker[1] for pair in moved for worker in pair}
    assert stages <= {stage % len(before)}
    own = before[stage % len(before)]
    received: dict[Worker, float] = {}
    for (_, to), share in moved.items():
        received[to] = received.get(to, 0.0) + share
    assert max([*received.values(), 0.0]) <= own / (dp - 1) + 1e-9  # nobody receives more than it then holds


def test_interleaved_cuts_send_only_what_moves() -> None:
    # 4 layers on 2 replicas, one leaves stage 0: half of it from each replica to the like one
    assert flows([4, 4], [3, 5], 2, [], interleaved=True) == {((0, 0), (0, 1)): 0.5, ((1, 0), (1, 1)): 0.5}
    # contiguous: cuts at 1.5 instead of 2 and at 5.5 instead of 6, and the layer itself on the first replica's side
    assert flows([4, 4], [3, 5], 2, [], interleaved=False) == {
        ((0, 0), (1, 0)): 0.5, ((1, 0), (0, 1)): 1.0, ((0, 1), (1, 1)): 0.5,
    }  # fmt: skip
    assert migration_s([4, 4], [3, 5], 2, [], 10.0, 5.0, interleaved=True) == pytest.approx(
        1.0
    )  # half of 10 B at 5 B/s
    assert migration_s([4, 4], [3, 5], 2, [], 10.0, 5.0, interleaved=False) == pytest.approx(2.0)


def test_layers_are_kept() -> None:
    with pytest.raises(InputError, match="as many layers"):
        flows([4, 4], [3, 4], 2, [], interleaved=True)
