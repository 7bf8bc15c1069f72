"""A scenario is one thing in three forms: a file, options, a call."""

import argparse
import dataclasses
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.errors import InputError
from sim.run import scenario_arguments
from sim.run.scenario import FIELD_NAMES, Scenario, from_file, from_mapping
from sim.run.scenario_arguments import read_text

CHANGED = {"model": "llama-2-7b", "tp": 2, "sequence_parallel": True, "fidelity": "sol", "memory_share": 0.8}


def parsed(*words: str) -> Scenario:
    parser = argparse.ArgumentParser()
    scenario_arguments.add(parser)
    return scenario_arguments.build(parser.parse_args(list(words)))


def test_file_options_and_call_are_the_same(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(tomli_w.dumps(CHANGED))
    words = ["--model", "llama-2-7b", "--tp", "2", "--sequence-parallel", "--fidelity", "sol", "--memory-share", "0.8"]
    assert from_file(path) == parsed(*words) == parsed(str(path)) == Scenario(**CHANGED)  # type: ignore[arg-type]


def test_options_win_over_the_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(tomli_w.dumps(CHANGED))
    assert parsed(str(path), "--tp", "4") == dataclasses.replace(Scenario(**CHANGED), tp=4)  # type: ignore[arg-type]


def test_every_field_is_an_option_with_help() -> None:
    parser = argparse.ArgumentParser()
    scenario_arguments.add(parser)
    text = parser.format_help()
    for field in dataclasses.fields(Scenario):
        assert "--" + field.name.replace("_", "-").lower() in text
        assert field.metadata["help"]


def test_an_unknown_field_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"polcy.*unknown field.*nearest: policy"):
        from_mapping({"polcy": "sarathi"})


def test_bad_files_name_the_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "s.toml"
    with pytest.raises(InputError, match=r"s\.toml: cannot be read"):
        from_file(path)
    path.write_text("tp = \n")
    with pytest.raises(InputError, match=r"s\.toml:1: is not TOML"):
        from_file(path)


def test_the_digest_sees_every_field() -> None:
    base = Scenario(tp=4, preemption="swap", swap_GiB=1.0)
    other = {
        "sequence_parallel": True, "prefix_cache": False, "run_ahead": False, "order": "sjf", "fidelity": "sol",
        "goodput": "ttft:3", "preemption": "recompute", "watermark": 0.25, "memory_share": 0.5, "front": "offline",
        "ends": "token", "eplb": True, "kv_evict": "lfu", "eager": True,
    }  # fmt: skip
    digests = {base.digest()}
    for name in FIELD_NAMES:
        value = other.get(name, "x" if isinstance(getattr(base, name), str) else 3)
        change = {name: value} | ({"swap_GiB": 0.0} if name == "preemption" else {})
        if name.startswith("draft"):  # which has no effect without
            change = {"speculate": "chain", "draft_model": "llama-3.2-1b"} | change
        if name in ("ffn_tp", "ffn_ep", "num_microbatch"):  # likewise
            change = {"ffn_system": "h20"} | change
        digests.add(dataclasses.replace(base, **change).digest())
    assert len(digests) == len(FIELD_NAMES) + 1


def test_a_scenario_shows_what_was_changed() -> None:
    scenario = Scenario(**CHANGED)  # type: ignore[arg-type]
    assert repr(Scenario()) == "Scenario()"
    assert len(repr(scenario)) < 200
    assert eval(repr(scenario)) == scenario


