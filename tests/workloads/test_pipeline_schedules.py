"""Every schedule of the folder: legality for any (p, m, v), and the closed forms of bubbles and memory."""

import pathlib
from collections import Counter

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from kernels.errors import InputError
from sim.pipeline.schedule import run_schedule
from workloads.pipeline import Order, serial, split_backward
from workloads.schedules import Schedule, catalogue, load

NAMES = sorted(catalogue())


def build_or_skip(name: str, p: int, m: int, v: int) -> Order:
    schedule = load(name)
    try:
        return schedule.build(p, m, **({"num_chunk": v} if "num_chunk" in schedule.option else {}))
    except InputError as error:
        refused = str(error)
    if "stages" not in refused and "microbatches" not in refused:  # the only reasons to refuse
        pytest.fail(refused)
    reject()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12, deadline=None)
@given(p=st.integers(1, 6), rounds=st.integers(1, 4), odd=st.integers(0, 3), v=st.integers(1, 3))
def test_every_microbatch_once_a_stage_and_no_deadlock(name: str, p: int, rounds: int, odd: int, v: int) -> None:
    p = p + p % 2 if name in ("chimera", "bitpipe", "dualpipe") else p
    if name == "zb-exact":  # a mixed-integer program: small cases alone
        p, rounds, odd = min(p, 3), 1, min(odd, 1)
    odd = 0 if name in ("chimera", "bitpipe") else odd * (2 if name == "dualpipe" else 1)
    m = p * (rounds + (name.startswith("dualpipe"))) + odd
    order = build_or_skip(name, p, m, v)
    count = Counter(op for ops in split_backward(serial(order)) for op in ops)
    num_stage = max(op.stage for op in count) + 1
    for kind in "FIW":
        ops = {(op.stage, op.microbatch) for op in count if op.kind == kind}
        assert ops == {(s, k) for s in range(num_stage) for k in range(m)}
    assert set(count.values()) == {1}
    # F before its B on a rank, and an input for everything, or the replay refuses; it refuses a deadlock too
    result = run_schedule(order, (3, 2, 4), hop=1)
    assert result.summary["makespan"] >= result.summary["busy"] == result.rank["busy"].max()
    assert result.op.groupby("rank")["memory"].last().max() == 0  # all that was kept is freed


@settings(max_examples=20, deadline=None)
@given(p=st.integers(1, 8), m=st.integers(1, 20), f=st.integers(1, 9), b=st.integers(1, 9), c=st.integers(0, 5))
def test_gpipe(p: int, m: int, f: int, b: int, c: int) -> None:
    result = run_schedule(load("gpipe").build(p, m), (f, b, 0), c)
    # fill p-1 forwards, m of each, drain p-1 backwards, a hop a boundary each way
    assert result.summary["makespan"] == (m + p - 1) * (f + b) + 2 * (p - 1) * c
    assert result.rank["peak_memory"].tolist() == [m] * p


@settings(max_examples=20, deadline=None)
@given(p=st.integers(1, 8), m=st.integers(1, 20), f=st.integers(1, 9), b=st.integers(1, 9))
def test_1f1b(p: int, m: int, f: int, b: int) -> None:
    result = run_schedule(load("1f1b").build(p, m), (f, b, 0))
    assert result.summary["makespan"] == (m + p - 1) * (f + b)
    assert result.rank["peak_memory"].tolist() == [min(m, p - i) for i in range(p)]


@settings(max_examples=10, deadline=None)
@given(p=st.integers(2, 8), rounds=st.integers(1, 4))
def test_1f1b_pays_the_hop_a_microbatch_when_the_stages_have_no_slack(p: int, rounds: int) -> None:
    m = p * rounds
    result = run_schedule(load("1f1b").build(p, m), (5, 6, 4), hop=1)
    assert result.summary["makespan"] == (m + p - 1) * 15 + 2 * ((p - 1) * (1 + rounds) - 1)


@settings(max_examples=15, deadline=None)
@given(p=st.integers(1, 6), rounds=st.integers(1, 4), v=st.integers(1, 4), f=st.integers(1, 9), b=st.integers(1, 9))
def test_interleaved(p: int, rounds: int, v: int, f: int, b: int) -> None:
    m = p * rounds
    result = run_schedule(load("interleaved-1f1b").build(p, m, num_chunk=v), (f, b, 0))
    assert result.summary["makespan"] == m * v * (f + b) + (p - 1) * (f + b)  # bubble 1/v of 1F1B's, in chunk times
    peak = [min(m * v, (v - 1) * p + 2 * (p - 1 - i) + 1) for i in range(p)]
    assert result.rank["peak_memory"].tolist() == peak


@settings(max_examples=15, deadline=None)
@given(p=st.integers(1, 6), extra=st.integers(0, 7), v=st.integers(1, 4), f=st.integers(2, 9), b=st.integers(2, 9))
def test_breadth_first(p: int, extra: int, v: int, f: int, b: int) -> None:
    m = p + extra
    result = run_schedule(load("breadth-first").build(p, m, num_chunk=v), (f, b, 0))
    assert result.summary["makespan"] == (m * v + p - 1) * (f + b)
    assert result.rank["peak_memory"].tolist() == [m * v] * p


