"""Command lines of serving engines: every flag is used, declared without effect, or refused by name."""

import itertools
import json
import pathlib

import pytest

import ridgeline
from kernels.errors import InputError
from sim.run import front
from sim.run.front import engines, read_command
from sim.run.front_write import command_of
from sim.run.scenario import FIELD_NAMES, Scenario, from_mapping
from sim.run.simulate import policy_of

VLLM = (
    "vllm serve Qwen/Qwen3-32B --tensor-parallel-size 4 --max-num-batched-tokens 8192 --max-num-seqs=256 "
    "--gpu-memory-utilization 0.9 --max-model-len 32k --kv-cache-dtype fp8 --port 8000 --no-enable-prefix-caching "
    "--served-model-name a b --trust-remote-code --disable-log-requests"
)
SGLANG = (
    "python3 -m sglang.launch_server --model-path meta-llama/Llama-3.1-8B-Instruct --tp 2 --mem-fraction-static 0.88 "
    "--chunked-prefill-size 4096 --max-running-requests 64 --host 0.0.0.0 --disable-radix-cache --enable-metrics"
)
TRTLLM = (
    "trtllm-serve serve meta-llama/Llama-3.1-70B-Instruct --tp_size 8 --max_batch_size 128 --max_num_tokens 4096 "
    "--kv_cache_free_gpu_memory_fraction 0.85 --enable_chunked_prefill --backend pytorch"
)


def test_vllm() -> None:
    found = read_command("vllm", VLLM, {"system": "h100_sxm"})
    assert found.fields == {
        "model": "Qwen/Qwen3-32B", "tp": 4, "token_budget": 8192, "max_num_seq": 256, "memory_share": 0.9,
        "max_model_len": 32000, "kv_format": "fp8", "prefix_cache": False, "engine": "vllm_0.15",
    }  # fmt: skip
    said = " ".join(found.notes)
    for flag in ("--port", "--served-model-name", "--trust-remote-code", "--disable-log-requests"):
        assert flag in said
    assert from_mapping(found.fields).tp == 4


def test_sglang_and_tensorrt_llm() -> None:
    found = read_command("sglang", SGLANG).fields
    assert (found["tp"], found["token_budget"], found["max_num_seq"], found["prefix_cache"]) == (2, 4096, 64, False)
    assert found["engine"] == "sglang"
    found = read_command("trtllm", TRTLLM).fields
    assert (found["tp"], found["max_num_seq"], found["memory_share"]) == (8, 128, 0.85)
    assert found["policy"] == "trtllm:chunked=1"
    from_mapping(found)


def test_ranks_share_experts_where_the_engine_has_them_share() -> None:
    line = "vllm serve Qwen/Qwen3-30B-A3B -tp 2 -dp 4"
    assert read_command("vllm", line).fields["attn_dp"] == 4
    spread = read_command("vllm", line + " --enable-expert-parallel").fields
    assert (spread["ep"], spread["attn_dp"], "dp" in spread) == (8, 4, False)
    dense = read_command("vllm", "vllm serve Qwen/Qwen3-8B -dp 4").fields
    assert (dense["dp"], "attn_dp" in dense) == (4, False)
    sglang = "sglang serve --model-path Qwen/Qwen3-30B-A3B --tp 8 --dp 4"
    assert read_command("sglang", sglang).fields["dp"] == 4
    found = read_command("sglang", sglang + " --enable-dp-attention --ep 8").fields
    assert (found["tp"], found["attn_dp"], found["ep"]) == (2, 4, 8)


def test_admission_and_cadence_are_those_of_the_command() -> None:
    words = "--prefill-schedule-interval 4 --long-prefill-token-threshold 64 --max-num-queued-reqs 9 --enforce-eager"
    found = read_command("vllm", f"vllm serve gpt2 {words}").fields
    assert found["policy"] == "vllm_v1:max_chunk=64,interval=4"
    assert (found["max_in_flight"], found["eager"]) == (9, True)
    assert read_command("sglang", "sglang serve --model gpt2 --max-queued-requests 9").fields["max_queue"] == 9
    assert "policy" not in read_command("vllm", "vllm serve gpt2 --prefill-schedule-interval 1").fields
    with pytest.raises(InputError, match="interval"):
        policy_of(Scenario(**read_command("vllm", "vllm serve gpt2 --prefill-schedule-interval 0").fields))
    for flag in ("--prefill-schedule-interval 4", "--max-num-queued-reqs 9", "--max-num-queued-reqs 1"):
        with pytest.raises(InputError, match=f"{flag.split()[0]}.*all data parallel ranks"):
            read_command("vllm", f"vllm serve gpt2 --data-parallel-size 2 {flag}")


