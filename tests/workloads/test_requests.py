"""`Requests`: size, checks, slices, hash, shared prefixes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.errors import InputError, NothingServedError
from workloads.load import load_requests
from workloads.requests import build, describe, digest, head, scale_rate, shared_prefix_token, take


def test_a_request_takes_less_than_60_byte() -> None:
    requests = load_requests("poisson:rate=2,n=1000,prompt=100,output=10")
    assert requests.nbyte / len(requests) < 60


@pytest.mark.parametrize(
    "change",
    [
        {"arrival_ps": [5, 1]}, {"arrival_ps": [-1, 0]}, {"arrival_ps": [0, 10**19]}, {"arrival_ps": [0, float("nan")]},
        {"prompt_token": [0, 1]}, {"prompt_token": [1, 2**24 + 1]}, {"output_token": [-4, 1]}, {"output_token": [3]},
        {"priority": [0, 128]}, {"parent": [1, -1]}, {"parent": [-2, -1]}, {"parent": [0, -1]}, {"think_ps": [-1, 0]},
        {"unit_start": [0, 1], "unit_stop": [0, 0], "unit_id": [0]}, {"unit_stop": [0, 3], "unit_id": [0, 1]},
        {"unit_stop": [2, 0], "unit_id": [0, 1]},  # 32 tokens named of a request of 4
        {"unit_id": [-1]}, {"unit_token": 0},
    ],
)  # fmt: skip
def test_what_is_refused(change: dict) -> None:
    with pytest.raises(InputError):
        build(**{"arrival_ps": [0, 1], "prompt_token": [2, 2], "output_token": [2, 2], **change})


def test_an_empty_load_is_refused() -> None:
    with pytest.raises(NothingServedError, match="holds no request"):
        build([], [], [])


def test_slices_cut_chains_and_keep_the_rest() -> None:
    requests = build([0, 1, 2], [4, 5, 6], [1, 1, 1], parent=[-1, 0, 1], think_ps=[0, 7, 8])
    tail = take(requests, 1, 3)
    assert tail.parent.tolist() == [-1, 0]  # request 1 has lost its parent, 2 waits for 1
    assert tail.arrival_ps.tolist() == [1, 2]
    assert head(requests, 2).prompt_token.tolist() == [4, 5]
    for count in (0, 4):
        with pytest.raises(InputError):
            head(requests, count)
    with pytest.raises(InputError):
        take(requests, 2, 2)
    with pytest.raises(InputError):
        scale_rate(requests, 0.0)


def test_the_hash_sees_every_array_and_nothing_else() -> None:
    base = {"arrival_ps": [0, 1], "prompt_token": [40, 40], "output_token": [2, 2], "unit_id": [0, 1]}
    changes = [
        {"arrival_ps": [0, 2]}, {"prompt_token": [40, 41]}, {"output_token": [2, 3]}, {"predicted_token": [2, 3]},
        {"priority": [0, 1]}, {"unit_stop": [0, 1]}, {"unit_id": [0, 2]}, {"unit_token": 8}, {"parent": [-1, 0]},
        {"think_ps": [0, 1]}, {"unit_start": [1, 0], "unit_stop": [1, 0]},
    ]  # fmt: skip
    hashes = {digest(build(**{**base, **change})) for change in changes}
    assert len(hashes) == len(changes)
    assert digest(build(**base)) not in hashes
    assert digest(build(**base)) == digest(build(**base, note="a note"))
    assert digest(build([0, 1], [40, 40], [2, 2])) == "86d1c858bac86828"  # changes when results would


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), max_size=6), min_size=1, max_size=12))
def test_shared_prefix_equals_a_search_through_a_set(ids: list[list[int]]) -> None:
    """Hash chains: an id stands for its block and all before it, so here ids carry their whole prefix."""
    names: dict[tuple, int] = {}
    chains = [[names.setdefault(tuple(row[: j + 1]), len(names)) for j in range(len(row))] for row in ids]
    stop = np.cumsum([len(row) for row in chains])
    requests = build(
        np.arange(len(ids)), [16 * max(len(row), 1) for row in ids], np.ones(len(ids), int),
        unit_start=stop - [len(row) for row in chains], unit_stop=stop, unit_id=[x for row in chains for x in row],
    )  # fmt: skip
    seen: set[int] = set()
    expected = []
    for row in chains:
        hit = next((j for j, name in enumerate(row) if name not in seen), len(row))
        expected.append(16 * hit)
        seen |= set(row)
    assert shared_prefix_token(requests).tolist() == expected


def test_describe_by_hand() -> None:
    requests = build([0, 10**12, 3 * 10**12], [10, 20, 60], [1, 2, 3])
    found = describe(requests)
    assert found["duration_s"] == 3.0
    assert found["request_per_s"] == pytest.approx(2 / 3)  # two gaps in 3 s
    assert found["arrival_cv"] == pytest.approx(1 / 3)  # gaps 1 and 2: mean 1.5, deviation 0.5
    assert (found["prompt_token_mean"], found["prompt_token_sum"], found["output_token_p50"]) == (30.0, 90, 2.0)
    assert found["shared_prefix_share"] == 0.0
