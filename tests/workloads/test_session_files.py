"""Sessions of trace files: turns wait for the ends before them, and share what they say."""

import json
import pathlib

import numpy as np
import pytest

from kernels.errors import InputError, NothingServedError
from tests.workloads import trace_files as files
from workloads.load import load_requests
from workloads.requests import shared_prefix_token


def write(tmp_path: pathlib.Path, text: str) -> pathlib.Path:
    path = tmp_path / "sessions"
    path.write_text(text)
    return path


def test_mooncake_sessions(tmp_path) -> None:
    requests = load_requests(write(tmp_path, files.MOONCAKE_SESSIONS))
    assert requests.arrival_ps.tolist() == [0, 0, 2 * 10**12]
    assert requests.parent.tolist() == [-1, 0, -1]
    assert requests.think_ps.tolist() == [0, 5 * 10**11, 0]
    assert requests.prompt_token.tolist() == [1100, 1100 + 100 + 200, 1100]
    # the second turn finds the 1,100 tokens and the answer as far as whole blocks of 512 go; session b two blocks
    assert shared_prefix_token(requests).tolist() == [0, 1400, 1024]


def test_mooncake_without_hashes_shares_nothing(tmp_path) -> None:
    requests = load_requests(write(tmp_path, files.MOONCAKE_PLAIN))
    assert requests.arrival_ps.tolist() == [0, 3 * 10**12]
    assert len(requests.unit_id) == 0


