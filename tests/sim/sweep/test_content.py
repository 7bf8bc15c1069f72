"""A key changes with whatever a scenario's files hold, and with nothing else."""

import pathlib
import shutil

import pytest

import workloads
from kernels.errors import InputError
from sim.run.scenario import Scenario
from sim.sweep.content import Contents

POLICY = pathlib.Path(workloads.__file__).parents[1] / "sim/serving/policies/sarathi.py"
CONFIG = pathlib.Path(workloads.__file__).parent / "models/configs/gpt2.json"
TRACE = "arrival_s,prompt_token,output_token\n0,10,5\n1,20,6\n"
DEVICE = 'kind = "device"\nbase = "a100_sxm"\ntitle = "mine"\nmem_GBps = { value = 2000, source = "said" }\n'


def key(**field: object) -> str:
    return Contents().key(Scenario(**field))


def test_fields_and_nothing_else() -> None:
    assert key(seed=1) == key(seed=1)
    assert len({key(), key(seed=1), key(tp=2), key(policy="sarathi"), key(policy="sarathi:max_token=64")}) == 5


@pytest.mark.parametrize(
    ("field", "name", "before", "after", "value"),
    [
        ("requests", "t.csv", TRACE, TRACE.replace("20", "21"), "{}"),
        ("requests", "n.csv", "3\n4\n", "3\n5\n", "poisson:rate=1,n=2,prompt=empirical:file={},output=2"),
        ("system", "d.toml", DEVICE, DEVICE.replace("2000", "2001"), "{}"),
        ("ffn_system", "f.toml", DEVICE, DEVICE.replace("2000", "2001"), "{}"),
        ("engine", "e.toml", "", "", "{}"),
        ("model", "m.json", "", "", "{}"),
        ("policy", "p.py", "", "", "{}:max_seq=4"),
    ],
)
def test_the_content_of_a_file(
    tmp_path: pathlib.Path, field: str, name: str, before: str, after: str, value: str
) -> None:
    path = tmp_path / name
    if not before:
        shipped = {"engine": POLICY.parents[1] / "engines/vllm_0.15.toml", "model": CONFIG, "policy": POLICY}[field]
        before = shipped.read_text()
        after = {
            "engine": before.replace("stream_s = ", "stream_s = 0.1 # ", 1),
            "model": before.replace('"n_layer": 12', '"n_layer": 11'),
            "policy": before + "\nANOTHER = 1\n",
        }[field]  # fmt: skip
    assert before != after
    path.write_text(before)
    first = key(**{field: value.format(path)})
    assert key(**{field: value.format(path)}) == first
    path.write_text(after)
    assert key(**{field: value.format(path)}) != first


def test_what_a_machine_builds_on(tmp_path: pathlib.Path) -> None:
    base, own = tmp_path / "base.toml", tmp_path / "own.toml"
    base.write_text(DEVICE)
    own.write_text('kind = "device"\nbase = "base.toml"\ntitle = "another"\n')
    first = key(system=str(own))
    base.write_text(DEVICE.replace("2000", "1900"))
    assert key(system=str(own)) != first


def test_a_comment_of_a_machine_is_not_its_content(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "d.toml"
    path.write_text(DEVICE)
    first = key(system=str(path))
    path.write_text("# said again\n" + DEVICE)
    assert key(system=str(path)) == first
    shutil.copy(path, tmp_path / "e.toml")


def test_a_name_that_is_not_there_is_refused() -> None:
    for field, value in (
        ("model", "gpt-2"),
        ("system", "a1"),
        ("ffn_system", "a1"),
        ("policy", "sarati"),
        ("router", "x"),
        ("engine", "y"),
    ):
        with pytest.raises(InputError, match=r"allowed"):
            key(**{field: value})
