"""The time of a batch is the time of that step in `simulate`, whoever asks for it and through which hook."""

import dataclasses
import pathlib
import re
import sys
import tracemalloc

import numpy as np
import pytest

import ridgeline
from kernels.engine import records as at
from kernels.engine.lanes import lane_at
from kernels.errors import InputError
from kernels.jit import PLAIN
from ridgeline import Scenario, predictor, simulate
from sim.serving.plan import plan_rows

SOL = {"fidelity": "sol"}
LOAD = "poisson:rate=200,n=40,prompt=lognormal:mean=300:max=1500,output=lognormal:mean=20:max=60"
CASES = [
    {"model": "llama-3-8b", "system": "h100_sxm"},
    {"model": "mixtral-8x7b", "system": "dgx_h100", "tp": 2, "policy": "sarathi"},
    {"model": "gemma-3-12b", "system": "h100_sxm"},  # layers with a window
    {"model": "jamba-mini", "system": "dgx_h100", "tp": 4},  # recurrent layers
    {"model": "llama-3-8b", "system": "a100_sxm", "policy": "sglang", "engine": "none"},
    {"model": "deepseek-v2-lite", "system": "h100_sxm", **SOL},
    {"model": "llama-3-8b", "system": "duplex", "dispatch": "co_process:beside=attention", **SOL},
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['model']} on {case['system']}")
def test_a_step_costs_what_it_costs_in_a_run(case) -> None:
    """Every step of a run is handed over as it is launched, and priced again from its lengths alone."""
    if case["system"] == "duplex":
        case = case | {"dispatch": "co_process"}
    time_of = predictor.BatchTime(**case)
    seen = {"prompt": 0, "mixed": 0, "decode": 0}

    def execute(engine, lane):
        rows = plan_rows(engine, lane)
        prompt = rows["role"] == at.PREFILL
        assert (rows["role"] != at.IDLE).all()
        target = engine.seq["target"][rows["sequence"]]
        ends = rows["start"] + rows["token"] >= target
        batch = predictor.Batch(
            rows["token"][prompt], rows["start"][prompt], rows["start"][~prompt], int((prompt & ~ends).sum())
        )
        own = engine.lane[lane]
        assert time_of.picoseconds(batch) == int(own["end_ps"]) - int(own["begun_ps"])
        kind = "mixed" if prompt.any() and not prompt.all() else "prompt" if prompt.any() else "decode"
        seen[kind] += 1
        assert lane_at(engine, lane) >= 0
        return -1

    done = simulate(Scenario(requests=LOAD, **case), execute=execute)
    assert done.served
    assert seen["decode"] > 0
    assert seen["prompt"] + seen["mixed"] > 0


@dataclasses.dataclass
class ScheduleRequest:
    """As SGLang's simulator describes a request of a batch."""

    extend_length: int = 0
    past_kv_length: int = 0


@dataclasses.dataclass
class ScheduleBatch:
    """As SGLang's simulator describes a batch."""

    reqs: list[ScheduleRequest]


@dataclasses.dataclass
class SimBatchRequest:
    """As TensorRT-LLM's simulation mode describes a request of a batch."""

    input_length: int
    past_kv_length: int


@dataclasses.dataclass
class SimBatch:
    """As TensorRT-LLM's simulation mode describes a batch."""

    num_context_requests: int
    num_context_tokens: int
    num_generation_requests: int
    num_generation_tokens: int
    requests: list[SimBatchRequest]


@pytest.fixture(scope="module")
def llama():
    return predictor.BatchTime("llama-3-8b", "h100_sxm")