def test_who_may_be_in_flight_goes_to_vllm_and_back() -> None:
    line = command_of("vllm", Scenario(model="gpt2", max_in_flight=9))
    assert read_command("vllm", line).fields["max_in_flight"] == 9
    with pytest.raises(InputError, match=r"max_in_flight = 9: vLLM keeps one number"):
        command_of("vllm", Scenario(model="gpt2", max_in_flight=9, dp=2))


@pytest.mark.parametrize(
    ("engine", "line", "word"),
    [
        ("vllm", "vllm serve gpt2 --max-num-seq 4", r"nearest: --max-num-seqs"),
        ("vllm", "vllm serve gpt2 --kv-transfer-config '{}'", r"--kv-transfer-config .*ridgeline pools"),
        ("vllm", "vllm serve gpt2 --kv-cache-dtype fp9", r"--kv-cache-dtype = 'fp9'.*nearest: fp8"),
        ("vllm", "vllm serve gpt2 --max-num-seqs many", r"--max-num-seqs = 'many': not a whole number"),
        ("vllm", "vllm serve gpt2 --max-num-seqs", r"--max-num-seqs needs a value"),
        ("vllm", "vllm serve gpt2 --trust-remote-code=1", r"--trust-remote-code takes no value"),
        ("vllm", "vllm serve gpt2 opt-13b", r"'opt-13b': neither a flag nor the value"),
        ("vllm", "vllm serve gpt2 -tp 2 --tensor-parallel-size 2", r"--tensor-parallel-size = '2': given twice"),
        ("vllm", "vllm bench gpt2", r"not a command of vLLM"),
        ("vllm", "vllm serve --port 1", r"names no model"),
        ("vllm", "vllm serve 'gpt2", r"cannot be split"),
        ("vllm", "VLLM_USE_V1=0 vllm serve gpt2", r"a setting of the environment"),
        ("vllm", "vllm serve gpt2 -O0", r"-O = '0': is not simulated: .*CUDA graphs"),
        ("vllm", "vllm serve gpt2 --speculative-config '{\"num_speculative_tokens\": 3}'", r"chain:k=3,accept=P"),
        ("vllm", "vllm serve gpt2 --spec-method mtp --spec-tokens 2", r"--spec-method = 'mtp'.*chain:k=2,accept=P"),
        ("vllm", "vllm serve gpt2 --speculative-config.method mtp", r"config.method': one of its parts: give them"),
        ("vllm", "vllm serve gpt2 --compilation-config.mode 3", r"--compilation-config.mode = '3': is not simulated"),
        ("vllm", "vllm serve gpt2 --max-num-batched-tokens 64 --max-num-scheduled-tokens 65", r"more than --max-num-b"),
        ("vllm", "vllm serve gpt2 --stream-interval 4", r"--stream-interval = '4': is not simulated: a token is deliv"),
        ("vllm", "vllm serve gpt2 --runner pooling", r"--runner = 'pooling'"),
        ("vllm", "vllm serve gpt2 --load-format bitsandbytes", r"--load-format = 'bitsandbytes'.*--weight-format"),
        ("vllm", "vllm serve gpt2 --no-scheduler-reserve-full-isl", r"is not simulated: admission .*--engine vllm_0"),
        ("vllm", "vllm serve gpt2 --performance-mode throughput", r"the balanced mode"),
        ("sglang", "sglang serve --model gpt2 --load-format gguf", r"--load-format = 'gguf'"),
        ("sglang", "sglang serve --model gpt2 --scheduler-recv-interval 9", r"--scheduler-recv-interval = .9."),
        ("trtllm", "trtllm-serve disaggregated -c cfg.yaml", r"'trtllm-serve disaggregated -c': not a command"),
        ("sglang", "sglang serve --model gpt2 --tp 4 --dp 3 --enable-dp-attention", r"divide the tensor parallel"),
        ("sglang", "sglang serve --model gpt2 --chunked-prefill-size -1", r"cuts prompts"),
        ("trtllm", "trtllm-serve gpt2 --max_beam_width 4", r"--max_beam_width = '4': is not simulated: beams"),
        ("trtllm", "trtllm-serve gpt2 --backend tensorrt", r"--backend = 'tensorrt'"),
    ],
)  # fmt: skip
def test_what_is_not_simulated_is_refused_by_its_own_name(engine, line, word) -> None:
    with pytest.raises(InputError, match=word) as caught:
        read_command(engine, line)
    assert "\n" not in str(caught.value)


