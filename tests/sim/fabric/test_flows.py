"""Flows in time: by hand, against an exact simulation of its own, bytes conserved."""

from fractions import Fraction

import numpy as np
import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.errors import InputError
from sim.fabric.flows import Fabric

PER_PS = 1e12  # a byte a picosecond


def run(capacity: list[int], flows: list[tuple[int, list[int], int]]) -> tuple[list[int], Fabric]:
    """End of every (start, links, bytes); capacity in bytes a picosecond."""
    env = simpy.Environment()
    fabric = Fabric(env, np.array(capacity) * PER_PS)
    end = [-1] * len(flows)

    def one(index: int, start: int, links: list[int], byte: int):
        yield env.timeout(start)
        yield fabric.send([links], [byte])
        end[index] = env.now

    for index, flow in enumerate(flows):
        env.process(one(index, *flow))
    env.run()
    return end, fabric


def exact(capacity: list[int], flows: list[tuple[int, list[int], int]]) -> list[Fraction]:
    """The same in fractions: fill by the definition, step to the next start or end."""
    left = {i: Fraction(byte) for i, (_, _, byte) in enumerate(flows)}
    end: dict[int, Fraction] = {}
    now = Fraction(0)
    while left:
        running = [i for i in left if flows[i][0] <= now]
        rate: dict[int, Fraction] = {}
        room = {link: Fraction(c) for link, c in enumerate(capacity)}
        while len(rate) < len(running):
            open_ = [i for i in running if i not in rate]
            count = {link: sum(link in flows[i][1] for i in open_) for link in room}
            share, narrow = min((room[link] / n, link) for link, n in count.items() if n)
            for i in open_:
                if narrow in flows[i][1]:
                    rate[i] = share
                    for link in flows[i][1]:
                        room[link] -= share
        later = [Fraction(flows[i][0]) for i in left if flows[i][0] > now]
        until = min([now + left[i] / rate[i] for i in running] + later)
        for i in running:
            left[i] -= rate[i] * (until - now)
            if left[i] == 0:
                end[i] = until
                del left[i]
        now = until
    return [end[i] for i in range(len(flows))]


def test_two_flows_meet() -> None:
    # the second comes when the first has 60 of 100 B left: both at half rate until the second's 20 B are through
    end, fabric = run([1], [(0, [0], 100), (40, [0], 20)])
    assert end == [120, 80]
    assert fabric.link_byte.tolist() == [120]


def test_a_batch_ends_with_its_last_flow() -> None:
    env = simpy.Environment()
    fabric = Fabric(env, np.array([1.0, 2.0]) * PER_PS)
    env.run(fabric.send([[0], [1], []], [100, 100, 5]))
    assert env.now == 100
    assert fabric.num_change == 2  # two flows started together, one ended before the other
    assert fabric.send([[0]], [0]).triggered


def test_flows_that_start_together_are_one_change() -> None:
    end, fabric = run([3], [(7, [0], 50)] * 30)
    assert set(end) == {7 + 500}  # 30 x 50 B at 3 B/ps
    assert fabric.num_change == 1


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=3, max_size=3),
    st.lists(
        st.tuples(st.integers(0, 2000), st.sets(st.integers(0, 2), min_size=1).map(sorted), st.integers(1, 10_000)),
        min_size=1,
        max_size=8,
    ),
)
def test_against_exact_arithmetic(capacity: list[int], flows: list[tuple[int, list[int], int]]) -> None:
    end, fabric = run(capacity, flows)
    # every change rounds to a picosecond, and there are two changes a flow
    assert end == pytest.approx([float(value) for value in exact(capacity, flows)], abs=2 * len(flows))
    sent = [sum(byte for _, links, byte in flows if link in links) for link in range(3)]
    assert fabric.link_byte == pytest.approx(np.array(sent, float))  # conserved
    last = max(end)
    assert all(moved <= c * (last + 1) for moved, c in zip(fabric.link_byte, capacity, strict=True))


def test_bad_flows() -> None:
    env = simpy.Environment()
    with pytest.raises(InputError, match="rates above 0"):
        Fabric(env, np.array([1.0, 0.0]))
    with pytest.raises(InputError, match="one size of at least 0"):
        Fabric(env, np.array([1.0])).send([[0]], [-1.0])
