"""TETRIS as a progress model: what it is where tokens are alike, and what choosing brings."""

import pytest

from studies import tetris
from studies._gpt import llama
from studies._speculate import Decoded, decode
from workloads.models.tensors import num_param

MODEL = llama("tiny", 512, 2, 8, 8, 1408, 8000)


def decoded(progress: str) -> Decoded:
    return decode(MODEL, "a100_sxm_80gb", "bf16", 8, 32, 48, progress=progress, draft=MODEL)


@pytest.mark.parametrize("select", [0, 1])
def test_tokens_that_are_alike_are_a_chain(select: int) -> None:
    assert decoded(f"tetris:k=3,accept=0.7,select={select}") == decoded("chain:k=3,accept=0.7")


def test_chosen_tokens_hold_more_and_nothing_else_is_verified() -> None:
    first = decoded("tetris:k=3,accept=0.6,spread=0.4,select=0")
    chosen = decoded("tetris:k=3,accept=0.6,spread=0.4,extra=3")
    assert chosen.verified > first.verified
    assert chosen.drafted <= 3.0
    assert chosen.passes > first.passes


def test_no_room_above_the_mean_leaves_nothing_to_choose() -> None:
    """Nothing more is drafted than is verified: every sequence has its `k`."""
    assert decoded("tetris:k=2,accept=0.6,spread=0.3") == decoded("tetris:k=2,accept=0.6,spread=0.3,select=0")


def test_the_draft_has_the_size_of_its_name() -> None:
    assert num_param(tetris.DRAFT) == pytest.approx(68e6, rel=0.02)
    assert num_param(tetris.MODEL) == pytest.approx(33e9, rel=0.03)
