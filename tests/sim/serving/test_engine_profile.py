"""Engine profiles: what a file may say, stacks of several hosts, a fit that finds the constants of its data."""

import dataclasses
import pathlib

import pytest

from kernels.errors import InputError
from sim.reference.engine_fit import write
from sim.reference.step_fit import Case, fit
from sim.serving.engine_profile import load, names, of_stack
from sim.serving.step_time import Batch, Deployment, step_s


def test_a_profile_is_what_was_written(tmp_path: pathlib.Path) -> None:
    for name in names():
        profile = load(name)
        path = tmp_path / f"{name}.toml"
        write(path, profile)
        assert load(str(path)) == profile


@pytest.mark.parametrize(
    ("line", "said"),
    [("seq_s = -1.0", "seq_s"), ("kernel_factor = 0.0", "kernel_factor"), ("dispatch_s = 1.0", "dispatch_layer_s")],
    ids=["negative", "no time at all", "a name that is near another"],
)
def test_what_cannot_be_is_refused(tmp_path: pathlib.Path, line: str, said: str) -> None:
    path = tmp_path / "mine.toml"
    rest = [f"{name} = 0.0" for name in ("step_s", "seq_s", "token_s", "request_s", "stream_s") if name not in line]
    path.write_text("\n".join(['title = "t"', 'source = "s"', *rest, line]))
    with pytest.raises(InputError, match=said):
        load(str(path))


def test_a_stack_has_a_profile_a_host() -> None:
    assert of_stack("vllm_2023", "a100_sxm_80gb") == "vllm_2023_a100"
    with pytest.raises(InputError, match="not measured on this host"):
        of_stack("vllm_2023", "b200")
    with pytest.raises(InputError, match="vllm_202"):
        of_stack("vllm_2022", "h100_sxm")


def test_a_fit_finds_the_constants_that_made_its_data() -> None:
    truth = dataclasses.replace(load("vllm_2023_h100"), kernel_factor=1.5, dispatch_layer_s=5e-4, seq_s=4e-4)
    where = Deployment("llama-2-70b", "h100_sxm", 4)
    batches = [Batch(1, 512), Batch(1, 2048), Batch(4, 512), Batch(1, 128)]
    batches += [Batch(num_decode=num, kv_len=600) for num in (1, 8, 32)]
    some = [Case("step", where, batch, step_s(where, truth, batch)) for batch in batches]
    found = fit(some, truth)
    assert found.kernel_factor == pytest.approx(1.5, rel=0.02)
    assert found.dispatch_layer_s == pytest.approx(5e-4, rel=0.02)
    assert found.seq_s == pytest.approx(4e-4, rel=0.05)