@settings(max_examples=15, deadline=None)
@given(p=st.integers(1, 6), rounds=st.integers(2, 4), v=st.integers(1, 3))
@pytest.mark.parametrize("times", [(1, 1, 1), (2, 2, 1), (5, 6, 4)])
def test_zb_h1(times: tuple[int, int, int], p: int, rounds: int, v: int) -> None:
    f, i, w = times
    result = run_schedule(load("zb-h1").build(p, p * rounds, num_chunk=v), times)
    assert result.summary["bubble_makespan"] == (p - 1) * (f + i - w)
    assert result.rank["peak_memory"].tolist() == [v * p] * p


@settings(max_examples=15, deadline=None)
@given(p=st.integers(1, 7), extra=st.integers(0, 8))
def test_zb_h2_and_zb_v_have_no_bubble_inside_a_span(p: int, extra: int) -> None:
    h2 = run_schedule(load("zb-h2").build(p, 2 * p + extra))
    assert (h2.summary["bubble_span"], h2.summary["peak_memory"]) == (0, 2 * p - 1)
    v = run_schedule(load("zb-v").build(p, 2 * p + extra))
    assert (v.summary["bubble_span"], v.summary["bubble_makespan"]) == (0, p - 1)
    assert v.rank["peak_memory"].tolist() == [2 * p] * p  # chunks: p stages


@settings(max_examples=12, deadline=None)
@given(half=st.integers(1, 4), extra=st.integers(0, 4))
def test_dualpipe(half: int, extra: int) -> None:
    p = 2 * half
    result = run_schedule(load("dualpipe").build(p, 2 * (p + extra)), overlap_time=3)
    # (PP/2 - 1)(F&B + B - 3W) with F = I = W = 1, B = 2, F&B = 3
    assert result.summary["bubble_makespan"] == (half - 1) * (3 + 2 - 3)
    assert result.rank["peak_memory"].tolist() == [p + 1] * p
    v = run_schedule(load("dualpipe-v").build(half, 2 * half + extra), overlap_time=3)  # as many stages, half the ranks
    assert v.summary["bubble_makespan"] == (half - 1) * (3 + 2 - 3)
    assert v.rank["peak_memory"].tolist() == [p + 1] * half


@settings(max_examples=10, deadline=None)
@given(half=st.integers(1, 5), units=st.integers(1, 4))
def test_two_directions(half: int, units: int) -> None:
    p = 2 * half
    m = p * units
    bitpipe = run_schedule(load("bitpipe").build(p, m), (1, 2, 0))
    assert bitpipe.summary["bubble_makespan"] == (p - 2) * (units + 1)
    assert run_schedule(load("bitpipe").build(p, m), (1, 1, 0)).summary["bubble_makespan"] == p - 2
    chimera = run_schedule(load("chimera").build(p, m), (1, 1, 0))
    assert chimera.summary["bubble_makespan"] == p - 2  # p/2 - 1 of each kind, filling and draining


@settings(max_examples=10, deadline=None)
@given(p=st.integers(1, 6), m=st.integers(1, 12))
def test_2bp_of_gpipe_hides_the_weight_gradients_of_the_drain(p: int, m: int) -> None:
    result = run_schedule(load("2bp").build(p, m, base="gpipe"))
    assert result.summary["makespan"] == (m + p - 1) * 2 + m  # the drain is p-1 input gradients, not whole backwards
    assert result.rank["peak_memory"].tolist() == [m] * p


def test_2bp_of_1f1b_by_hand() -> None:
    # p = m = 4, F = I = W: 21 becomes 18 with all weight gradients at the end
    assert run_schedule(load("1f1b").build(4, 4)).summary["makespan"] == 21
    assert run_schedule(load("2bp").build(4, 4)).summary["makespan"] == 18


@settings(max_examples=10, deadline=None)
@given(p=st.integers(1, 6), steady=st.integers(0, 30))
def test_pipelined_backprop_only_fills(p: int, steady: int) -> None:
    m = 2 * p + steady
    result = run_schedule(load("pipelined-backprop").build(p, m), (1, 1, 0))
    assert result.summary["makespan"] == 2 * m + 2 * (p - 1)  # filling and draining once, whatever m


