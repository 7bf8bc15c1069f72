"""Steps of GPT-2's shape (full heads of 64, learned positions, a tied head, no gate) on this processor: what its
operators take alone is what they take in the model, but for the host's own time."""

import dataclasses
from collections.abc import Iterator

import pytest

from sim.reference import calibrate_run
from workloads.models import catalogue

torch = pytest.importorskip("torch")
from hw_models.reference.device import ReferenceDevice  # noqa: E402
from hw_models.reference.model import build_model  # noqa: E402

GPT2 = dataclasses.replace(catalogue.load("gpt2"), layer=(0,) * 3, vocab=8192)  # all widths but the vocabulary's
HOST = 1.8  # a step beside its operators: 1.1 to 1.3 on a quiet core, 1.4 among a dozen jobs for two cores


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The clock is then the thread's own (`timing.host_clock`): other work on the machine does not count."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", [((1, 150),), ((1, 150),) * 8, ((64, 64),), ((64, 64), *((1, 150),) * 4)])
def test_operators_alone_take_what_they_take_in_a_step(shape: tuple[tuple[int, int], ...]) -> None:
    model = build_model(GPT2, "cpu", "bf16", 128, 16, threads=1)
    step_s = calibrate_run._measured_s(model, shape, 0.3)
    alone_s = calibrate_run._alone_s(ReferenceDevice("cpu", 0.03, 5), *calibrate_run._operators(GPT2, shape, "bf16"))
    print(f"{shape[0]} x {len(shape)}: step {1e3 * step_s:.2f} ms, operators alone {1e3 * alone_s:.2f} ms")
    assert 1 / HOST < step_s / alone_s < HOST
