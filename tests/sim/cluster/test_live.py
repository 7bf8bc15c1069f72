"""Live programs: the plain system where they only ask, conserved tokens and blocks where they stop, named deadlocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.engine import records as at
from kernels.errors import InputError
from sim.cluster.live import Live
from sim.cluster.pool import PoolPart
from sim.cluster.program_files import Job, find
from sim.serving import plugin
from sim.serving.limits import Limits, Options
from sim.serving.rules import Rules
from tests.oracles.live_engine import Twin
from tests.sim.serving.serving_case import US, attention_price, flat_price, load, run, same

POLICY = "vllm_v1:max_token=64,max_seq=8"


def part(num=1, policy=POLICY, price=None, router="least_outstanding", **limits):
    return PoolPart(
        "all", "mixed", price or flat_price(max_token=512, max_seq=16), plugin.find("policy", policy),
        plugin.find("router", router),
        Limits(**{"num_block": 400, "block_token": 4, "max_context_token": 512, "num_replica": num, **limits}),
    )  # fmt: skip


def live(*bodies, gap_us=0, options=None, order="request", outside=None, **pool):
    one = Live(part(**pool), options, order=order, outside=outside)
    for k, body in enumerate(bodies):
        one.add(body, arrival_ps=k * gap_us * US)
    return one


def store_is_whole(one):
    """After a run nobody holds a block, and free and cached ones are all there are."""
    me = one.pool.world.engine
    assert (me["free_block"] + me["evictable_block"] == me["num_block"]).all()
    assert (me["num_running"] == 0).all()
    assert (me["num_waiting"] == 0).all()
    assert (me["num_stop"] == 0).all()
    assert (me["outstanding"] == 0).all()
    assert (me["load_token"] == 0).all()
    assert (me["kv_token"] == 0).all()


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 999), num_replica=st.sampled_from([1, 3]), gap_us=st.sampled_from([0, 30, 400]),
    late=st.booleans(), rich=st.booleans(),
)  # fmt: skip
def test_programs_that_only_ask_are_the_plain_system_to_the_tick(seed, num_replica, gap_us, late, rich):
    random = np.random.default_rng(seed)
    num = 20
    trace = load(
        np.sort(random.integers(0, gap_us * num + 1, num)), random.integers(1, 90, num), random.integers(1, 40, num)
    )
    price = attention_price(512, 16) if rich else flat_price(max_token=512, max_seq=16)
    rules = {"plan_ahead": 1, "rules": Rules(own_cache=True, end_late=True)} if late else {}
    one = part(num_replica, num_block=60, price=price, **rules)
    alone = run(trace, price, POLICY, one.limits, "least_outstanding", record_steps=True)
    for kind in ("one", "chain_of_thought:chunk=0"):
        world = Live(one, Options(record_steps=True))
        for i in range(num):
            job = Job(int(trace.prompt_token[i]), int(trace.output_token[i]), 1)
            world.add(find(kind).body(job), arrival_ps=int(trace.arrival_ps[i]))
        same(world.run().pool, alone)
        store_is_whole(world)


def thinker(job, text="chain_of_thought:chunk=8,threshold=2,probe_token=3,suffix=5"):
    return find(text).body(job)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 999), gap_us=st.sampled_from([0, 60, 900]), num_block=st.sampled_from([60, 90, 400]),
    kind=st.sampled_from(["chain_of_thought:chunk=8,threshold=2,probe_token=3,suffix=5",
                          "chain_of_thought:chunk=8,threshold=1,probe_token=3,suffix=5,eager=1",
                          "self_consistency:num=4,agree=2"]),
    order=st.sampled_from(["request", "program", "remaining"]), num=st.sampled_from([1, 2]), late=st.booleans(),
)  # fmt: skip
def test_running_ahead_is_stepping_and_nothing_is_lost(seed, gap_us, num_block, kind, order, num, late):
    random = np.random.default_rng(seed)
    jobs = [Job(int(random.integers(1, 80)), int(random.integers(1, 70)), 30) for _ in range(8)]
    rules = {"plan_ahead": 1, "rules": Rules(own_cache=True, end_late=True, keep_duplicate=True)} if late else {}
    found = []
    for engine in ("auto", "stepping"):
        world = Live(part(num, num_block=num_block, **rules), Options(seed=seed, engine=engine), order=order)
        for k, job in enumerate(jobs):
            world.add(thinker(job, kind), arrival_ps=k * gap_us * US)
        found.append(world.run())
        store_is_whole(world)
    same(found[0].pool, found[1].pool)
    for name, values in found[0].program.items():
        np.testing.assert_array_equal(values, found[1].program[name], err_msg=name)
    r = found[0].pool.request
    done = r["status"] == at.FINISHED
    assert (r["produced_token"][done] == r["output_token"][done]).all()
    stopped = r["reason"] == at.REASON_STOPPED
    assert (done | stopped).all()
    assert (r["produced_token"][stopped] < r["output_token"][stopped]).all()
    counter = found[0].pool.counter
    assert counter["num_output_token"].sum() == r["produced_token"].sum()
    assert counter["num_aborted"].sum() == stopped.sum() == found[0].program["stopped"].sum()
    if kind.startswith("chain"):
        wanted = [note["token"] for note in found[0].note]
        assert sum(wanted) + 3 * sum(note["probe"] for note in found[0].note) == r["produced_token"].sum()
        assert all(token <= job.output for token, job in zip(wanted, jobs, strict=True))


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 999), gap_us=st.sampled_from([0, 45, 700]), max_seq=st.sampled_from([2, 8]),
    kind=st.sampled_from(["one", "chain_of_thought:chunk=8,threshold=2,probe_token=3,suffix=5",
                          "chain_of_thought:chunk=8,threshold=1,probe_token=3,suffix=5,eager=1",
                          "self_consistency:num=4,agree=2"]),
)  # fmt: skip
def test_a_slow_engine_of_tokens_on_simpys_clock_says_the_same(seed, gap_us, max_seq, kind):
    random = np.random.default_rng(seed)
    jobs = [Job(int(random.integers(1, 80)), int(random.integers(1, 70)), 30) for _ in range(6)]
    arrival_ps = [k * gap_us * US for k in range(len(jobs))]
    policy = f"vllm_v1:max_token=64,max_seq={max_seq}"
    world = Live(part(policy=policy, num_block=40_000, prefix_cache=False), Options(seed=seed))
    for job, when in zip(jobs, arrival_ps, strict=True):
        world.add(find(kind).body(job), arrival_ps=when)
    request = world.run().pool.request
    twin = Twin(lambda token: (10 + token) * US, 64, max_seq)
    twin.run([find(kind).body(job) for job in jobs], arrival_ps, seed)
    assert [one.prompt for one in twin.request] == request["prompt_token"].tolist()
    assert [one.end_ps for one in twin.request] == request["end_ps"].tolist()
    assert [one.produced for one in twin.request] == request["produced_token"].tolist()


def test_a_probe_finds_the_text_before_it_in_the_cache():
    # a prompt of 32 tokens in blocks of 4: chunk and probe of the first round both compute it; later they find it
    job = Job(32, 64, 64)
    world = live(find("chain_of_thought:chunk=16,threshold=4,probe_token=4,suffix=4,low=2,high=3").body(job))
    done = world.run().pool.request
    assert done["prompt_token"].tolist() == [32, 36, 48, 52, 64, 68, 80, 84]
    assert done["cached_token"].tolist()[2:] == [44, 44, 60, 60, 76, 76]  # all but the last block, which is not whole


def test_a_stopped_request_gives_its_blocks_back_at_the_next_plan():
    seen = {}

    def body(p):
        long, short = p.ask(200, prompt=40), p.ask(5, prompt=4)
        yield short.done
        seen["used"] = int(p.live.pool.world.engine["num_block"][0] - p.live.pool.world.engine["free_block"][0])
        p.stop(long)
        p.stop(long)  # once more is nothing more
        yield long.done
        seen["end"] = long
        seen["after"] = p.now_s

    world = live(body)
    result = world.run()
    assert seen["used"] >= 10
    assert not seen["end"].served
    assert 0 < seen["end"].produced < 200
    assert result.pool.request["reason"].tolist() == [at.REASON_STOPPED, at.NO_REASON]
    store_is_whole(world)


def test_a_stop_reaches_who_waits_and_who_has_not_arrived():
    def body(p):
        first = p.ask(50, prompt=40)
        waits, fresh = p.ask(50, prompt=300), p.ask(3, prompt=300)
        yield p.sleep(30e-6)
        p.stop(waits)
        p.stop(fresh)
        late = p.ask(9, prompt=9)
        p.stop(late)
        yield p.all_of([first.done, waits.done, fresh.done, late.done])
        assert [one.served for one in (first, waits, fresh, late)] == [True, False, False, False]

    world = live(body, num_block=100)
    world.run()
    store_is_whole(world)


def test_programs_go_together_or_by_what_remains():
    # one engine that serves one request at a time: two programs of two requests each, asked in turn
    ends = {}

    def asker(name, remaining):
        def body(p):
            p.remaining = remaining
            for _ in range(2):
                yield p.ask(4, prompt=4).done
            ends[name] = p.now_s

        return body

    def end_of(order):
        world = Live(part(policy="vllm_v1:max_token=64,max_seq=1"), order=order)
        for name, remaining in (("first", 90), ("second", 50), ("third", 10)):
            world.add(asker(name, remaining))
        world.run()
        return sorted(ends, key=ends.__getitem__)

    assert end_of("program") == ["first", "second", "third"]
    assert end_of("remaining")[:2] == ["third", "second"] or end_of("remaining")[0] == "third"
    by_request = end_of("request")
    assert by_request == ["first", "second", "third"]
    together = {}
    for order in ("program", "request"):
        end_of(order)
        together[order] = ends["first"]
    assert together["program"] < together["request"]  # its second request does not wait behind the others' first


def test_a_policy_sees_program_and_progress(tmp_path):
    file = tmp_path / "sees.py"
    file.write_text("""