def test_mooncake_messages(tmp_path) -> None:
    """Each turn's messages are its whole prompt, as AIPerf sends them; equal beginnings are shared, the answer too
    where the next turn's messages go on from this one's."""
    path = write(tmp_path, files.MOONCAKE_MESSAGES)
    with pytest.raises(InputError, match="give char_per_token="):
        load_requests(path)
    requests = load_requests(f"{path},char_per_token=1")
    first = len("system") + 1 + 300 + 1 + len("user") + 1 + 100  # a line each
    call = '{"function": {"name": "f", "arguments": "{}"}}'
    second = first + len("\nassistant\n" + call + "\ntool\n") + 40
    third = len('{"type": "function"}\nsystem\n') + 300
    assert requests.prompt_token.tolist() == [first, second, third, first, 80]
    assert requests.output_token.tolist() == [12, 8, 4, 5, 3]
    assert requests.parent.tolist() == [-1, 0, -1, -1, -1]
    assert requests.think_ps.tolist() == [0, 250 * 10**9, 0, 0, 0]
    assert [time // 10**9 for time in requests.arrival_ps.tolist()] == [0, 0, 1500, 2500, 3000]
    # blocks of 16: the second turn finds prompt and answer of the first; the fourth the prompt; those that begin
    # otherwise (with tools, with another text) nothing
    assert shared_prefix_token(requests).tolist() == [0, (first + 12) // 16 * 16, 0, first // 16 * 16, 0]
    assert "every turn holds its whole prompt" in requests.note
    assert "counted by their characters, 1 each" in requests.note


def test_mooncake_messages_that_are_wrong_are_named(tmp_path) -> None:
    row = {"messages": files.MESSAGES, "output_length": 4}
    for change, named in [
        ({"input_length": 5}, "messages = .*stands beside input_length"),
        ({"hash_ids": [1]}, "hash_ids = .*stands beside messages"),
        ({"messages": []}, "messages = .*is empty"),
        ({"messages": [{"content": "x"}]}, r"messages\[0\].role = .*not a text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, r"messages\[0\].content\[0\].type"),
        ({"messages": None, "payload": {"prompt": [1, 2]}}, "payload.prompt"),
        ({"output_length": None}, "output_length"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=named):
            load_requests(f"mooncake:{write(tmp_path, files.lines([row | change]))},char_per_token=4")
    unknown = write(tmp_path, files.lines([row | {"output_length": None}]))
    assert load_requests(f"{unknown},char_per_token=4,output_token=9").output_token.tolist() == [9]
    two = files.lines([row | {"session_id": "a"}, {"session_id": "a", "input_length": 9, "output_length": 1}])
    with pytest.raises(InputError, match="write their prompts in two ways"):
        load_requests(f"{write(tmp_path, two)},char_per_token=4")
    for option, why in (("char_per_token=4", "no row has a text"), ("context=new", "no row has a session_id")):
        with pytest.raises(InputError, match=why):
            load_requests(f"{write(tmp_path, files.MOONCAKE_PLAIN)},{option}")


def test_what_later_turns_of_mooncake_count(tmp_path) -> None:
    """Hashes that begin with those of the turn before say that a row holds its whole prompt; else it adds to the
    history (AIPerf), unless the user knows it better."""
    whole = [
        {"session_id": "a", "timestamp": 0, "input_length": 1100, "output_length": 100, "hash_ids": [1, 2, 3]},
        {"session_id": "a", "delay": 5, "input_length": 1700, "output_length": 50, "hash_ids": [1, 2, 4, 5]},
        {"session_id": "a", "timestamp": 9000, "input_length": 1900, "output_length": 50, "hash_ids": [1, 2, 4, 6]},
    ]
    requests = load_requests(write(tmp_path, files.lines(whole)))
    assert requests.prompt_token.tolist() == [1100, 1700, 1900]
    assert shared_prefix_token(requests).tolist() == [0, 1024, 1536]
    assert requests.arrival_ps.tolist() == [0, 0, 9 * 10**12]  # not before its time, and not before the answer
    added = load_requests(f"{write(tmp_path, files.lines(whole))},context=new")
    assert added.prompt_token.tolist() == [1100, 1100 + 100 + 1700, 1100 + 100 + 1700 + 50 + 1900]
    path = write(tmp_path, files.MOONCAKE_SESSIONS)
    assert load_requests(f"{path},context=whole").prompt_token.tolist() == [1100, 200, 1100]
    with pytest.raises(InputError, match="context = 'all'"):
        load_requests(f"{path},context=all")


# two turns of 100 and 200 tokens, the first answered by 5: what the second one's prompt is
TURN = {
    "hashes": ({"input_length": 100, "hash_ids": [1]}, {"input_length": 200, "hash_ids": [2]}),
    "hashes that grow": ({"input_length": 100, "hash_ids": [1, 2]}, {"input_length": 200, "hash_ids": [1, 2, 3]}),
    "no hashes": ({"input_length": 100}, {"input_length": 200}),
    "texts": ({"text_input": "a" * 400}, {"text_input": "b" * 800}),
    "texts that grow": ({"text_input": "a" * 400}, {"text_input": "a" * 400 + "b" * 400}),
    "messages": tuple(
        {"messages": [{"role": "u", "content": "a" * num}]} for num in (398, 798)
    ),  # and "u", a line's end
    "payloads": tuple({"payload": {"prompt": "a" * num}} for num in (400, 800)),
}


@pytest.mark.parametrize("kind", TURN)
@pytest.mark.parametrize("context", [None, "new", "whole"])
def test_a_context_holds_for_every_kind_of_row(tmp_path, kind, context) -> None:
    rows = [{"session_id": "a", "output_length": 5, **one} for one in TURN[kind]]
    text = "input_length" not in TURN[kind][0]
    block = 40 if "grow" in kind and not text else 0  # so that the first row has a whole block
    path = write(tmp_path, files.lines(rows))
    asked = f"mooncake:{path}" + ",char_per_token=4" * text + f",block_token={block}" * bool(block)
    asked += f",context={context}" * bool(context)
    if context == "new" and kind in ("messages", "payloads"):
        with pytest.raises(InputError, match=r":2: .*context = 'new'.*the whole prompt"):
            load_requests(asked)
        return
    whole = context == "whole" or (
        context is None and kind in ("hashes that grow", "texts that grow", "messages", "payloads")
    )
    assert load_requests(asked).prompt_token.tolist() == [100, 200 if whole else 100 + 5 + 200]


def test_options_of_mooncake_that_change_nothing_are_refused(tmp_path) -> None:
    counted = {"input_length": 10, "output_length": 3}
    body = {"payload": {"prompt": "abcd", "max_tokens": 2}}
    for rows, option, why in [
        ([counted | {"timestamp": 0}], "output_token=7", "every row says"),
        ([counted | {"session_id": "a"}], "output_token=7", "every row says"),
        ([body], "output_token=7,char_per_token=1", "every row says"),
        ([counted | {"session_id": "a"}], "context=whole", "no session has a second turn"),
        ([counted | {"timestamp": 0}], "block_token=16", "no row has hash_ids"),
        ([counted | {"session_id": "a"}], "time_unit=s", "no row has a timestamp"),
    ]:
        with pytest.raises(InputError, match=f"has no effect: {why}"):
            load_requests(f"mooncake:{write(tmp_path, files.lines(rows))},{option}")
    some = [counted | {"timestamp": 0}, {"input_length": 10, "timestamp": 1000}]
    assert load_requests(f"{write(tmp_path, files.lines(some))},output_token=7").output_token.tolist() == [3, 7]


def test_a_mooncake_session_begins_at_a_time_or_none_does(tmp_path) -> None:
    row = {"input_length": 10, "output_length": 3}
    text = {"text_input": "abcd", "output_length": 3}
    for rows, line in [
        ([row | {"session_id": "a", "timestamp": 5000}, row | {"session_id": "b"}], 2),
        ([row | {"session_id": "a", "timestamp": 5000}, row], 2),  # without a session
        ([row | {"session_id": "a"}, row | {"session_id": "a", "timestamp": 5000}], 1),
        ([text | {"timestamp": 5000}, text, text | {"timestamp": 6000}], 2),
    ]:
        option = ",char_per_token=4" if "text_input" in rows[0] else ""
        with pytest.raises(InputError, match=f":{line}: .*timestamp = .*is missing where a session begins"):
            load_requests(f"mooncake:{write(tmp_path, files.lines(rows))}{option}")
    none = load_requests(f"mooncake:{write(tmp_path, files.lines([row | {'session_id': name} for name in 'ab']))}")
    assert none.arrival_ps.tolist() == [0, 0]
    assert "begin at once" in none.note


def test_a_delay_of_mooncake_is_waited_or_spoken_of(tmp_path) -> None:
    row = {"session_id": "a", "input_length": 10, "output_length": 3}
    both = [row | {"timestamp": 0}, row | {"timestamp": 5000, "delay": 20}]
    with pytest.raises(InputError, match=r":2: .*delay = 20.*stands beside timestamp"):
        load_requests(f"mooncake:{write(tmp_path, files.lines(both))}")
    both[1]["delay"] = 0  # the same read either way
    assert load_requests(f"mooncake:{write(tmp_path, files.lines(both))}").arrival_ps.tolist() == [0, 5 * 10**12]
    first = [row | {"timestamp": 0, "delay": 20}, row | {"delay": 30}]
    found = load_requests(f"mooncake:{write(tmp_path, files.lines(first))}")
    assert found.think_ps.tolist() == [0, 30 * 10**9]
    assert "delays of 1 rows that begin a session have nothing to wait for" in found.note
    alone = [{"input_length": 10, "output_length": 3, "timestamp": 1000 * k, "delay": 20} for k in range(2)]
    assert "delays of 2 rows" in load_requests(f"mooncake:{write(tmp_path, files.lines(alone))}").note


def test_llm_serving_sim(tmp_path) -> None:
    flat = load_requests(write(tmp_path, files.SIM_FLAT))
    assert flat.arrival_ps.tolist() == [0, 5_000_000_000]
    assert shared_prefix_token(flat).tolist() == [0, 32]  # two blocks of equal ids
    linked = load_requests(write(tmp_path, files.SIM_SESSIONS))
    assert linked.parent.tolist() == [-1, 0, -1]
    assert linked.think_ps.tolist() == [0, 127_348_767_000, 0]
    assert linked.arrival_ps.tolist() == [0, 0, 2 * 10**12]
    with pytest.raises(InputError, match="not as long as input_toks"):
        load_requests(write(tmp_path, files.SIM_FLAT.replace('"input_toks": 33', '"input_toks": 34')))
    row = {"input_toks": 2, "output_toks": 3, "arrival_time_ns": 0, "input_tok_ids": [1, 2], "output_tok_ids": [3]}
    with pytest.raises(InputError, match=":1: output_tok_ids = 1: not as long as output_toks"):
        load_requests(write(tmp_path, files.lines([row])))


def test_spans_wait_for_those_that_had_ended(tmp_path) -> None:
    path = write(tmp_path, files.OTEL)
    requests = load_requests(path)
    # t1: 0-100, then 120-400 (20 ms after that end) and 150-300 beside it; t2: 40-90
    assert requests.prompt_token.tolist() == [500, 50, 7, 600]
    assert requests.parent.tolist() == [-1, 0, -1, -1]
    assert requests.think_ps.tolist() == [0, 20 * 10**9, 0, 0]
    assert requests.arrival_ps.tolist() == [0, 0, 40 * 10**9, 150 * 10**9]
    assert "1 spans that say no tokens" in requests.note
    as_sent = load_requests(f"{path},linked=0")
    assert as_sent.arrival_ps.tolist() == [0, 40 * 10**9, 120 * 10**9, 150 * 10**9]
    assert (as_sent.parent < 0).all()
    by_line = "\n".join(json.dumps(files.spans([row])) for row in (files.span(0, 5, "4", "4"), files.span(9, 10, 5, 5)))
    assert load_requests(write(tmp_path, by_line)).think_ps.tolist() == [0, 4 * 10**9]
    with pytest.raises(InputError, match="startTimeUnixNano"):
        load_requests(write(tmp_path, files.OTEL.replace(str(files.T0)[:8], "1")))


def test_spans_that_sum_up_calls_are_no_calls(tmp_path) -> None:
    """An agent's tokens are those of its calls; a gateway's span and the server's below it are one call."""
    agent = files.span(0, 900, "1100", "50", **{"gen_ai.operation.name": "invoke_agent"})
    step = files.span(5, 880, None, None) | {"parentSpanId": "0"}
    gateway = files.span(10, 400, "500", "20", **{"gen_ai.operation.name": "chat"}) | {"parentSpanId": "5"}
    server = files.span(20, 390, "500", "20") | {"parentSpanId": "10"}
    second = files.span(450, 800, "600", "30") | {"parentSpanId": "5"}
    requests = load_requests(write(tmp_path, json.dumps(files.spans([agent, step, gateway, server, second]))))
    assert requests.prompt_token.tolist() == [500, 600]
    assert requests.think_ps.tolist() == [0, 60 * 10**9]
    assert "1 spans that say no tokens are left out; 2 spans that sum up calls" in requests.note
    alone = files.spans([agent | {"spanId": "x"}])
    with pytest.raises(NothingServedError, match="no span"):
        load_requests(write(tmp_path, json.dumps(alone)))


def test_a_conversation_of_texts_is_counted_by_characters(tmp_path) -> None:
    path = write(tmp_path, files.SHAREGPT_JSON)
    with pytest.raises(InputError, match="char_per_token"):
        load_requests(path)
    requests = load_requests(f"{path},char_per_token=4")
    assert (requests.prompt_token.tolist(), requests.output_token.tolist()) == ([10, 100], [20, 1])
    assert "1 conversations without an answer" in requests.note
    both = load_requests(f"{path},char_per_token=4,turns=2,think_s=3")
    assert both.prompt_token.tolist() == [10, 35, 100]  # 10 + 20 + 5
    assert both.parent.tolist() == [-1, 0, -1]
    assert both.think_ps.tolist() == [0, 3 * 10**12, 0]
    assert shared_prefix_token(both).tolist() == [0, 32, 0]  # 30 tokens, in units of 16


def test_inputs_of_aiperf(tmp_path) -> None:
    path = write(tmp_path, files.AIPERF_TURNS)
    with pytest.raises(InputError, match="output_token"):
        load_requests(f"{path},char_per_token=4")
    requests = load_requests(f"{path},char_per_token=4,output_token=16")
    assert requests.prompt_token.tolist() == [10, 10 + 16 + 20, 100]
    assert requests.think_ps.tolist() == [0, 25 * 10**10, 0]


def test_agentic_conversations(tmp_path) -> None:
    requests = load_requests(f"{write(tmp_path, files.AGENTIC)},output_token=10,think_s=1")
    assert requests.prompt_token.tolist() == [1000, 1300, 64]
    assert requests.parent.tolist() == [-1, 0, -1]
    assert shared_prefix_token(requests).tolist()[1] in (1008, 1024)


def test_later_azure_and_burstgpt(tmp_path) -> None:
    later = load_requests(write(tmp_path, files.AZURE_2024))
    assert later.arrival_ps.tolist() == [0, 7_405_000_000]
    images = load_requests(write(tmp_path, files.AZURE_2025))
    assert images.prompt_token.tolist() == [1500, 90]
    assert "1 requests have images" in images.note
    burst = load_requests(write(tmp_path, files.BURST_2))
    assert burst.arrival_ps.tolist() == [0, 515 * 10**11]
    assert burst.prompt_token.tolist() == [906, 36]


def test_lengths_of_vidur_ask_for_a_rate(tmp_path) -> None:
    path = write(tmp_path, files.VIDUR_LENGTHS)
    with pytest.raises(InputError, match="give rate="):
        load_requests(path)
    assert len(load_requests(f"{path},rate=2")) == 2
    with pytest.raises(InputError, match="has no effect: the file has times"):
        load_requests(f"{write(tmp_path, files.VIDUR)},rate=2")
    timed = load_requests(write(tmp_path, files.VIDUR))
    np.testing.assert_array_equal(timed.arrival_ps, [0, 125 * 10**9])


def test_a_delay_is_in_the_unit_of_the_files_times(tmp_path) -> None:
    rows = [{"session_id": "a", "timestamp": 0, "input_length": 10, "output_length": 2},
            {"session_id": "a", "delay": 3, "input_length": 5, "output_length": 2},
            {"session_id": "b", "timestamp": 60, "input_length": 10, "output_length": 2}]  # fmt: skip
    file = tmp_path / "mooncake.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    for unit, ps in (("ms", 10**9), ("s", 10**12)):
        requests = load_requests(f"{file},time_unit={unit}")
        assert requests.think_ps.max() == 3 * ps
        assert requests.arrival_ps.max() == 60 * ps
    rows[1]["delay"] = 9e9
    file.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError, match="104 days"):
        load_requests(f"{file},time_unit=s")
