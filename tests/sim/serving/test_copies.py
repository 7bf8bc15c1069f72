"""Copies of one block: where the store keeps them, each is given back by who holds it."""

import numpy as np
import pytest

from kernels.engine.advance import HORIZON
from kernels.engine.price import pack
from kernels.engine.types import fleet_of
from sim.serving import state, stepping
from sim.serving.limits import Limits, Options
from sim.serving.plugin import compile_function, find
from sim.serving.rules import Rules
from tests.sim.serving.serving_case import flat_price, load


@pytest.mark.parametrize("keeps", [False, True])
def test_who_computes_a_prefix_at_once_with_another_gives_its_own_copy_back(keeps: bool) -> None:
    # named in one place, the two at time 0 would note one entry for both copies, and one copy would never be let go
    trace = load([0, 0, 0, 900], [40] * 4, [4] * 4, unit_start=[0] * 4, unit_stop=[8] * 4, unit_id=np.arange(8),
                 unit_token=4)  # fmt: skip
    rules = Rules(keep_duplicate=keeps, own_cache=True)
    limits = Limits(num_block=200, block_token=4, max_context_token=256, rules=rules)
    policy, router = find("policy", "vllm_v1:max_token=64,max_seq=8"), find("router", "round_robin")
    price = flat_price(max_token=512, max_seq=16)
    w = state.build(trace, price, policy, limits, Options())
    fleet = fleet_of(w, router.vector(), 0)
    assert stepping.run(w, fleet, pack(price), compile_function(policy), router.function, 10_000) == HORIZON
    assert (w.unit["ref"][1:] == 0).all()
    assert w.engine["free_block"][0] + w.engine["evictable_block"][0] == 200
    assert w.seq["cached"][3] == 32  # the last one finds the prefix whole


def test_names_that_lie_apart_stay_where_they_are() -> None:
    ids = np.arange(6, dtype=np.int32)
    apart = load([0, 0], [20] * 2, [4] * 2, unit_start=[3, 0], unit_stop=[6, 3], unit_id=ids, unit_token=4)
    start, names = state._apart(apart)
    assert start.tolist() == [3, 0]
    assert names is apart.unit_id
    together = load([0, 0], [20] * 2, [4] * 2, unit_start=[1, 0], unit_stop=[4, 3], unit_id=ids, unit_token=4)
    start, names = state._apart(together)
    assert [names[a : a + 3].tolist() for a in start] == [[1, 2, 3], [0, 1, 2]]
