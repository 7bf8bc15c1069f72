"""Results of benchmarks as loads: what their clients asked for, cap and rate, run by run."""

import json
import pathlib

import numpy as np
import pytest

from kernels.errors import InputError, NothingServedError
from tests.workloads import trace_files as files
from workloads.load import load_requests


def write(tmp_path: pathlib.Path, text: str, name: str = "results") -> pathlib.Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def _vllm(**change):
    return json.dumps(json.loads(files.VLLM) | change)


def test_a_cap_of_vllm_is_a_closed_loop_of_that_many(tmp_path) -> None:
    path = write(tmp_path, _vllm(request_rate="inf", max_concurrency=2))
    requests = load_requests(path)
    assert requests.max_concurrency == 2
    assert requests.arrival_ps.tolist() == [0, 0]  # all ask at once, two are sent
    assert "2 requests under way" in requests.note
    recorded = load_requests(f"{path},arrivals=recorded")
    assert recorded.max_concurrency == 0
    assert recorded.arrival_ps.tolist() == [500_000_000_000, 2_000_000_000_000]
    assert "as the measured server let them start" in recorded.note
    both = load_requests(write(tmp_path, _vllm(max_concurrency=2)))  # a rate and a cap together
    assert both.max_concurrency == 2
    assert both.arrival_ps[-1] == 15 * 10**11  # three requests at 2 a second, as that client stretches them
    assert load_requests(f"{path},max_concurrency=7").max_concurrency == 7


def test_what_vllms_client_held_back_arrives_when_it_was_asked_for(tmp_path) -> None:
    """`queue_times` stand beside a cap: 7.5, 7 and 9 s of start are 7, 7 and 6.5 s of arrival (one of them failed)."""
    path = write(tmp_path, _vllm(max_concurrency=2, queue_times=[0.5, 0.0, 2.5]))
    requests = load_requests(path)
    assert requests.max_concurrency == 2
    assert requests.arrival_ps.tolist() == [0, 5 * 10**11]
    recorded = load_requests(f"{path},arrivals=recorded")
    assert (recorded.max_concurrency, recorded.arrival_ps.tolist()) == (0, [5 * 10**11, 2 * 10**12])
    assert load_requests(f"{path},rate=2").arrival_ps.tolist() != requests.arrival_ps.tolist()
    uncapped = write(tmp_path, _vllm(max_concurrency=None, queue_times=[0.0, 0.0, 0.0]))
    assert load_requests(uncapped).arrival_ps.tolist() == [5 * 10**11, 2 * 10**12]
    with pytest.raises(InputError, match=r"queue_times = 2: not as long as input_lens"):
        load_requests(write(tmp_path, _vllm(max_concurrency=2, queue_times=[0.5, 0.0])))


def test_runs_that_vllm_appended_are_told_apart(tmp_path) -> None:
    """`--append-result` writes a run a line behind what the file holds."""
    one = load_requests(write(tmp_path, _vllm()))
    path = write(tmp_path, _vllm() + "\n" + _vllm(label="b", request_rate="inf", max_concurrency=2))
    with pytest.raises(InputError, match=r"run=1: run at request_rate 2\.0.*run=2: b at request_rate inf, max_conc"):
        load_requests(path)
    assert load_requests(f"{path},run=1").arrival_ps.tolist() == one.arrival_ps.tolist()
    assert load_requests(f"{path},run=2").max_concurrency == 2
    with pytest.raises(InputError, match=r":2: line = .*not a JSON object"):
        load_requests(f"{write(tmp_path, (_vllm() + chr(10) + _vllm())[:-9])},run=1")


def test_starts_of_vllm_that_are_no_seconds_are_refused(tmp_path) -> None:
    path = write(tmp_path, _vllm(start_times=[7500, 7000, 9000]))  # milliseconds
    with pytest.raises(InputError, match=r"start_times = 2000\.0: not seconds.*allowed: 3 s"):
        load_requests(path)
    with pytest.raises(InputError, match="ramp_up_strategy"):
        load_requests(write(tmp_path, _vllm(ramp_up_strategy="linear", start_times=None)))


