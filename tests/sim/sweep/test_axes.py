"""What a sweep varies: values, ranges that include their end, parts of a load or an option, and what is refused."""

import pytest

from kernels.errors import InputError
from sim.run.scenario import Scenario
from sim.sweep.axes import at, grid, parse_axes


def values(text: str) -> tuple[object, ...]:
    return parse_axes([text])[0].values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed=0:39:1", tuple(range(40))),
        ("seed=0:3", (0, 1, 2, 3)),
        ("seed=5", (5,)),
        ("seed=0:4:2,9", (0, 2, 4, 9)),
        ("memory_share=0.1:0.3:0.1", (0.1, 0.2, 0.3)),  # exact in decimal: not 0.30000000000000004
        ("policy=vllm_v1,sarathi:max_token=512,max_seq=8", ("vllm_v1", "sarathi:max_token=512,max_seq=8")),
        ("requests=poisson:rate=2,n=3;batch:n=2", ("poisson:rate=2,n=3", "batch:n=2")),
        ("prefix_cache=true,false", (True, False)),
        ("requests.rate=1:2:0.5", (1.0, 1.5, 2.0)),
        ("speculate=,chain:k=4", ("", "chain:k=4")),
    ],
)
def test_values(text: str, expected: tuple[object, ...]) -> None:
    assert values(text) == expected


def test_a_grid_has_the_last_axis_fastest() -> None:
    axes = parse_axes({"tp": [1, 2], "seed": "0:1:1"})
    assert list(grid(axes)) == [(1, 0), (1, 1), (2, 0), (2, 1)]


def test_parts_are_set_within_their_text() -> None:
    base = Scenario(requests="poisson:rate=2,n=10,prompt=lognormal:mean=100:max=300", policy="sarathi:max_seq=8")
    axes = parse_axes(["requests.rate=4", "requests.prompt.mean=50", "policy.max_token=256"])
    found = at(base, axes, (4, 50, 256))
    assert found.requests == "poisson:rate=4,n=10,prompt=lognormal:max=300:mean=50"
    assert found.policy == "sarathi:max_seq=8,max_token=256"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["sed=1"], "nearest: seed"),
        (["seed"], "not FIELD=VALUES"),
        ([], "names no field"),
        (["seed=1", "seed=2"], "given twice"),
        (["requests.rate=1", "requests=batch:n=2"], "whole and in part"),
        (["tp.x=1"], "has no parts"),
        (["requests.=1"], "not a part"),
        (["seed=0:10:3"], "an end of 9 or 12"),
        (["seed=3:1:1"], "not a range"),
        (["seed=0:1:0"], "not a range"),
        (["seed=0:1:0.5"], "not whole numbers"),
        (["seed=0:1e18:1"], "too many values"),
        (["seed=0:9999:1", "tp=1:9999:1"], "too many points"),
        ({"seed": []}, "has no values"),
    ],
)
def test_what_is_refused(given: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_axes(given)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed=1,x", "not a whole number"),
        ("tp=0", "out of range"),
        ("prefix_cache=maybe", "not true or false"),
        ("speculate.k=2", "is empty"),
        ("requests.prompt.mean=2", "has no prompt"),
    ],
)
def test_a_wrong_value_is_refused_where_the_scenario_is_made(text: str, words: str) -> None:
    axes = parse_axes([text])
    with pytest.raises(InputError, match=words):
        [at(Scenario(), axes, point) for point in grid(axes)]
