"""Loads as text and tables: round trips, independence of components, prefixes, sessions, fuzz."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.errors import InputError
from workloads.generators import BODY, OPEN, PROCESSES
from workloads.lengths import quantile
from workloads.load import Load, load_requests, parse_load
from workloads.requests import Requests, describe, digest, shared_prefix_token

SPEC = "poisson:rate=2,n=1000,prompt=lognormal:mean=1064:max=3000,output=lognormal:mean=247:max=1000"
SPECS = [
    SPEC,
    "conversation",
    "conversation:rate=3,n=50,priority=0.5+0.5,predict_sigma=0.4",
    "gamma:rate=2,cv=2.5,duration_s=30,prompt=uniform:min=1:max=9,output=uniform:min=1:max=9,corr=-0.5",
    "constant:rate=5,n=90,num_system_prompt=3,num_user_per_system_prompt=2,system_prompt_len=100,prompt=466,output=247",
    "staged:stages=5:10+0:5+2.5:20,cv=0,prompt=7,output=3",
    "poisson:rate=1,n=200,turns=uniform:min=1:max=9,think_s=10,think_cv=1,prompt=100,output=20,num_system_prompt=2,"
    "system_prompt_len=70",
    "closed_loop:users=7,n=100,think_s=2,prompt=9,output=zipf:alpha=1:max=50",
    "batch:n=20,prompt=4,output=4,num_system_prompt=2,system_prompt_len=64,unit_token=32",
]


@pytest.mark.parametrize("text", SPECS)
def test_text_table_and_requests_agree(text: str) -> None:
    load = parse_load(text)
    assert parse_load(str(load)) == load
    assert parse_load(load.table()) == load
    first, again, by_table = (load_requests(given, seed=3) for given in (text, load, load.table()))
    assert digest(first) == digest(again) == digest(by_table)
    assert digest(first) != digest(load_requests(load, seed=4)) or text.startswith(("constant", "staged", "batch"))
    describe(first)


def test_the_number_of_requests_is_the_one_asked_for() -> None:
    for text in SPECS:
        values = dict(parse_load(text).values)
        if "n" in values:
            assert len(load_requests(text)) == values["n"]
    assert len(load_requests("conversation")) == 1000
    assert len(load_requests("staged:stages=5:10+0:5+2.5:20,cv=0,prompt=7,output=3")) == 100  # 5 x 10 + 2.5 x 20


def columns(requests: Requests) -> dict[str, list]:
    return {key: value.tolist() for key, value in vars(requests).items() if isinstance(value, np.ndarray)}


def test_a_component_never_moves_another() -> None:
    base = columns(load_requests(SPEC))
    for extra, moved in [
        (",priority=0.3+0.7", {"priority"}),
        (",predict_sigma=0.5", {"predicted_token"}),
        (",num_system_prompt=4,system_prompt_len=16", {"prompt_token", "unit_start", "unit_stop", "unit_id"}),
        (",corr=0.5", {"output_token", "predicted_token"}),
    ]:
        other = columns(load_requests(SPEC + extra))
        assert {key for key in base if base[key] != other[key]} == moved
    faster = columns(load_requests(SPEC.replace("rate=2", "rate=4")))
    assert {key for key in base if base[key] != faster[key]} == {"arrival_ps"}
    fewer = columns(load_requests(SPEC.replace("n=1000", "n=10")))
    assert all(fewer[key] == base[key][:10] for key in base)


def test_conversation_has_the_published_moments() -> None:
    """Means 1155 and 211 (Splitwise, ISCA 2024), 5.53 requests a second, gap variation 1.09."""
    requests = load_requests("conversation:n=100000", seed=1)
    found = describe(requests)
    for name, mean in (("prompt_token", 1155), ("output_token", 211)):
        assert abs(found[f"{name}_mean"] - mean) < 5 * found[f"{name}_std"] / np.sqrt(len(requests))
    assert abs(found["request_per_s"] / 5.53 - 1) < 5 * 1.09 / np.sqrt(len(requests))
    assert abs(found["arrival_cv"] / 1.09 - 1) < 0.03  # 5 standard errors of a deviation: about 1/sqrt(2n) x 2.4 x 5
    assert found["prompt_token_max"] + found["output_token_max"] <= 8192


def test_correlated_lengths_keep_their_distributions() -> None:
    requests = load_requests("batch:n=50000,prompt=lognormal:mean=500,output=lognormal:mean=200,corr=0.6")
    logs = np.log([requests.prompt_token, requests.output_token])
    assert np.corrcoef(logs)[0, 1] == pytest.approx(0.6, abs=5 * (1 - 0.36) / np.sqrt(50_000) + 0.005)  # and rounding
    assert abs(requests.output_token.mean() - 200) < 5 * requests.output_token.std() / np.sqrt(50_000)


def test_predictor_error_is_lognormal() -> None:
    requests = load_requests("batch:n=50000,prompt=1,output=10000,predict_sigma=0.3")
    error = np.log(requests.predicted_token / requests.output_token)
    assert abs(error.mean()) < 5 * 0.3 / np.sqrt(50_000)
    assert error.std() == pytest.approx(0.3, abs=5 * 0.3 / np.sqrt(2 * 50_000))


def test_priorities_come_in_their_shares() -> None:
    requests = load_requests("batch:n=40000,prompt=1,output=1,priority=0.7+0+0.3")
    share = np.bincount(requests.priority, minlength=3) / 40_000
    assert share[1] == 0
    assert abs(share[0] - 0.7) < 5 * np.sqrt(0.7 * 0.3 / 40_000)


def test_system_prompts_share_their_whole_units() -> None:
    """Two prompts of 70 tokens: 4 whole units of 16 each; the first request of each finds nothing."""
    requests = load_requests("batch:n=50,prompt=30,output=4,num_system_prompt=2,system_prompt_len=70")
    assert (requests.prompt_token == 100).all()
    assert requests.num_unit == 8
    shared = shared_prefix_token(requests)
    assert sorted(shared)[:2] == [0, 0]
    assert sorted(shared)[2:] == [64] * 48


def test_repeating_prompts_are_few_and_equally_frequent() -> None:
    """3 x 2 distinct prompts of 100 + 466 tokens: 35 whole units; after a round everything is known."""
    requests = load_requests(SPECS[4])
    assert (requests.prompt_token == 566).all()
    kinds, count = np.unique(requests.unit_start, return_counts=True)
    assert len(kinds) == 6
    assert set(count) == {15}
    shared = shared_prefix_token(requests)
    assert (shared[6:] == 560).all()
    assert sorted(shared[:6]) == [0] * 3 + [96] * 3  # a system prompt's second user finds its 6 whole units
    assert requests.num_unit == 3 * 6 + 6 * (35 - 6)


def test_sessions_grow_their_history() -> None:
    requests = load_requests(SPECS[6])
    child = np.flatnonzero(requests.parent >= 0)
    mother = requests.parent[child]
    assert (requests.prompt_token[child] == requests.prompt_token[mother] + requests.output_token[mother] + 100).all()
    assert (requests.prompt_token[requests.parent < 0] == 170).all()  # 70 of system, 100 of question
    assert (requests.unit_start[child] == requests.unit_start[mother]).all()  # one stream of units a session
    # a turn finds everything of its mother's that fills units, answer included
    told = requests.prompt_token[mother] + requests.output_token[mother]
    assert (requests.unit_stop[mother] - requests.unit_start[mother] == -(-told // 16)).all()
    assert (shared_prefix_token(requests)[child] >= told // 16 * 16).all()
    assert requests.think_ps[requests.parent < 0].sum() == 0


def test_closed_loop_users_take_turns() -> None:
    requests = load_requests("closed_loop:users=7,n=100,think_s=2,prompt=9,output=5")
    assert (requests.parent < 0).sum() == 7
    assert (np.bincount(requests.parent[requests.parent >= 0], minlength=100) <= 1).all()
    assert (requests.think_ps[requests.parent >= 0] == 2 * 10**12).all()
    assert (load_requests("closed_loop:users=7,n=3,prompt=9,output=5").parent == -1).all()  # more users than requests


def test_pairs_are_drawn_together(tmp_path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("1,100\n2,200\n3,300\n")
    requests = load_requests(f"poisson:rate=1,n=500,pairs={file}")
    assert (requests.output_token == 100 * requests.prompt_token).all()
    assert set(requests.prompt_token) == {1, 2, 3}


BAD = [
    "", ":", "poisson", "poisson:", "poisson:rate=2", "poisson:rate=2,n=5", "poisson:rate=2,n=5,prompt=4",
    "poisson:rate=0,n=5,prompt=4,output=4", "poisson:rate=nan,n=5,prompt=4,output=4",
    "poisson:rate=-1,n=5,prompt=4,output=4", "poisson:rate=2,n=5.5,prompt=4,output=4",
    "poisson:rate=2,n=0,prompt=4,output=4", "poisson:rate=2,n=5,n=6,prompt=4,output=4",
    "poisson:rate=2,n=5,duration_s=4,prompt=4,output=4", "poisson:rate=2,n=5,cv=1,prompt=4,output=4",
    "gamma:rate=2,n=5,prompt=4,output=4", "poisson:rate=2,n=5,prompt=4,output=4,priority=0.5",
    "poisson:rate=1e-6,n=1000,prompt=1,output=1", "staged:stages=5,prompt=4,output=4",
    "staged:stages=0:5,prompt=4,output=4", "staged:stages=5:x,prompt=4,output=4",
    "staged:stages=1000000:9000000,prompt=4,output=4", "closed_loop:n=5,prompt=4,output=4",
    "batch:n=5,prompt=4,output=4,rate=2", "batch:n=5,prompt=4,output=4,system_prompt_len=4",
    "batch:n=5,prompt=16777216,output=1,num_system_prompt=1,system_prompt_len=9",
    "poisson:rate=1,n=9,prompt=4,output=4,think_s=3", "poisson:rate=1,n=9,prompt=9999999,output=9999999,turns=9",
    "poisson:rate=1,n=9,prompt=4,output=4,turns=2,num_system_prompt=2,num_user_per_system_prompt=2,system_prompt_len=0",
    "batch:n=5,prompt=4,output=4,num_system_prompt=1e6,num_user_per_system_prompt=1e6,system_prompt_len=4",
    "batch:n=5,prompt=4,output=4,num_system_prompt=1e6,system_prompt_len=9e6",
    "batch:n=5,prompt=4,output=4,pairs=/nowhere", "batch:n=5,pairs=/nowhere/x.csv", "azure:", "azure:/nowhere/x.csv",
    "/nowhere/x.csv",
]  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_bad_loads_are_input_errors(text: str) -> None:
    with pytest.raises(InputError) as caught:
        load_requests(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("poison:rate=2", "poisson"),
        ("poisson:rat=2,n=4", "rate"),
        ("poisson:rate=2,n=4,promt=3", "prompt"),
        ("azur:x.csv", "azure"),
    ],
)
def test_unknown_names_say_the_nearest(text: str, near: str) -> None:
    with pytest.raises(InputError, match=f"nearest: {near}"):
        load_requests(text)


def test_a_table_with_unknown_or_mistyped_values() -> None:
    for table in (
        {}, {"source": "poisson", "rte": 1}, {"source": "poisson", "rate": True, "n": 1, "prompt": 1, "output": 1},
        {"source": "poisson", "rate": 1, "n": 1, "prompt": [1], "output": 1}, {"source": 3}, {"file": "/nowhere"},
        {"source": "poisson", "rate": 1, "n": 1, "prompt": {"distribution": "fixed", "token": True}, "output": 1},
        {"source": "staged", "stages": [[1]], "prompt": 1, "output": 1},
        {"source": "staged", "stages": 4, "prompt": 1, "output": 1},
    ):  # fmt: skip
        with pytest.raises(InputError):
            load_requests(table)


words = st.sampled_from(
    [
        *PROCESSES,
        *OPEN,
        *BODY,
        "lognormal",
        "mean",
        "max",
        "stages",
        "users",
        ":",
        "=",
        ",",
        "+",
        "2",
        "0.5",
        "-1",
        "nan",
        "1e99",
        "%",
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SPECS), st.integers(0, 200), st.integers(0, 30), st.lists(words, max_size=4))
def test_mangled_text_is_a_load_or_an_input_error(text: str, at: int, cut: int, inserted: list[str]) -> None:
    at = at % len(text)
    mangled = text[:at] + "".join(inserted) + text[at + cut :]
    try:
        load = parse_load(mangled)
        values = dict(load.values)
        if "n" in values and values.get("n", 0) <= 10_000:  # what a typing slip can make huge is not run
            load_requests(load)
    except InputError:
        return
    assert parse_load(str(load)) == load


def test_loads_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Load("poisson", ()).source = "x"  # type: ignore[misc]
    assert quantile(dict(parse_load(SPEC).values)["prompt"], np.array([0.5])).shape == (1,)