WRONG: list[tuple[dict[str, Any], str]] = [
    # that ran, crashed or lied before they were checked in a call
    ({"fidelity": "SOL"}, "fidelity = 'SOL': no such fidelity; allowed: sol, calibrated, replay (nearest: sol)"),
    ({"price_USDph": -1}, "price_USDph = -1: out of range; allowed: 0 to 10000"),
    ({"prefix_cache": "no"}, "prefix_cache = 'no': not true or false; allowed: true or false"),
    ({"token_budget": -4}, "token_budget = -4: out of range; allowed: 0 to 16777216"),
    ({"expert_skew": 9}, "expert_skew = 9: out of range; allowed: -1 to 4"),
    ({"block_token": 0}, "block_token = 0: out of range; allowed: 1 to 1024"),
    ({"seed": -1}, "seed = -1: out of range; allowed: 0 to 9223372036854775807"),
    # strict types
    ({"seed": True}, "seed = True: not a whole number"),
    ({"run_ahead": "off"}, "run_ahead = 'off': not true or false"),
    ({"sequence_parallel": 1, "tp": 2}, "sequence_parallel = 1: not true or false"),
    ({"tp": 2.0}, "tp = 2.0: not a whole number; allowed: 1 to 65536"),
    ({"tp": "two"}, "tp = 'two': not a whole number"),
    ({"model": 7}, "model = 7: not a text"),
    # numbers beyond their type
    ({"swap_GiB": 1e300, "preemption": "swap"}, "swap_GiB = 1e+300: out of range; allowed: 0 to 1000000"),
    ({"memory_share": float("nan")}, "memory_share = nan: out of range; allowed: 0 to 1"),
    ({"timeout_s": float("inf")}, "timeout_s = inf: out of range; allowed: 0 to 9000000"),
    ({"watermark": float("-inf")}, "watermark = -inf: out of range"),
    ({"seed": 2**63}, "seed = 9223372036854775808: out of range"),
    ({"tp": 10**10_000}, "tp = a whole number of 33,220 bits: out of range; allowed: 1 to 65536"),
    ({"price_USDph": 10**10_000}, "price_USDph = a whole number of 33,220 bits: out of range"),
    ({"max_num_seq": 2**31}, "max_num_seq = 2147483648: out of range; allowed: 0 to 16777216"),
    # what one range cannot say
    ({"watermark": -0.5}, "watermark = -0.5: out of range; allowed: 0 to 0.5; or -1, the policy's"),
    ({"max_model_len": 1}, "max_model_len = 1: no room"),
    ({"goodput": "ttft:x"}, "goodput ttft = 'x': not a time in seconds; allowed: above 0, below 1e+09"),
    ({"goodput": "ttft:1 ttft:2"}, "goodput = 'ttft:2': given twice"),
    ({"policy": " "}, "policy = ' ': is empty"),
    ({"model": "a\0b"}, "model = 'a\\x00b': holds a null character"),
    # options without effect
    ({"sequence_parallel": True}, "sequence_parallel = True: has no effect at tp = 1"),
    ({"swap_GiB": 4.0}, "swap_GiB = 4.0: has no effect with preemption = recompute"),
    ({"preemption": "swap"}, "swap_GiB = 0.0: swapping needs host memory; allowed: above 0"),
    ({"fidelity": "sol", "engine": "vllm_2023"}, "engine = 'vllm_2023': has no effect at the speed of light"),
]


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_what_is_wrong_is_wrong_in_a_call_a_file_and_a_change(values: dict[str, Any], message: str) -> None:
    for build in (
        from_mapping,
        lambda given: Scenario(**given),
        lambda given: dataclasses.replace(Scenario(), **given),
    ):
        with pytest.raises(InputError) as caught:
            build(values)  # type: ignore[operator]
        assert str(caught.value).startswith(message)