def test_hooks_ask_for_the_same_batch(llama) -> None:
    mixed = predictor.Batch(prefill=[700, 300], cached=[0, 128], decode=[900, 1200, 40])
    reqs = [(1, 900), (700, 0), (1, 1200), (300, 128), (1, 40)]
    expected = llama.seconds(mixed)
    assert llama.predict_infer_time(ScheduleBatch([ScheduleRequest(*pair) for pair in reqs])) == expected
    assert llama.predict(SimBatch(2, 1000, 3, 3, [SimBatchRequest(*pair) for pair in reqs])) == expected
    prompts = predictor.Batch([1024 - 256] * 4, [256] * 4)
    assert llama.predict_prefill_latency(4, 1024, 256) == 1e3 * llama.seconds(prompts)
    whole_ms = 1e3 * llama.seconds(predictor.Batch(decode=[2000] * 32))
    assert llama.predict_decode_latency(32, 2000) == pytest.approx(whole_ms, rel=1e-15)
    longer = llama.predict_decode_latency(32, 2000, 100)
    assert llama.predict_decode_latency(32, 2000) < longer < llama.predict_decode_latency(32, 2100)
    arrays = predictor.Batch(*(np.array(part) for part in mixed[:3]))
    assert llama.seconds(arrays) == expected
    assert llama.seconds(predictor.Batch()) == 0.0
    assert llama.seconds(ScheduleBatch([])) == 0.0


def test_totals_rows_and_growing_batches_are_the_same_steps(llama) -> None:
    """Sums instead of lists, rows as engines plan them, equal prompts, and steps in which every sequence grows."""
    lengths = [900, 1200, 40, 2000]
    listed = llama.picoseconds(predictor.Batch([700], [32], lengths))
    totals = predictor.Decodes(4, sum(lengths), max(lengths), min(lengths))
    assert llama.picoseconds(predictor.Batch([700], [32], totals)) == listed
    rows = predictor.Rows(np.array([1, 700, 1, 1, 1]), [900, 32, 1200, 40, 2000])
    assert llama.picoseconds(rows) == listed
    first = llama.picoseconds(predictor.Batch([64, 1, 64], [0, 0, 0], [50]))
    assert llama.picoseconds(predictor.Batch([64, 64, 1], None, [50])) == first  # equal ones that follow each other
    steps = [llama.picoseconds(predictor.Batch(decode=[500 + k] * 7)) for k in range(9)]
    assert llama.predict_decode_latency(7, 500, 10) == pytest.approx(1e3 * sum(steps) / 1e12 / 9, rel=1e-12)
    assert llama.seconds(predictor.Batch(decode=predictor.Decodes(0, 0, 0))) == 0.0
    for wrong in [(4, 1000, 200), (4, 10, 20, 3), (0, 5, 5), (2, 10, 4, 5)]:  # more than 4 x 200; less than 3 x 3 + 20
        with pytest.raises(InputError, match="no sequences have these totals"):
            llama.seconds(predictor.Batch(decode=predictor.Decodes(*wrong)))
    with pytest.raises(InputError, match="not a count"):
        llama.predict_decode_latency(-1, 100)
    with pytest.raises(InputError, match="not as long as token"):
        llama.seconds(predictor.Rows([1, 1], [5]))


def test_a_window_that_cuts_some_asks_for_lengths() -> None:
    """Layers of a window of 1,024 read a sum, or a window each; between the two the sum does not say what."""
    gemma = predictor.BatchTime("gemma-3-12b", "h100_sxm")

    def both(lengths: list[int]) -> tuple[int, int]:
        totals = predictor.Decodes(len(lengths), sum(lengths), max(lengths), min(lengths))
        return (gemma.picoseconds(predictor.Batch(decode=totals)),
                gemma.picoseconds(predictor.Batch(decode=lengths)))  # fmt: skip

    for lengths in ([100, 1023], [1023, 1024], [1023, 5000], [3000, 4000, 5000]):
        totals, listed = both(lengths)
        assert totals == listed
    with pytest.raises(InputError, match=r"a window cuts some .*decode=\["):
        both([100, 1024])


