"""A scenario is one thing in three forms: a file, options, a call."""

import argparse
import dataclasses
import pathlib
import tempfile

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from kernels.errors import InputError
from sim.run import scenario_arguments
from sim.run.scenario import FIELD_NAMES, Scenario, from_file, from_mapping

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


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tp": 0}, "tp = 0"),
        ({"tp": "two"}, "tp = 'two'"),
        ({"memory_share": float("nan")}, "memory_share = nan"),
        ({"seed": -1}, "seed = -1"),
        ({"fidelity": "exact"}, "fidelity = 'exact'"),
        ({"polcy": "sarathi"}, r"polcy.*unknown field.*nearest: policy"),
    ],
)
def test_bad_values_name_the_field(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_mapping(values)


def test_bad_files_name_the_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "s.toml"
    with pytest.raises(InputError, match=r"s\.toml: cannot be read"):
        from_file(path)
    path.write_text("tp = \n")
    with pytest.raises(InputError, match=r"s\.toml: not TOML.*line 1"):
        from_file(path)


def test_the_digest_sees_every_field() -> None:
    base = Scenario()
    other = {name: ("x" if isinstance(getattr(base, name), str) else 3) for name in FIELD_NAMES}
    digests = {dataclasses.replace(base, **{name: value}).digest() for name, value in other.items()}
    assert len(digests | {base.digest()}) == len(FIELD_NAMES) + 1


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
