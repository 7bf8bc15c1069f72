"""Models as graphs of queues: Little's law, neutral cuts, independent halves."""

import numpy as np
import pytest

from kernels.errors import InputError
from sim.cluster.block_graph import Block, Request, Walked, walk


def second(prompt: int, decodes: int) -> float:
    return 1e-3 + 1e-5 * prompt + 1e-4 * decodes


def whole(device: int = 0, parts: int = 1, batch: int = 4) -> Block:
    return Block(device, batch, lambda prompt, decodes: second(prompt, decodes) / parts)


def load(num: int = 40, apps: int = 1, seed: int = 0, rate: float = 40.0) -> list[Request]:
    random = np.random.default_rng(seed)
    arrival = np.cumsum(random.exponential(1 / rate, num))
    return [
        Request(float(a), int(random.integers(apps)), int(random.integers(1, 200)), int(random.integers(1, 12)))
        for a in arrival
    ]


def shared(seed: int = 0) -> Walked:
    blocks = [whole(0, 3), whole(1, 3), whole(0, 3), whole(1, 3)]
    return walk(blocks, [[0, 1, 2], [0, 1, 3]], load(apps=2, seed=seed), hop_s=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_littles_law_holds_on_every_queue(seed: int) -> None:
    done = shared(seed)
    assert done.area_s == pytest.approx(done.wait_s)
    assert done.wait_s.max() > 0


def test_every_token_passes_every_block_of_its_chain() -> None:
    requests = load(apps=2)
    tokens = [sum(one.output for one in requests if one.app == app) for app in (0, 1)]
    assert shared().num_visit.tolist() == [sum(tokens), sum(tokens), *tokens]


def test_a_request_alone_takes_its_steps_and_its_hops() -> None:
    one = [Request(1.0, 0, 100, 5)]
    steps = second(100, 0) + 4 * second(0, 1)
    assert walk([whole()], [[0]], one).end_s[0] == pytest.approx(1 + steps)
    cut = walk([whole(d, 4) for d in range(4)], [[0, 1, 2, 3]], one, hop_s=0.01)
    assert cut.end_s[0] == pytest.approx(1 + steps + 0.01 * (3 * 5 + 4))  # back to the first after each but the last
    assert cut.first_s[0] == pytest.approx(1 + second(100, 0) + 0.03)


def test_one_block_is_a_replica_that_batches_what_waits() -> None:
    done = walk([whole(batch=8)], [[0]], [Request(0.0, 0, 10, 3) for _ in range(4)])
    assert done.end_s == pytest.approx(np.full(4, second(40, 0) + 2 * second(0, 4)))
    assert done.num_batch.tolist() == [3]


def test_applications_that_share_nothing_are_each_as_if_alone() -> None:
    requests = load(apps=2)
    both = walk([whole(0), whole(1)], [[0], [1]], requests)
    for app in (0, 1):
        own = [one._replace(app=0) for one in requests if one.app == app]
        alone = walk([whole()], [[0]], own)
        assert both.end_s[[one.app == app for one in requests]].tolist() == alone.end_s.tolist()
        assert both.busy_s[app] == alone.busy_s[0]


def test_applications_that_share_everything_are_one() -> None:
    requests = load(apps=2)
    one = walk([whole()], [[0]], [each._replace(app=0) for each in requests])
    assert walk([whole()], [[0], [0]], requests).end_s.tolist() == one.end_s.tolist()


def test_a_device_is_never_busier_than_time() -> None:
    done = shared()
    assert (done.busy_s <= done.end_s.max()).all()
    assert (done.first_s <= done.end_s).all()


def test_what_is_wrong_is_named() -> None:
    one = [Request(0.0, 0, 1, 1)]
    for blocks, chains, requests in (
        ([whole()], [[]], one), ([whole()], [[1]], one), ([whole(batch=0)], [[0]], one),
        ([whole()], [[0]], [Request(0.0, 1, 1, 1)]), ([whole()], [[0]], [Request(0.0, 0, 0, 1)]),
    ):  # fmt: skip
        with pytest.raises(InputError):
            walk(blocks, chains, requests)