def test_a_larger_batch_takes_no_less(llama) -> None:
    base = llama.picoseconds(predictor.Batch([100], None, [500] * 8))
    assert llama.picoseconds(predictor.Batch([100], None, [500] * 9)) >= base
    assert llama.picoseconds(predictor.Batch([200], None, [500] * 8)) >= base
    assert llama.picoseconds(predictor.Batch([100], [900], [500] * 8)) >= base
    assert llama.picoseconds(predictor.Batch([100], None, [500] * 8, 1)) <= base  # no token is sampled of the chunk


def test_what_cannot_be_priced_is_refused(llama) -> None:
    with pytest.raises(InputError, match="larger token_budget"):
        llama.seconds(predictor.Batch([10**6]))
    with pytest.raises(InputError, match="not as long as prefill"):
        llama.seconds(predictor.Batch([10, 10], [1]))
    with pytest.raises(InputError, match="a new token at least"):
        llama.seconds(predictor.Batch([0]))
    with pytest.raises(InputError, match="speculate"):
        predictor.BatchTime("llama-3-8b", "h100_sxm", speculate="chain:k=4,accept=0.7")
    shown = "batch:n=2,prompt=100,output=2,num_image=1,image_token=64"
    for name, value in {"requests": shown, "order": "sjf", "timeout_s": 3.0}.items():
        with pytest.raises(InputError, match=f"{name} = .*has no effect on the time of a batch"):
            predictor.BatchTime("llama-3-8b", "h100_sxm", **{name: value})
    with pytest.raises(InputError, match="unknown field"):
        predictor.BatchTime("llama-3-8b", "h100_sxm", tensor_parallel=2)


HUGE = 2**63 - 1  # two of these are -2 in 64 bits, and four of 2**62 nothing


@pytest.mark.parametrize(
    ("batch", "why"),
    [
        (predictor.Batch(prefill=[HUGE] * 2), "more tokens than a step"),
        (predictor.Batch(prefill=[2**62] * 4 + [5]), "more tokens than a step"),
        (predictor.Batch([5], [HUGE]), "longer than the context"),
        (predictor.Batch([100], [8192 - 99]), "longer than the context"),
        (predictor.Batch(decode=[HUGE]), "longer than the context"),
        (predictor.Batch(decode=[HUGE] * 3), "longer than the context"),
        (predictor.Batch(decode=[10**7]), "longer than the context"),
        (predictor.Batch(decode=[8192]), "longer than the context"),
        (predictor.Batch(decode=[5] * 8193), "more tokens than a step"),
        (predictor.Batch(decode=predictor.Decodes(2, 8195, 8192, 3)), "longer than the context"),
        (predictor.Batch(decode=predictor.Decodes(2**31 - 1, 0, 0)), "more tokens than a step"),
        (predictor.Rows([HUGE, HUGE], [0, 0]), "more tokens than a step"),
        (predictor.Rows([1], [8192]), "longer than the context"),
        (ScheduleBatch([ScheduleRequest(1, HUGE)]), "longer than the context"),
    ],
    ids=str,
)
def test_sums_do_not_wrap_and_the_context_bounds_a_row(llama, batch, why) -> None:
    with pytest.raises(InputError, match=why):
        llama.seconds(batch)


def test_the_context_is_the_last_that_is_priced(llama) -> None:
    full = llama.picoseconds(predictor.Batch(decode=[8191]))
    assert full == llama.picoseconds(predictor.Batch(decode=predictor.Decodes(1, 8191, 8191, 8191)))
    assert llama.picoseconds(predictor.Batch([8192])) > llama.picoseconds(predictor.Batch([100], [8092])) > 0
    assert llama.predict_decode_latency(1, 8190, 3) > 0  # steps on 8,190 and on 8,191 tokens
    for isl, osl in ((8190, 4), (2**31 - 1, 2), (1, 2**31 - 1)):
        with pytest.raises(InputError, match="larger max_model_len"):
            llama.predict_decode_latency(2**31 - 1, isl, osl)


