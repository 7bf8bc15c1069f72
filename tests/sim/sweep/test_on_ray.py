"""A sweep on a real Ray cluster of several nodes on this machine, a worker of which is killed in its middle."""

import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import ridgeline
from kernels.errors import InputError
from sim.sweep.store import Store

ROOT = pathlib.Path(ridgeline.__file__).parent
BASE = ridgeline.Scenario(model="gpt2", system="a100_sxm", requests="poisson:rate=40,n=300,prompt=64,output=8")
TASK = b"ray::point_there"


def test_without_ray_it_is_said() -> None:
    try:
        import ray  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match=r"ridgeline\[ray\]"):
            ridgeline.sweep(BASE, over={"seed": [0]}, executor="ray")
    else:
        pytest.skip("Ray is installed")


def test_a_cluster_that_does_not_start_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: Any) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))
    with pytest.raises(InputError, match="no Ray cluster: The current node timed out"):
        ridgeline.sweep(BASE, over={"seed": [0]}, executor="ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and two nodes, each with one processor."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from ray.cluster_utils import Cluster

    try:
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        for _ in range(2):
            made.add_node(num_cpus=1)
        made.wait_for_nodes()
    except Exception as error:  # Ray gives its processes half a minute, and raises a bare Exception
        pytest.skip(f"no cluster starts here: {error}")
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


def tasks() -> list[int]:
    """Processes of this machine that are at a point."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if TASK in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_a_worker_killed_in_mid_sweep_loses_nothing_and_does_nothing_twice(
    cluster: Any, tmp_path: pathlib.Path
) -> None:
    killed: list[int] = []
    said: list[int] = []

    def kill() -> None:
        end_s = time.monotonic() + 300
        while not killed and time.monotonic() < end_s:
            there = tasks()
            if said and said[-1] >= 2 and there:
                os.kill(there[0], signal.SIGKILL)
                killed.append(there[0])
            time.sleep(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    over = {"seed": range(24)}
    frame = ridgeline.sweep(
        BASE,
        over=over,
        executor="ray",
        jobs=0,
        store=tmp_path / "s",
        progress=lambda done, found, num: said.append(done),
    )
    killer.join()
    assert killed, "no worker was caught at a point"
    assert frame.attrs["complete"]
    assert frame.equals(ridgeline.sweep(BASE, over=over))
    assert list(Store(tmp_path / "s").num_claim().values()) == [1] * 24
    again = ridgeline.sweep(BASE, over=over, executor="ray", jobs=0, store=tmp_path / "s")
    assert again.equals(frame)


def test_a_node_that_goes_away(cluster: Any, tmp_path: pathlib.Path) -> None:
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    gone: list[bool] = []

    def progress(done: int, found: int, num: int) -> None:
        if done >= 4 and not gone:
            gone.append(True)
            cluster.remove_node(node, allow_graceful=False)

    over = {"seed": range(100, 116)}
    frame = ridgeline.sweep(BASE, over=over, executor="ray", jobs=4, store=tmp_path / "s", progress=progress)
    assert gone
    assert frame["status"].eq("served").all()
    assert len(frame) == 16
