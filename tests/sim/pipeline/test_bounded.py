"""Stages with bounded queues: the slowest decides, Little's law on every queue, a full one stops who is before it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.errors import InputError
from kernels.units import PS_PER_S
from sim.pipeline.bounded import Stage, run_stages

STAGES = st.lists(
    st.tuples(st.sampled_from([0.5, 1.0, 2.0, 5.0]), st.integers(1, 3), st.integers(0, 4)), min_size=1, max_size=4
)


@settings(max_examples=30, deadline=None)
@given(shape=STAGES)
def test_the_slowest_stage_decides_whatever_the_queues_hold(shape):
    stages = [Stage(str(k), time_s, servers, places) for k, (time_s, servers, places) in enumerate(shape)]
    num = 6 * 20
    passed = run_stages(stages, 2 * num)
    best = min(stage.num_server / stage.time_s for stage in stages)
    assert passed.item_per_s(num - 1) <= best * (1 + 6 / num)
    if all(stage.num_server == 1 for stage in stages):  # a line of single servers: exact
        first = sum(stage.time_s for stage in stages)
        last = first + (2 * num - 1) * max(stage.time_s for stage in stages)
        assert passed.leave_ps[-1, -1] == round(last * PS_PER_S)


@settings(max_examples=20, deadline=None)
@given(shape=STAGES, seed=st.integers(0, 99), every_s=st.sampled_from([0.0, 0.7, 3.0]))
def test_littles_law_on_every_queue_and_server(shape, seed, every_s):
    times = np.random.default_rng(seed).exponential(size=(len(shape), 60))
    stages = [
        Stage(str(k), lambda own, k=k, time_s=time_s: time_s * times[k, own[0]], servers, places)
        for k, (time_s, servers, places) in enumerate(shape)
    ]
    passed = run_stages(stages, 60, every_s=every_s)
    rate = 60 * PS_PER_S / passed.leave_ps[-1].max()
    for s, stage in enumerate(stages):
        for start, stop in (("join", "begin"), ("begin", "done"), ("done", "leave")):
            assert passed.mean_held(s, start, stop) == pytest.approx(rate * passed.mean_s(s, start, stop), abs=1e-9)
        assert passed.mean_held(s, "join", "leave") <= stage.num_place + stage.num_server + 1e-9
        assert sum(passed.share(s).values()) == pytest.approx(1.0)
        assert (passed.join_ps[s] <= passed.begin_ps[s]).all()
    for s in range(len(stages) - 1):  # who has left a stage is at the next one
        np.testing.assert_array_equal(passed.leave_ps[s], passed.join_ps[s + 1])


@pytest.mark.parametrize("places", [0, 1, 3])
def test_two_random_stages_block_each_other_as_hunt_found(places):
    # two equal exponential servers, the first never idle, B places between them: (B + 2) / (B + 3) of a server's rate
    # (Hunt 1956, Operations Research 4; without a place 2/3)
    num, draw = 10_000, np.random.default_rng(places)
    times = draw.exponential(size=(2, num))
    stages = [Stage("a", lambda own: times[0, own[0]]), Stage("b", lambda own: times[1, own[0]], num_place=places)]
    passed = run_stages(stages, num)
    assert passed.item_per_s(num // 10) == pytest.approx((places + 2) / (places + 3), rel=0.03)
    assert passed.share(0)["idle"] < 0.01 < 0.9 * passed.share(1)["idle"] < passed.share(0)["blocked"]


def test_a_full_queue_stops_who_is_before_it():
    passed = run_stages([Stage("disk", 1.0, num_place=0), Stage("gpu", 10.0, num_place=2)], 8)
    begin_s = passed.begin_ps[0] / PS_PER_S
    # one at the GPU, two in its queue, one held by the disk: the fifth begins when the first has left, after 11 s
    assert begin_s.tolist()[:6] == [0.0, 1.0, 2.0, 3.0, 11.0, 21.0]
    assert passed.slowest == "gpu"


def test_stages_that_share_cores_add_up():
    stages = [Stage("decode", 2.0, 4, 4, "cpu"), Stage("augment", 1.0, 4, 4, "cpu"), Stage("gpu", 0.1)]
    passed = run_stages(stages, 400, resources={"cpu": 4})
    assert passed.item_per_s(100) == pytest.approx(4 / 3, rel=0.02)  # three seconds of a core an item, four cores


def test_items_that_come_slowly_leave_as_they_come():
    passed = run_stages([Stage("a", 1.0), Stage("b", 2.0)], 10, every_s=5.0)
    np.testing.assert_array_equal(passed.leave_ps[-1], (np.arange(10) * 5 + 3) * PS_PER_S)


def test_a_batch_takes_what_is_there_and_no_more_than_it_may():
    sizes = []

    def time_s(own):
        sizes.append(len(own))
        return 3.0

    passed = run_stages([Stage("a", 1.0, num_place=9), Stage("b", time_s, num_place=9, num_batch=4)], 12)
    assert sizes == [1, 3, 3, 3, 2]  # whoever has come in the meantime
    assert passed.busy_ps[1] == 15 * PS_PER_S
    assert passed.share(1)["busy"] == pytest.approx(15 / 16)


def test_who_waits_for_a_whole_batch_begins_with_its_last():
    passed = run_stages([Stage("a", 1.0), Stage("b", 2.0, num_place=9, num_batch=5, num_least=5)], 10)
    np.testing.assert_array_equal(passed.begin_ps[1], np.repeat([5, 10], 5) * PS_PER_S)
    with pytest.raises(InputError, match="num_least"):
        run_stages([Stage("b", 2.0, num_batch=5, num_least=5)], 9)


def test_servers_that_wait_for_several_items_do_not_each_hold_one() -> None:
    """Six items in pairs: three of the four servers have one each, and none waits for another's half."""
    passed = run_stages([Stage("a", 0.1), Stage("b", 1.0, num_server=4, num_batch=2, num_least=2)], 6)
    assert (passed.leave_ps[-1] > passed.join_ps[-1]).all()
    assert passed.busy_ps[-1] == 3 * PS_PER_S
    assert passed.leave_ps[-1].max() == pytest.approx(1.6 * PS_PER_S)