@pytest.mark.parametrize("kind", [list, np.array])
def test_an_array_is_checked_as_a_list_is(llama, kind) -> None:
    for wrong in ([900.9, 1000.9], [float("nan")], [[1, 2], [3, 4]], ["a"], [None], [2**63]):
        with pytest.raises(InputError, match=r"decode = .*whole numbers of tokens"):
            llama.seconds(predictor.Batch(decode=kind(wrong)))
    for none in (5, np.array(5), None):
        with pytest.raises(InputError, match="whole numbers of tokens"):
            llama.seconds(predictor.Batch([5], None, none))
    with pytest.raises(InputError, match=r"cached = .*whole numbers of tokens"):
        llama.seconds(predictor.Batch([5, 6], kind([[1], [2]])))
    with pytest.raises(InputError, match=r"past = .*whole numbers of tokens"):
        llama.seconds(predictor.Rows(kind([1, 1]), kind([7.0, 8.0])))
    assert llama.seconds(predictor.Batch(kind([]), kind([]), kind([]))) == 0.0


@pytest.mark.parametrize("dtype", [np.int16, np.uint32, np.uint64, ">i8"])
def test_whole_numbers_of_any_width_are_the_same_lengths(llama, dtype) -> None:
    lengths = [900, 1200, 40, 2000]
    array = np.array(lengths, dtype)
    assert llama.picoseconds(predictor.Batch(decode=array)) == llama.picoseconds(predictor.Batch(decode=lengths))
    assert llama.picoseconds(predictor.Batch(decode=array[::2])) == llama.picoseconds(predictor.Batch(decode=[900, 40]))


def test_counts_are_whole_and_within_what_they_count(llama) -> None:
    for wrong in (None, 1.5, 1.0, -1, "1", 2**80):
        with pytest.raises(InputError, match=r"num_partial = .*not a count"):
            llama.seconds(predictor.Batch([5, 6], num_partial=wrong))
    with pytest.raises(InputError, match="more chunks whose prompt goes on than prompts"):
        llama.seconds(predictor.Batch([5], None, [6, 7], 2))
    with pytest.raises(InputError, match=r"longest = 7\.5: not a count"):
        llama.seconds(predictor.Batch(decode=predictor.Decodes(1, 7, 7.5)))
    whole = llama.seconds(predictor.Batch([5, 6], num_partial=np.int64(1)))
    assert whole == llama.seconds(predictor.Batch([5, 6], num_partial=1))


def test_too_many_sequences_are_refused_before_they_are_written_down(llama) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="more sequences than a step"):
            llama.predict_prefill_latency(10**6, 1, 0)
        assert tracemalloc.get_traced_memory()[1] < 10**6  # two arrays of 8 MB else
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(PLAIN, reason="of compiled kernels")
def test_a_warm_call_is_a_few_python_calls_whatever_the_batch(llama) -> None:
    """What keeps a call at a few microseconds: no loop over rows in Python."""
    rng = np.random.default_rng(0)

    def num_call(batch: object) -> int:
        llama.seconds(batch)
        calls = 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            calls += event == "call"

        sys.setprofile(count)
        try:
            llama.seconds(batch)
        finally:
            sys.setprofile(None)
        return calls

    for num in (64, 1000):
        lengths = rng.integers(100, 4000, num)
        objects = ScheduleBatch([ScheduleRequest(1, int(one)) for one in lengths])
        for batch in (predictor.Batch(decode=lengths.tolist()), predictor.Batch([1024, 512], [0, 100], lengths),
                      predictor.Rows(np.ones(num, np.int64), lengths), objects):  # fmt: skip
            llama.seconds(batch)
            assert num_call(batch) < 30


def test_it_is_reached_from_the_one_module() -> None:
    assert ridgeline.predictor is predictor
    assert "predictor" in dir(ridgeline)


def test_the_example_of_the_readme_runs() -> None:
    text = (pathlib.Path(__file__).parents[3] / "README.md").read_text()
    code = next(part for part in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "predictor" in part)
    names: dict[str, object] = {}
    exec(code, names)
    assert names["time_of"].seconds(predictor.Batch(decode=[10])) > 0  # type: ignore[attr-defined]