from kernels.engine.verbs import (FOREVER, admit, grow_or_preempt, head, num_running, part_of, program_of, running,
                                  schedule_next, target_token, wanted_token)
from sim.serving.plugin import Option
HELP = "one program's requests at a time"
OPTIONS = {"max_token": Option(64, "t"), "max_seq": Option(8, "s")}
def plan(e):
    for k in range(num_running(e)):
        i = running(e, k)
        if wanted_token(e, i) > 0 and grow_or_preempt(e, i, wanted_token(e, i)):
            schedule_next(e, i, wanted_token(e, i))
    while head(e) >= 0 and (num_running(e) == 0 or program_of(e, head(e)) == program_of(e, running(e, 0))):
        if part_of(e, head(e)) > 5:
            break
        i = admit(e, target_token(e, head(e)))
        if i < 0:
            break
        schedule_next(e, i, wanted_token(e, i))
    return 0
""")

    def body(p):
        yield p.all_of([p.ask(9, prompt=5).done for _ in range(3)])

    world = Live(part(policy=str(file)), Options(engine="stepping"), order="program")
    for _ in range(3):
        world.add(body)
    result = world.run()
    start, end = result.pool.request["start_ps"].reshape(3, 3), result.pool.request["end_ps"].reshape(3, 3)
    assert (start[1:].min(axis=1) >= end[:-1].max(axis=1)).all()


def test_a_server_outside_has_places():
    times = []

    def body(p):
        yield p.ask(1, prompt=1).done
        yield p.call("reward", 1.0)
        times.append(p.now_s)

    live(body, body, body, outside={"reward": 2}).run()
    assert [round(t - times[0], 3) for t in times] == [0, 0, 1.0]
    with pytest.raises(InputError, match="no such server"):
        live(body).run()


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["ask", "stop", "wait", "sleep", "join", "fork"]), st.integers(0, 9)), max_size=8
)


@settings(max_examples=60, deadline=None)
@given(plans=st.lists(ACTIONS, min_size=1, max_size=6), num_block=st.sampled_from([40, 400]))
def test_a_random_graph_ends_or_says_who_waits_for_whom(plans, num_block):
    def body_of(plan):
        def body(p):
            stream = p.stream(9)
            for what, k in plan:
                if what == "ask":
                    p.ask(1 + 3 * k, prompt=1 + 4 * k)
                elif what == "fork":
                    p.ask(1 + k, stream=stream.fork() if k % 2 else stream, suffix=k if k % 2 else 0)
                elif what == "sleep":
                    yield p.sleep(k * 13e-6)
                elif what == "join":  # waits for another program's end, perhaps its own
                    yield p.live.program[k % len(p.live.program)].done
                elif p.request:
                    request = p.request[k % len(p.request)]
                    if what == "stop":
                        p.stop(request)
                    else:
                        yield request.done

        return body

    world = live(*map(body_of, plans), gap_us=20, num_block=num_block)
    waits = {i: {k % len(plans) for what, k in plan if what == "join"} for i, plan in enumerate(plans)}

    def reaches(i, seen):
        return any(j == i or (j not in seen and j in circle(j, seen | {j})) for j in waits[i])

    def circle(i, seen):
        found = set(waits[i])
        for j in list(found):
            if j not in seen:
                found |= circle(j, seen | {j})
        return found

    cyclic = {i for i in waits if i in circle(i, {i})}
    blocked = {i for i in waits if i in cyclic or circle(i, {i}) & cyclic}
    if blocked:
        with pytest.raises(InputError, match=rf"deadlock of {len(blocked)} programs: program \d+ .* waits for program"):
            world.run()
    else:
        world.run()
        store_is_whole(world)
        assert all(program.end_ps >= 0 for program in world.program)


def test_draws_depend_on_the_seed_and_the_program_alone():
    job = Job(20, 60, 60)
    fast, slow = (live(*[thinker(job)] * 4, gap_us=gap, options=Options(seed=3)).run().note for gap in (0, 100_000))
    assert fast == slow
    assert live(*[thinker(job)] * 4, options=Options(seed=4)).run().note != fast


def test_what_cannot_be_asked_is_refused():
    def bad(p):
        yield p.ask(3).done

    with pytest.raises(InputError, match="a prompt of its own"):
        live(bad).run()
    with pytest.raises(InputError, match="no such order"):
        Live(part(), order="fair")
    with pytest.raises(InputError, match="no such program"):
        find("dinasor")
    with pytest.raises(InputError, match=r"unknown option; allowed: chunk, .*nearest: chunk"):
        find("chain_of_thought:chunks=3")

    def forever(p):
        yield p.ask(10, prompt=4).done
        yield p.live.env.event()

    with pytest.raises(InputError, match="an event that nothing brings"):
        live(forever).run()