def test_items_that_never_begin_are_said() -> None:
    """Five of six go at once where two would do: the sixth waits for a second one for ever."""
    with pytest.raises(InputError, match="num_least = 2: of stage b: 1 items never begin"):
        run_stages([Stage("a", 0.1), Stage("b", 9.0, num_place=9, num_batch=3, num_least=2)], 6)


@settings(max_examples=20, deadline=None)
@given(visits=st.integers(1, 5), batch=st.integers(1, 4), num=st.integers(1, 12))
def test_an_item_that_comes_back_is_worked_on_so_often(visits, batch, num):
    count = np.zeros(num, int)

    def time_s(own):
        count[list(own)] += 1
        return 0.5

    passed = run_stages([Stage("a", time_s, num_place=num, num_batch=batch, num_visit=visits)], num)
    assert (count == visits).all()
    assert passed.leave_ps.max() * batch >= num * visits * 0.5 * PS_PER_S
    assert passed.leave_ps.max() <= passed.busy_ps[0]  # it never idles


def test_stages_of_one_device_take_turns():
    stages = [Stage("prompt", 2.0, num_place=9, resource="gpu"), Stage("answer", 1.0, 1, 9, "gpu", 9, 1, 3)]
    passed = run_stages(stages, 4, resources={"gpu": 1})
    assert passed.busy_ps.sum() == passed.leave_ps.max()  # one after another, never idle
    assert passed.begin_ps[1, 0] < passed.begin_ps[0, 3]  # answers do not wait for all prompts


def test_items_come_when_they_are_offered():
    passed = run_stages([Stage("a", 1.0)], 3, every_s=[0.5, 0.6, 9.0])
    np.testing.assert_array_equal(passed.leave_ps[0], np.array([1.5, 2.5, 10.0]) * PS_PER_S)


def test_what_cannot_be_is_said():
    for words, said in (
        ({"stages": [], "num_item": 1}, "nothing to pass"),
        ({"stages": [Stage("a", -1.0)], "num_item": 1}, "time_s"),
        ({"stages": [Stage("a", 1.0, num_server=0)], "num_item": 1}, "num_server"),
        ({"stages": [Stage("a", 1.0, resource="cpu")], "num_item": 1}, "resource"),
        ({"stages": [Stage("a", 1.0)], "num_item": 1, "resources": {"cpu": 2}}, "no effect"),
        ({"stages": [Stage("a", 1.0)], "num_item": 1, "every_s": -1.0}, "every_s"),
    ):
        with pytest.raises(InputError, match=said):
            run_stages(**words)