@pytest.mark.parametrize(("p", "m"), [(2, 4), (4, 8), (8, 24)])
@pytest.mark.parametrize("times", [(1, 1, 1), (5, 6, 4), (2, 2, 1)])
def test_zb_auto_at_the_memory_of_1f1b_and_more(p: int, m: int, times: tuple[int, int, int]) -> None:
    f, i, w = times
    spans = []
    for limit in (p, 3 * p // 2, 2 * p):
        result = run_schedule(load("zb-auto").build(p, m, times=times, limit=limit), times)
        assert result.summary["peak_memory"] <= limit
        spans.append(result.summary["max_span"])
    assert spans[0] == m * (f + i + w) + (p - 1) * (f + i - w)  # ZB-H1's formula
    assert spans == sorted(spans, reverse=True)  # more memory is never worse
    if times == (1, 1, 1) and m > 2 * p:
        assert spans[-1] == m * 3


@pytest.mark.parametrize(
    ("times", "hop", "spans"),
    [((1, 1, 1), 0, (79, 75, 72)), ((5, 6, 4), 0, (409, 382, 364)), ((5, 6, 4), 1, (437, 397, 376))],
)
def test_zb_auto_is_no_worse_than_the_published_heuristic(
    times: tuple[int, int, int], hop: int, spans: tuple[int, ...]
) -> None:
    # spans that the authors' heuristic gives for p = 8, m = 24 at p, 1.5 p and 2 p forwards of memory
    for limit, span in zip((16, 24, 32), spans, strict=True):
        order = load("zb-auto").build(8, 24, times=times, hop=hop, memory=(2, -1, -1), limit=limit)
        assert run_schedule(order, times, hop).summary["max_span"] <= span


def test_the_papers_profile_of_28_billion_parameters() -> None:
    # Zero Bubble, p = 32, m = 96: (F, I, W, hop) in us, bubble rates of their scheduler at p, 1.5 p and 2 p
    times, hop, memory = (10419, 10207, 7715), 408, (454656, -258048, -196608)
    for factor, rate in ((1, 0.1421), (1.5, 0.0604), (2, 0.0038)):
        limit = int(32 * factor) * memory[0]
        order = load("zb-auto").build(32, 96, times=times, hop=hop, memory=memory, limit=limit)
        result = run_schedule(order, times, hop, memory=memory)
        assert result.summary["bubble_rate_span"] <= rate + 0.5e-4
        assert result.summary["peak_memory"] <= limit


@pytest.mark.parametrize(
    ("p", "m", "times", "hop", "limit", "span"),
    [(2, 4, (1, 1, 1), 0, 4, 13), (2, 4, (5, 6, 4), 0, 4, 67), (3, 3, (5, 6, 4), 1, 6, 63), (2, 4, (5, 6, 4), 1, 8, 61),
     (4, 4, (1, 1, 1), 0, 8, 15)],
)  # fmt: skip
def test_exact_and_automatic_reach_the_proven_optimum(
    p: int, m: int, times: tuple[int, int, int], hop: int, limit: int, span: int
) -> None:
    # optima that the authors' program proves (p = m = 4: ZB-H1, by hand)
    for name in ("zb-exact", "zb-auto"):
        order = load(name).build(p, m, times=times, hop=hop, memory=(2, -1, -1), limit=limit)
        result = run_schedule(order, times, hop, memory=(2, -1, -1))
        assert result.summary["max_span"] == span
        assert result.summary["peak_memory"] <= limit


def test_the_exact_program_refuses_what_it_cannot_prove() -> None:
    with pytest.raises(InputError, match="too large"):
        load("zb-exact").build(8, 24)


@pytest.mark.parametrize(
    ("name", "makespan", "peak"), [("v-half", 161, 10), ("v-min", 171, 8), ("zb-v-greedy", 151, 16)]
)
def test_v_shaped_schedules_trade_memory_for_time(name: str, makespan: int, peak: int) -> None:
    # published generators, p = 8, m = 24, F = I = W = 1 (1F1B: 2 x 93 in these chunk units, 16 chunks)
    result = run_schedule(load(name).build(8, 24))
    assert result.summary["makespan"] <= makespan
    assert result.summary["peak_memory"] <= peak


def test_zb_v_greedy_beats_the_handcrafted_order_when_times_differ() -> None:
    times, hop = (5, 6, 4), 1
    greedy = run_schedule(load("zb-v-greedy").build(8, 24, times=times, hop=hop), times, hop)
    assert greedy.summary["max_span"] < run_schedule(load("zb-v").build(8, 24), times, hop).summary["max_span"]
    assert greedy.summary["bubble_span"] <= 64  # the authors' scheduler: 64 of 720
    assert greedy.summary["peak_memory"] <= 16


def test_too_little_memory_is_an_error() -> None:
    with pytest.raises(InputError, match="memory"):
        load("zb-auto").build(4, 8, limit=0)


def test_a_new_schedule_is_one_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "all_forward_first.py"
    path.write_text('"""One line."""\nfrom workloads.schedules.gpipe import order\n')
    schedule = load(str(path))
    assert isinstance(schedule, Schedule)
    assert (schedule.name, schedule.help) == ("all-forward-first", "One line.")
    assert schedule.build(2, 2) == load("gpipe").build(2, 2)


def test_bad_names_and_options_say_what_is_allowed() -> None:
    with pytest.raises(InputError, match="nearest: zb-v"):
        load("zbv")
    with pytest.raises(InputError, match="num_chunk"):
        load("interleaved-1f1b").build(2, 2, chunk=3)
