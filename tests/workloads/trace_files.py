"""A small file of each trace format, made to its published description."""

import json
from typing import Any

T0 = 1_759_813_207_000_000_000  # nanoseconds since 1970


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n"
)
AZURE_2024 = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:00.017335+00:00,2399,6\n"
)
AZURE_2025 = (
    "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n"
    "2024-10-15 00:00:00.100000,2,1500,40\n2024-10-15 00:00:01.600000,0,90,7\n"
)
BURST = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,30,0,30,API log\n118,GPT-4,100,200,300,Conversation log\n"
)
BURST_2 = (
    "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "100.0,1722ac82-0a46,43,GPT-4,906,446,1352,Conversation log\n151.5,d5983bf9-4b48,2,ChatGPT,36,29,65,API log\n"
)
MOONCAKE = (
    '{"timestamp": 10, "input_length": 1000, "output_length": 5, "hash_ids": [46, 7]}\n'
    '{"timestamp": 12, "input_length": 1200, "output_length": 6, "hash_ids": [46, 9, 7000000000]}\n'
)
MOONCAKE_PLAIN = lines([{"timestamp": 0, "input_length": 6955, "output_length": 52},
                        {"timestamp": 3000, "input_length": 6472, "output_length": 26}])  # fmt: skip
MOONCAKE_SESSIONS = lines([
    {"session_id": "a", "timestamp": 0, "input_length": 1100, "output_length": 100, "hash_ids": [1, 2, 3]},
    {"session_id": "a", "delay": 500, "input_length": 200, "output_length": 50},
    {"session_id": "b", "timestamp": 2000, "input_length": 1100, "output_length": 10, "hash_ids": [1, 2, 9]},
])  # fmt: skip
MESSAGES = [{"role": "system", "content": "s" * 300}, {"role": "user", "content": "u" * 100}]
ANSWER = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
MOONCAKE_MESSAGES = lines([
    {"messages": MESSAGES, "output_length": 12, "session_id": "a", "timestamp": 0},
    {"messages": [*MESSAGES, ANSWER, {"role": "tool", "content": [{"type": "text", "text": "t" * 40}]}],
     "output_length": 8, "session_id": "a", "delay": 250},
    {"messages": MESSAGES[:1], "tools": [{"type": "function"}], "output_length": 4, "session_id": "b",
     "timestamp": 1500},
    {"payload": {"messages": MESSAGES, "max_completion_tokens": 5}, "timestamp": 2500},
    {"text_input": "s" * 80, "output_length": 3, "timestamp": 3000},
])  # fmt: skip
BAILIAN_ROWS = [
    {"chat_id": k, "parent_chat_id": -1 if k % 2 else k - 1, "timestamp": round(0.217 * k, 3), "input_length": 40,
     "output_length": 8 + k, "type": "text" if k % 3 else "search", "turn": 1 + (k + 1) % 2,
     "hash_ids": [7, 8 + k // 2, 100 + k]}
    for k in range(12)
]  # fmt: skip
BAILIAN = lines(BAILIAN_ROWS)
SHAREGPT = "42,285\n19,82\n"
SHAREGPT_JSON = json.dumps([
    {"id": "x", "conversations": [{"from": "human", "value": "a" * 40}, {"from": "gpt", "value": "b" * 80},
                                  {"from": "human", "value": "c" * 20}, {"from": "gpt", "value": "d" * 8}]},
    {"id": "y", "conversations": [{"from": "human", "value": "only a question"}]},
    {"id": "z", "conversations": [{"from": "human", "value": "e" * 400}, {"from": "gpt", "value": "f"}]},
])  # fmt: skip
PLAIN = "arrival_s,prompt_token,output_token,priority\n0.5,10,2,1\n0.25,20,3,0\n"
VIDUR = "arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,591,140\n0.125,547,248\n"
VIDUR_LENGTHS = "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n591,140,731,4.2\n547,248,795,2.2\n"
SPLITWISE = (
    "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size\n"
    "0,2,0,0.25,1,374,44\n1,2,0,4.5,1,396,109\n"
)
SIM_FLAT = lines([
    {"input_toks": 33, "output_toks": 20, "arrival_time_ns": 4_059_740, "input_tok_ids": list(range(33))},
    {"input_toks": 40, "output_toks": 4, "arrival_time_ns": 9_059_740, "input_tok_ids": [*range(32), *range(8)]},
])  # fmt: skip
SIM_SESSIONS = lines([{"session_id": "s", "arrival_time_ns": 1000, "sub_requests": [
    {"input_toks": 1472, "output_toks": 133, "tool_duration_ns": 127_348_767},
    {"input_toks": 1582, "output_toks": 125, "tool_duration_ns": 0}]},
    {"input_toks": 5, "output_toks": 6, "arrival_time_ns": 2_000_001_000}])  # fmt: skip
VLLM = json.dumps({"request_rate": 2.0, "burstiness": 1.0, "max_concurrency": None, "duration": 3.0,
                   "input_lens": [10, 20, 30], "output_lens": [1, 0, 3], "start_times": [7.5, 7, 9]})  # fmt: skip


def sglang(rate: Any, cap: Any, tag: Any = None) -> dict[str, Any]:
    return {"tag": tag, "backend": "sglang", "dataset_name": "random", "request_rate": rate, "max_concurrency": cap,
            "sharegpt_output_len": None, "random_input_len": 1024, "random_output_len": 128, "random_range_ratio": 0.0,
            "duration": 12.5, "completed": 3, "total_input_tokens": 60, "total_output_tokens": 4,
            "total_output_tokens_retokenized": 4, "input_lens": [10, 20, 30], "output_lens": [1, 0, 3],
            "ttfts": [0.1, 0.0, 0.2], "itls": [[], [], [0.01, 0.01]], "errors": ["", "timeout", ""]}  # fmt: skip


SGLANG = lines([sglang("inf", 8)])
SGLANG_RUNS = lines([sglang("inf", 8, "a"), sglang(4.0, None, "b")])


def aiperf(k: int, start_ms: int, isl: int, osl: int | None, **about: Any) -> dict[str, Any]:
    row = {"metadata": {"session_num": k, "x_request_id": str(k), "x_correlation_id": str(k), "conversation_id": str(k),
                        "turn_index": 0, "request_start_ns": T0 + start_ms * 10**6, "request_ack_ns": None,
                        "request_end_ns": T0 + (start_ms + 90) * 10**6, "worker_id": "w", "record_processor_id": "r",
                        "benchmark_phase": "profiling", "was_cancelled": False, **about},
           "metrics": {"input_sequence_length": {"value": isl, "unit": "tokens"},
                       "output_sequence_length": {"value": osl, "unit": "tokens"},
                       "request_latency": {"value": 90.0, "unit": "ms"}}, "error": None}  # fmt: skip
    if osl is None:
        row |= {"metrics": {"error_isl": {"value": isl, "unit": "tokens"}},
                "error": {"code": 499, "type": "RequestCancellationError", "message": "cancelled"}}  # fmt: skip
    return row


AIPERF = lines([aiperf(0, 250, 550, 9), aiperf(1, 0, 100, 20), aiperf(2, 300, 70, None),
                aiperf(3, 0, 5, 5, benchmark_phase="warmup")])  # fmt: skip
AIPERF_TURNS = lines([
    {"session_id": "s", "turns": [{"text": "a" * 40}, {"text": "b" * 80, "delay": 250}]},
    {"session_id": "t", "turns": [{"text": "c" * 400}]},
])  # fmt: skip
GENAI_PERF = json.dumps({"experiments": [{
    "experiment": {"mode": "concurrency", "value": 2},
    "requests": [
        {"timestamp": T0 + k * 10**9,
         "request_inputs": {"payload": json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 40}],
                                                   **({"max_tokens": 7} if k else {})})},
         "response_timestamps": [T0 + k * 10**9 + 5 * j for j in range(1, 4)],
         "response_outputs": [{"response": "data: {}"}] * 3}
        for k in range(3)
    ]}], "version": "", "service_kind": "openai", "endpoint": "v1/chat/completions"})  # fmt: skip


