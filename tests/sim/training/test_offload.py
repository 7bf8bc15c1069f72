"""Offloaded optimizer: what an asynchronous flush and interleaved updates save, by the terms of the model."""

import numpy as np
import pytest

from sim.training.offload import OffloadRun, offload_iteration
from sim.training.offload_measured import HOSTS

HOST = HOSTS["a100"]


def run(**change: float) -> OffloadRun:
    values = {"parameter": 13e9, "num_layer": 40, "hidden": 5120, "seq": 2048, "tp": 1, "dp": 4, "micro_batch": 1,
              "num_microbatch": 1, "cpu_share": 1.0, "gap": 0, "asynchronous": 0}  # fmt: skip
    return OffloadRun(**{name: np.array([float(value)]) for name, value in (values | change).items()})


def test_a_backward_pass_recomputes_and_then_flushes() -> None:
    forward, backward, update = offload_iteration(run(), HOST)
    shard = 13e9 / 4
    blocking = max(HOST.flush_s * shard, HOST.flush_host_s * 13e9)
    assert backward[0] == pytest.approx(3 * forward[0] + HOST.add_s * shard + blocking)
    assert update[0] == pytest.approx(max(HOST.update_s * shard, HOST.update_host_s * 13e9))


def test_most_of_the_gain_is_the_flush_and_the_rest_the_update() -> None:
    base = sum(part[0] for part in offload_iteration(run(), HOST))
    flushed = sum(part[0] for part in offload_iteration(run(asynchronous=1), HOST))
    both = sum(part[0] for part in offload_iteration(run(asynchronous=1, gap=2), HOST))
    assert base > flushed > both
    assert base / both > 1.5  # measured there: 7.13 s to 4.26 s


def test_gradient_accumulation_flushes_once() -> None:
    one, four = (offload_iteration(run(num_microbatch=m), HOST)[1][0] for m in (1, 4))
    assert four - one == pytest.approx(3 * (offload_iteration(run(), HOST)[0][0] * 3 + HOST.add_s * 13e9 / 4))


def test_a_host_is_shared_by_its_devices() -> None:
    # eight devices on two hosts update a parameter as fast each as four on one
    assert offload_iteration(run(dp=8), HOST)[2][0] == pytest.approx(offload_iteration(run(dp=4), HOST)[2][0] / 2)


def test_weights_gathered_across_nodes_bound_a_forward_pass() -> None:
    slow = offload_iteration(run(dp=16), HOST)[0][0]
    assert slow == pytest.approx(2 * 13e9 * 15 / 16 / HOST.out_byte_per_s)