def test_sglang_runs_are_told_apart(tmp_path) -> None:
    one = load_requests(write(tmp_path, files.SGLANG))
    assert (one.max_concurrency, one.prompt_token.tolist()) == (8, [10, 30])
    assert "1 failed" in one.note
    path = write(tmp_path, files.SGLANG_RUNS)
    with pytest.raises(InputError, match=r"several runs.*run=1: a at request_rate inf.*run=2: b at request_rate 4"):
        load_requests(path)
    assert load_requests(f"{path},run=1").max_concurrency == 8
    second = load_requests(f"{path},run=2")
    assert second.max_concurrency == 0
    assert second.arrival_ps[-1] == 75 * 10**10  # three at 4 a second
    with pytest.raises(InputError, match="no such run"):
        load_requests(f"{path},run=3")


def test_aiperf_records(tmp_path) -> None:
    requests = load_requests(write(tmp_path, files.AIPERF))
    assert requests.arrival_ps.tolist() == [0, 250 * 10**9]
    assert (requests.prompt_token.tolist(), requests.output_token.tolist()) == ([100, 550], [20, 9])
    assert "1 failed" in requests.note
    assert "1 requests of a warm-up" in requests.note
    made = load_requests(f"{write(tmp_path, files.AIPERF)},rate=3,max_concurrency=2")
    assert made.arrival_ps[-1] <= 10**12
    changed = files.AIPERF.replace(str(files.T0), str(files.T0 // 10**6))  # milliseconds under the name of nanoseconds
    with pytest.raises(InputError, match=r"2: metadata\.request_start_ns"):
        load_requests(write(tmp_path, changed))
    with pytest.raises(InputError, match=r"input_sequence_length\.unit = 'ms'"):
        load_requests(
            write(tmp_path, files.AIPERF.replace('"value": 550, "unit": "tokens"', '"value": 550, "unit": "ms"'))
        )
    statistics = json.dumps({"input_sequence_length": {"unit": "tokens", "avg": 550.0, "p50": 550.0}})
    with pytest.raises(InputError, match="without its requests"):
        load_requests(write(tmp_path, statistics))


def test_genai_perf_asks_how_long_a_token_is(tmp_path) -> None:
    path = write(tmp_path, files.GENAI_PERF)
    with pytest.raises(InputError, match="char_per_token"):
        load_requests(path)
    requests = load_requests(f"{path},char_per_token=4")
    assert (requests.prompt_token.tolist(), requests.output_token.tolist()) == ([10, 10, 10], [3, 7, 7])
    assert (requests.max_concurrency, requests.arrival_ps.tolist()) == (2, [0, 0, 0])
    recorded = load_requests(f"{path},char_per_token=4,arrivals=recorded")
    assert recorded.arrival_ps.tolist() == [0, 10**12, 2 * 10**12]


def test_guidellm_strategies(tmp_path) -> None:
    requests = load_requests(write(tmp_path, files.GUIDELLM))
    assert requests.arrival_ps.tolist() == [0, 5 * 10**11]
    assert (requests.prompt_token.tolist(), requests.output_token.tolist()) == ([64, 128], [16, 32])
    assert "1 incomplete or failed" in requests.note
    path = write(tmp_path, files.GUIDELLM_RUNS)
    with pytest.raises(InputError, match="run=1: synchronous; run=2: concurrent 4"):
        load_requests(path)
    assert load_requests(f"{path},run=1").max_concurrency == 1
    assert load_requests(f"{path},run=2").max_concurrency == 4
    milliseconds = files.GUIDELLM.replace("1759813207.", "1759813207000.")
    with pytest.raises(InputError, match="request_start_time"):
        load_requests(write(tmp_path, milliseconds))


@pytest.mark.parametrize("strategy", [{"type_": "poisson", "rate": 2.0}, {"type_": "replay"}])
def test_guidellm_arrives_when_its_schedule_had_it(tmp_path, strategy) -> None:
    """Every strategy of that client has a cap; of what the schedule asked for, the cap let the second start late."""
    run = files.guidellm(strategy | {"max_concurrency": 512})
    for row, due in zip(run["requests"]["successful"], (1759813206.75, 1759813207.0), strict=True):
        row["info"] = {"status": "completed", "timings": {"targeted_start": due}}
    requests = load_requests(write(tmp_path, json.dumps({"benchmarks": [run], "metadata": {}})))
    assert (requests.max_concurrency, requests.arrival_ps.tolist()) == (512, [0, 25 * 10**10])
    assert requests.prompt_token.tolist() == [128, 64]
    run["requests"]["successful"][0].pop("info")  # one is not known: the rate makes them, or they are as recorded
    requests = load_requests(write(tmp_path, json.dumps({"benchmarks": [run], "metadata": {}})))
    assert requests.max_concurrency == (512 if "rate" in strategy else 0)


def test_inference_perf(tmp_path) -> None:
    path = write(tmp_path, files.INFERENCE_PERF)
    requests = load_requests(path)
    assert requests.arrival_ps.tolist() == [0, 5 * 10**11]
    assert (requests.prompt_token.tolist(), requests.output_token.tolist()) == ([50, 100], [5, 20])
    rows = json.loads(files.INFERENCE_PERF)
    for row in rows:
        row["start_time"] *= 10**6
    path = write(tmp_path, json.dumps(rows))
    with pytest.raises(InputError, match="time_unit"):
        load_requests(path)
    assert load_requests(f"{path},time_unit=us").arrival_ps.tolist() == requests.arrival_ps.tolist()


FORMS = [(name, k) for name in sorted(files.FILES) for k in range(1 + len(files.OTHER_FORMS.get(name, ())))]
ASKED = {  # of one form alone
    ("vidur", 1): ",rate=2", ("sglang_bench", 1): ",run=1", ("guidellm", 1): ",run=1",
    ("mooncake", 3): ",char_per_token=4",
}  # fmt: skip
TABLES = ("azure", "burstgpt", "plain", "sharegpt", "splitwise", "vidur")


def form(name: str, k: int) -> str:
    """The file of a format, or one of its other published forms."""
    return (files.FILES[name], *files.OTHER_FORMS.get(name, ()))[k]


@pytest.mark.parametrize(("name", "k"), FORMS)
def test_a_truncated_file_is_refused_and_a_renamed_one_is_read(tmp_path, name, k) -> None:
    text, option = form(name, k), files.OPTION.get(name, "") + ASKED.get((name, k), "")
    renamed = write(tmp_path, text, "something.bin")
    assert len(load_requests(f"{renamed}{option}")) >= 1
    cut = text.rstrip()
    cut = cut[: cut.rindex("," if name in TABLES else ":")]
    with pytest.raises(InputError) as caught:
        load_requests(f"{write(tmp_path, cut)}{option}")
    assert not isinstance(caught.value, NothingServedError)
    assert "\n" not in str(caught.value)


CHANGED = {
    "bailian": (files.lines([row | {"timestamp": round(1000 * row["timestamp"])} for row in files.BAILIAN_ROWS]), "ms"),
    "mooncake": (
        "".join(f'{{"timestamp": {k * 0.25}, "input_length": 9, "output_length": 5}}\n' for k in range(9)),
        "s",
    ),
    "mooncake whole": (
        "".join(f'{{"timestamp": {k // 5}, "input_length": 9, "output_length": 5}}\n' for k in range(50)),
        "s",
    ),
    "burstgpt": (files.BURST.replace("\n5,", "\n5000,").replace("45,G", "45000,G").replace("118,", "118000000,"), "ms"),
    "vidur": (
        "arrived_at,num_prefill_tokens,num_decode_tokens\n" + "".join(f"{5000 * k},5,5\n" for k in range(9)),
        "ms",
    ),
    "splitwise": (files.SPLITWISE.replace("0.25", "250000").replace("4.5", "4500000"), "us"),
    "llm_serving_sim": (files.SIM_FLAT.replace("4059740", "4").replace("9059740", "9"), "ms"),
}


@pytest.mark.parametrize("name", sorted(CHANGED))
def test_a_unit_that_the_file_leaves_open_is_asked_for(tmp_path, name) -> None:
    text, unit = CHANGED[name]
    path = write(tmp_path, text)
    with pytest.raises(InputError, match="the unit of its times cannot be told") as caught:
        load_requests(path)
    assert caught.value.field == "time_unit"
    assert len(load_requests(f"{path},time_unit={unit}")) >= 2
    with pytest.raises(InputError, match="nearest: "):
        load_requests(f"{path},time_unit={unit}{unit[-1]}")


def test_bailian_is_read_in_seconds_and_blocks_of_16(tmp_path) -> None:
    path = write(tmp_path, files.BAILIAN)
    requests = load_requests(path)
    assert requests.arrival_ps[1] == 217 * 10**9
    assert requests.unit_token == 16
    first = requests.unit_id[requests.unit_start[0] : requests.unit_stop[0]]
    second = requests.unit_id[requests.unit_start[1] : requests.unit_stop[1]]
    np.testing.assert_array_equal(first[:2], second[:2])
    assert first[2] != second[2]
    assert len(load_requests(f"{path},type=search")) == 4
    milliseconds, _ = CHANGED["bailian"]
    back = load_requests(f"{write(tmp_path, milliseconds)},time_unit=ms")
    np.testing.assert_array_equal(back.arrival_ps, requests.arrival_ps)


REFUSED = {  # another unit under the published name: what of the file is named
    "azure": ("2023-11-16 18:15:46.6805900", "1700158546680", "TIMESTAMP"),
    "plain": ("arrival_s", "arrival_ms", "header"),
    "aiperf": (str(files.T0), str(files.T0 // 10**6), "request_start_ns"),
    "guidellm": ("1759813207.", "1759813207000.", "request_start_time"),
    "vllm_bench": ("[7.5, 7, 9]", "[7500, 7000, 9000]", "start_times"),
    "otel_spans": (str(files.T0)[:8], "1", "startTimeUnixNano"),
    "genai_perf": (str(files.T0)[:8], "1", "timestamp"),
}
ASKS = {name.partition(" ")[0] for name in CHANGED} | {"inference_perf"}
TIMELESS = {  # no time of a clock is in them, or none that the load takes
    "agentic_trace", "aiperf_turns", "sglang_bench", "sharegpt", "sharegpt_json",
}  # fmt: skip


@pytest.mark.parametrize(("name", "of"), [("bailian", 16), ("mooncake", 512)])
def test_hashes_of_other_blocks_are_asked_for(tmp_path, name, of) -> None:
    """One hash cannot name three published blocks: by the published size two thirds would be shared with nobody."""
    row = {"timestamp": 0, "input_length": 3 * of, "output_length": 4, "hash_ids": [5]}
    text = files.lines([row | ({"chat_id": 1, "parent_chat_id": -1, "turn": 1} if name == "bailian" else {})])
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=f":1: block_token = .*cannot be told.*allowed: {3 * of}, by this row"):
        load_requests(path)
    assert load_requests(f"{path},block_token={4 * of}").unit_token == 4 * of


def test_of_every_format_something_is_known_of_its_units() -> None:
    assert set(REFUSED) | ASKS | TIMELESS == set(files.FILES)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_another_unit_under_a_published_name_is_refused(tmp_path, name) -> None:
    there, changed, named = REFUSED[name]
    option = files.OPTION.get(name, "") + (",arrivals=recorded" if name == "genai_perf" else "")
    path = write(tmp_path, files.FILES[name].replace(there, changed))
    with pytest.raises(InputError, match=named):
        load_requests(f"{name}:{path}{option}")