def test_what_the_scheduler_may_use_of_its_buffers_counts() -> None:
    line = "vllm serve gpt2 --max-num-batched-tokens 8192 --max-num-scheduled-tokens 2048 --max-num-active-seqs 64"
    found = read_command("vllm", line)
    assert (found.fields["token_budget"], found.fields["max_num_seq"]) == (2048, 64)
    assert found.flag_of["token_budget"] == "--max-num-scheduled-tokens"


def test_parsers_and_formats_of_many_published_commands_have_no_effect() -> None:
    line = "sglang serve --model-path gpt2 --reasoning-parser qwen3 --tool-call-parser qwen25 --load-format dummy"
    assert set(read_command("sglang", line).fields) == {"model", "engine"}
    line = "vllm serve gpt2 --runner generate --model-impl vllm --load-format safetensors --kernel-config.x"
    with pytest.raises(InputError, match="--kernel-config needs a value"):
        read_command("vllm", line)
    assert set(read_command("vllm", line.removesuffix("--kernel-config.x")).fields) == {"model", "engine"}


def test_neutral_values_and_settings_that_choose_devices_are_no_errors() -> None:
    found = read_command(
        "vllm",
        "CUDA_VISIBLE_DEVICES=0,1 VLLM_USE_V1=1 vllm serve gpt2 -O3 --cpu-offload-gb 0 --no-enforce-eager --seed 1",
    )
    assert set(found.fields) == {"model", "engine", "eager"}
    assert found.fields["eager"] is False
    assert any("its neutral value" in note for note in found.notes)
    assert any("the command names no machine" in note for note in found.notes)
    config = json.dumps({"method": "ngram", "num_speculative_tokens": 4})
    spec = read_command(
        "vllm", f"vllm serve gpt2 --speculative-config '{config}'", {"speculate": "chain:k=4,accept=0.6"}
    )
    assert any("--speculate chain" in note for note in spec.notes)


def test_every_entry_of_the_tables_is_well_formed() -> None:
    for engine in engines():
        table = front._table(engine)
        seen: set[str] = set()
        for entry in table["used"]:
            assert entry["field"].startswith("_") or entry["field"] in FIELD_NAMES
            assert not seen & set(entry["flag"])
            seen |= set(entry["flag"])
        for part in ("no_effect", "refused"):
            for entry in table[part]:
                names = list(itertools.chain(*(entry.get(kind, ()) for kind in front.KINDS)))
                assert entry["why"]
                assert names
                assert not seen & set(names)
                assert set(entry.get("neutral", ())) <= set(names)
                seen |= set(names)
        assert all(name.startswith("-") for name in seen)


def test_errors_name_the_flag_that_set_the_field() -> None:
    with pytest.raises(InputError, match=r"--gpu-memory-utilization of the vLLM command: memory_share = 1\.5"):
        ridgeline.scenario_from("vllm", "vllm serve gpt2 --gpu-memory-utilization 1.5")
    with pytest.raises(InputError, match="--tensor-parallel-size says 4"):
        ridgeline.scenario_from("vllm", VLLM, tp=2)
    one = ridgeline.scenario_from("vllm", VLLM, system="dgx_h100", requests="batch:n=2,prompt=8,output=4")
    assert (one.system, one.tp) == ("dgx_h100", 4)


def test_the_command_line_says_what_had_no_effect(capsys, tmp_path: pathlib.Path) -> None:
    from sim.cli import main

    out = tmp_path / "out.json"
    words = ["simulate", "--system", "h100_sxm", "--requests", "batch:n=2,prompt=8,output=4", "--json", str(out)]
    assert main([*words, "--from-vllm", "vllm serve gpt2 --port 80 --max-num-seqs 8"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "--port: no effect on time" in shown
    about = json.loads(out.read_text())["ridgeline"]
    assert any("--port" in note for note in about["note"])
    assert about["config"]["max_num_seq"] == 8
    assert main([*words, "--from-vllm", "vllm serve gpt2 -tp 5"]) == 2
    assert "-tp of the vLLM command: tp = 5: does not divide" in capsys.readouterr().err
    assert main([*words, "--from-vllm", "vllm serve gpt2", "--from-sglang", "sglang serve --model gpt2"]) == 2
    assert "one command line" in capsys.readouterr().err