def test_the_file_is_named_where_the_file_is_wrong_and_not_where_the_option_is(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text("seed = true\n")
    with pytest.raises(InputError, match=r"s\.toml: seed = True"):
        parsed(str(path), "--tp", "2")
    path.write_text("seed = 1\n")
    with pytest.raises(InputError, match=r"^tp = 0"):
        parsed(str(path), "--tp", "0")
    with pytest.raises(InputError, match=r"^tp = 0"):
        from_file(path, tp=0)
    path.write_text("seed = " + "1" * 10_000)
    with pytest.raises(InputError, match=r"s\.toml: is not TOML.*digits"):
        from_file(path)
    path.write_text("seed = " + "[" * 100_000)
    with pytest.raises(InputError, match=r"s\.toml: nested too deep"):
        from_file(path)


def test_an_option_at_its_default_is_no_error() -> None:
    """Each default on its own and all of them together, given as a call, a file and options."""
    default = dataclasses.asdict(Scenario())
    assert Scenario(**default) == from_mapping(default) == Scenario()
    for name, value in default.items():
        assert from_mapping({name: value}) == Scenario()


def test_scalars_of_numpy_and_paths_are_the_values_that_they_hold() -> None:
    found = Scenario(tp=np.int64(2), prefix_cache=np.bool_(False), model=pathlib.Path("a.json"))  # type: ignore[arg-type]
    assert found == Scenario(tp=2, prefix_cache=False, model="a.json")
    assert type(found.tp) is int


NUMBERS = st.one_of(
    st.integers(-3, 40), st.integers(), st.floats(), st.floats(0, 1), st.sampled_from([1e300, 2**31, 2**63, 10**5000])
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12).filter(
    lambda text: not text.startswith("-")
)
FLAGS = tuple(name for name in FIELD_NAMES if isinstance(Scenario.__dataclass_fields__[name].default, bool))
CHOICES = ("fcfs", "priority", "swap", "recompute", "sol", "replay", "SOL", "ttft:1", "ttft:1 tpot:0.1")


def outcome(build: Callable[[], Scenario]) -> Scenario | None:
    try:
        return build()
    except InputError:
        return None


@settings(max_examples=300)
@given(
    st.dictionaries(st.sampled_from(FLAGS), st.booleans(), max_size=2),
    st.dictionaries(
        st.sampled_from([name for name in FIELD_NAMES if name not in FLAGS]),
        NUMBERS | TEXTS | st.sampled_from(CHOICES),
        max_size=3,
    ),
)
def test_file_options_and_call_accept_and_refuse_the_same(flags: dict[str, bool], values: dict[str, Any]) -> None:
    """An option is text, so a number for a text field and the text of a number for a number field are compared as such:
    the call is given what the option's text says."""
    numbers = {name for name in values if not isinstance(getattr(Scenario(), name), str)}
    given: dict[str, Any] = dict(flags)
    for name, value in values.items():
        if name in numbers:
            given[name] = read_text(name, value) if isinstance(value, str) else value
        else:
            given[name] = value if isinstance(value, str) else "x"
    words = [f"--{'' if on else 'no-'}{name.replace('_', '-')}" for name, on in flags.items()]
    for name in values:
        shown = f"{10**4299}" + "0" * 700 if given[name] == 10**5000 else str(given[name])
        words += [f"--{name.replace('_', '-').lower()}={shown}"]
    called = outcome(lambda: Scenario(**given))
    assert outcome(lambda: parsed(*words)) == called
    assert outcome(lambda: from_mapping(given)) == called
    if 10**5000 not in given.values():  # Python neither writes nor reads such a number
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "s.toml"
            path.write_text(tomli_w.dumps(given), encoding="utf-8")
            assert outcome(lambda: from_file(path)) == called


ANY = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), st.lists(st.integers(), max_size=2)
)


@given(st.dictionaries(st.sampled_from(FIELD_NAMES) | st.text(max_size=8), ANY, max_size=5))
def test_any_values_make_a_scenario_or_an_input_error(values: dict[str, object]) -> None:
    try:
        built = from_mapping(values)
    except InputError as error:
        said = str(error)
    else:
        said = ""
        assert set(values) <= set(FIELD_NAMES)
        assert built.tp >= 1
    assert "\n" not in said


@given(st.binary(max_size=60))
def test_any_bytes_are_a_scenario_file_or_an_input_error(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "s.toml"
        path.write_bytes(content)
        said = ""
        try:
            from_file(path)
        except InputError as error:
            said = str(error)
        assert not said or str(path) in said