def guidellm(strategy: dict[str, Any]) -> dict[str, Any]:
    row = {"type_": "generative_request_stats", "request_id": "r", "input_metrics": {"text_tokens": 64},
           "output_metrics": {"text_tokens": 16}}  # fmt: skip
    done = [row | {"request_start_time": 1759813207.5, "request_end_time": 1759813208.0, "prompt_tokens": 128,
                   "output_tokens": 32}, row | {"request_start_time": 1759813207.0}]  # fmt: skip
    return {"type_": "generative_benchmark", "config": {"strategy": strategy}, "scheduler_metrics": {},
            "requests": {"successful": done, "incomplete": [], "errored": [row]}}  # fmt: skip


GUIDELLM = json.dumps({"metadata": {"version": 2, "guidellm_version": "0.5.0"}, "config": {},
                       "benchmarks": [guidellm({"type_": "poisson", "rate": 2.0})]})  # fmt: skip
GUIDELLM_RUNS = json.dumps({"metadata": {"version": 2, "guidellm_version": "0.5.0"}, "config": {},
                            "benchmarks": [guidellm({"type_": "synchronous"}),
                                           guidellm({"type_": "concurrent", "streams": 4})]})  # fmt: skip
INFERENCE_PERF = json.dumps([
    {"start_time": 1000.5, "end_time": 1001.5, "request": "{}", "response": "",
     "info": {"input_tokens": 100, "output_tokens": 20, "output_token_times": []}, "error": None},
    {"scheduled_time": 1000.0, "start_time": 1000.0, "end_time": 1002.0, "request_data": "{}",
     "info": {"request_metrics": {"text": {"input_tokens": 50}}, "input_tokens": 50,
              "response_metrics": {"output_tokens": 5}}, "error": None},
    {"start_time": 1001.0, "end_time": 1001.1, "request": "{}", "response": "",
     "info": {"input_tokens": 9, "output_tokens": 0}, "error": {"error_type": "Timeout", "error_msg": "t"}},
])  # fmt: skip
AGENTIC = json.dumps({"metadata": {"source": "openhands"}, "conversations": [
    [{"messages": [{"role": "user", "content": "fix"}], "prompt_tokens": 1000},
     {"messages": [{"role": "user", "content": "go on"}], "prompt_tokens": 1300}],
    [{"messages": [], "prompt_tokens": 64}]]})  # fmt: skip


def span(start_ms: int, end_ms: int, prompt: Any, output: Any, trace: str = "t1", **more: str) -> dict[str, Any]:
    values = {"gen_ai.usage.input_tokens": {"intValue": prompt}, "gen_ai.usage.output_tokens": {"intValue": output}}
    pairs = [{"key": key, "value": value} for key, value in values.items() if next(iter(value.values())) is not None]
    pairs += [{"key": key, "value": {"stringValue": value}} for key, value in more.items()]
    return {"traceId": trace, "spanId": str(start_ms), "name": "chat", "startTimeUnixNano": str(T0 + start_ms * 10**6),
            "endTimeUnixNano": str(T0 + end_ms * 10**6), "attributes": pairs}  # fmt: skip


def spans(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"scope": {}, "spans": rows}]}]}


OTEL = json.dumps(spans([
    span(0, 100, "500", "20"), span(150, 300, "600", 30), span(120, 400, "50", "5"), span(310, 350, None, None),
    span(40, 90, "7", "7", trace="t2"),
]))  # fmt: skip

FILES = {
    "agentic_trace": AGENTIC,
    "aiperf": AIPERF,
    "aiperf_turns": AIPERF_TURNS,
    "azure": AZURE,
    "bailian": BAILIAN,
    "burstgpt": BURST,
    "genai_perf": GENAI_PERF,
    "guidellm": GUIDELLM,
    "inference_perf": INFERENCE_PERF,
    "llm_serving_sim": SIM_FLAT,
    "mooncake": MOONCAKE,
    "otel_spans": OTEL,
    "plain": PLAIN,
    "sglang_bench": SGLANG,
    "sharegpt": SHAREGPT,
    "sharegpt_json": SHAREGPT_JSON,
    "splitwise": SPLITWISE,
    "vidur": VIDUR,
    "vllm_bench": VLLM,
}
OPTION = {
    "agentic_trace": ",output_token=10",
    "aiperf_turns": ",char_per_token=4,output_token=16",
    "genai_perf": ",char_per_token=4",
    "sharegpt_json": ",char_per_token=4",
}  # what a format asks for
OTHER_FORMS = {
    "azure": (AZURE_2024, AZURE_2025),
    "burstgpt": (BURST_2,),
    "mooncake": (MOONCAKE_PLAIN, MOONCAKE_SESSIONS, MOONCAKE_MESSAGES),
    "vidur": (VIDUR_LENGTHS,),
    "llm_serving_sim": (SIM_SESSIONS,),
    "sglang_bench": (SGLANG_RUNS,),
    "guidellm": (GUIDELLM_RUNS,),
}
