"""What a run exports is what its reader expects: names, units, and the same numbers; what is read back is the same."""

import json
import pathlib
import shlex

import numpy as np
import pytest

from kernels.errors import InputError, NothingServedError
from sim import cli
from sim.run.front import engines, read_command
from sim.run.front_write import NOT_THE_SERVERS, command_of
from sim.run.scenario import FIELD_NAMES, Scenario
from sim.run.simulate import Simulation, simulate
from sim.show.exports import export, formats, parse
from workloads.load import load_requests

UNITS = {"count", "ms", "s", "ms/token", "s/token", "tokens/s", "queries/s", "Watts"}  # llm-d's, those that we use
STATISTICS = {"units", "mean", "stddev", "min", "max", "p0p1", "p1", "p5", "p10", "p25", "p50", "p75", "p90", "p95",
              "p99", "p99p9"}  # fmt: skip


@pytest.fixture(scope="module")
def done() -> Simulation:
    return simulate(
        Scenario(model="qwen3-8b", tp=2, requests="poisson:rate=10,n=30,prompt=lognormal:mean=300,output=20")
    )


def loaded(done: Simulation, name: str) -> dict:
    return json.loads(export(done, name))


def test_vllms_file_is_read_back(done: Simulation, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "out.json"
    file.write_bytes(export(done, "vllm"))
    again = load_requests(str(file))
    assert again.prompt_token.tolist() == done.run.request["prompt_token"].tolist()
    assert again.output_token.tolist() == done.run.request["output_token"].tolist()


@pytest.mark.parametrize(("fields", "sizes"), [({"tp": 2}, (2, 1, 1)), ({"tp": 2, "pp": 3, "dp": 2}, (2, 3, 2))])
def test_vllms_pareto_plot_finds_the_devices(fields: dict, sizes: tuple[int, int, int]) -> None:
    """It divides `output_throughput` by the product of these, and takes one device where they are not there."""
    run = simulate(Scenario(model="gpt2", requests="batch:n=2,prompt=20,output=3", **fields))
    found = loaded(run, "vllm")
    of = tuple(found[f"{kind}_parallel_size"] for kind in ("tensor", "pipeline", "data"))
    assert of == sizes
    assert np.prod(of) == run.run.totals["num_device"]
    assert not {"itls", "errors", "generated_texts"} & set(found)  # nothing stands for what nobody knows


def test_a_capped_load_is_read_back_with_its_cap_and_its_arrivals(tmp_path: pathlib.Path) -> None:
    """What the client held back is told apart from what came: the same load runs again, not its server's doing."""
    capped = simulate(
        Scenario(model="qwen3-8b", requests="poisson:rate=90,n=24,prompt=300,output=20,max_concurrency=4")
    )
    file = tmp_path / "out.json"
    file.write_bytes(export(capped, "vllm"))
    found = json.loads(file.read_text())
    assert found["max_concurrency"] == 4
    assert max(found["queue_times"]) > 0
    again = load_requests(str(file))
    assert again.max_concurrency == 4
    since = capped.load.arrival_ps - capped.load.arrival_ps[0]
    assert np.abs(again.arrival_ps - since).max() <= 1  # a picosecond, of floats
    sessions = simulate(
        Scenario(model="qwen3-8b", requests="poisson:rate=9,n=4,turns=2,prompt=90,output=9,max_concurrency=2")
    )
    assert "queue_times" not in loaded(sessions, "vllm")  # a turn waits for an answer, not for the client


def test_aiperf_has_distributions_of_records_and_single_values_of_the_rest(done: Simulation) -> None:
    found = loaded(done, "aiperf")
    ttft = np.asarray(done.run.request["ttft_s"]) * 1e3
    block = found["time_to_first_token"]
    assert block["unit"] == "ms"
    assert block["avg"] == pytest.approx(done.metrics["mean_ttft_ms"])
    assert block["p99"] == pytest.approx(done.metrics["p99_ttft_ms"])
    assert block["sum"] == pytest.approx(ttft.sum())
    assert block["std"] == pytest.approx(ttft.std(ddof=1))  # of the sample, as that page says
    assert (block["count"], block["min"], block["max"]) == (30, ttft.min(), ttft.max())
    for derived in ("request_throughput", "output_token_throughput", "request_count", "benchmark_duration"):
        assert set(found[derived]) == {"unit", "avg"}
    assert found["total_osl"]["avg"] == 30 * 20
    assert found["inter_token_latency"]["avg"] == pytest.approx(done.metrics["mean_tpot_ms"])
    assert found["request_latency"]["avg"] == pytest.approx(done.metrics["mean_e2el_ms"])


def test_llm_ds_report_keeps_to_its_schema(done: Simulation) -> None:
    """Names and units as the published schema of version 0.2.1 has them; it forbids others."""
    found = loaded(done, "llm_d")
    assert set(found) == {"version", "run", "scenario", "results"}
    aggregate = found["results"]["request_performance"]["aggregate"]
    assert set(aggregate) == {"requests", "latency", "throughput"}
    assert set(aggregate["latency"]) <= {
        "time_to_first_token", "normalized_time_per_output_token", "time_per_output_token", "inter_token_latency",
        "request_latency",
    }  # fmt: skip
    assert set(aggregate["throughput"]) == {"input_token_rate", "output_token_rate", "total_token_rate", "request_rate"}
    blocks = [*aggregate["latency"].values(), *aggregate["throughput"].values(),
              aggregate["requests"]["input_length"], aggregate["requests"]["output_length"]]  # fmt: skip
    for block in blocks:
        assert block["units"] in UNITS
        assert set(block) <= STATISTICS
    assert aggregate["requests"]["total"] == 30
    assert aggregate["latency"]["time_to_first_token"]["mean"] == pytest.approx(done.metrics["mean_ttft_ms"] / 1e3)
    rates = {name: block["mean"] for name, block in aggregate["throughput"].items()}
    assert rates["input_token_rate"] + rates["output_token_rate"] == pytest.approx(rates["total_token_rate"])
    engine = found["scenario"]["stack"][0]["standardized"]
    assert engine["accelerator"]["count"] == 2
    assert (engine["tool"], engine["tool_version"], engine["role"]) == ("vllm", "0.15", "replica")
    assert found["run"]["time"]["duration"] == f"PT{done.metrics['duration']:.6f}S"


def test_inferencex_divides_by_devices(done: Simulation) -> None:
    found = loaded(done, "inferencex")
    assert found["tput_per_gpu"] == pytest.approx(done.metrics["total_token_throughput"] / 2)
    assert found["input_tput_per_gpu"] + found["output_tput_per_gpu"] == pytest.approx(found["tput_per_gpu"])
    assert found["median_intvty"] == pytest.approx(1e3 / done.metrics["median_tpot_ms"])
    assert found["p99_ttft"] == pytest.approx(done.metrics["p99_ttft_ms"] / 1e3)


def test_inferencex_counts_the_users_that_the_client_was() -> None:
    """Its `conc` is what the client was told (`max_concurrency`), not what a second of it happens to have seen."""
    capped = simulate(Scenario(model="gpt2", requests="batch:n=9,prompt=20,output=3,max_concurrency=2"))
    assert loaded(capped, "inferencex")["conc"] == 2
    free = simulate(Scenario(model="gpt2", requests="batch:n=9,prompt=20,output=3"))
    assert loaded(free, "inferencex")["conc"] == free.metrics["max_concurrent_requests"] == 9


def test_prometheus_text_parses_and_adds_up(done: Simulation) -> None:
    parser = pytest.importorskip("prometheus_client.parser", reason="the extra `dev` is not installed")
    families = {one.name: one for one in parser.text_string_to_metric_families(export(done, "prometheus").decode())}
    value = {name: one.samples[0].value for name, one in families.items()}
    assert value["vllm:prompt_tokens"] == done.metrics["total_input_tokens"]
    assert value["vllm:generation_tokens"] == 600
    assert value["vllm:request_success"] == 30
    for name, family in families.items():
        if family.type != "histogram":
            continue
        buckets = [one.value for one in family.samples if one.name.endswith("_bucket")]
        count = next(one.value for one in family.samples if one.name.endswith("_count"))
        total = next(one.value for one in family.samples if one.name.endswith("_sum"))
        assert buckets == sorted(buckets), name  # cumulative
        assert buckets[-1] == count, name
        if name == "vllm:time_to_first_token_seconds":
            assert total / count == pytest.approx(done.metrics["mean_ttft_ms"] / 1e3)
        if name == "vllm:inter_token_latency_seconds":
            assert count == 600 - 30  # gaps
            assert total / count == pytest.approx(done.metrics["mean_itl_ms"] / 1e3)


ROUND_TRIPS = [
    ("vllm", {"model": "qwen3-8b", "tp": 4, "token_budget": 4096, "max_num_seq": 64, "prefix_cache": False}),
    ("vllm", {"model": "mixtral-8x7b", "tp": 2, "attn_dp": 4, "ep": 8, "kv_format": "fp8", "memory_share": 0.85}),
    ("vllm", {"model": "llama-3-8b", "dp": 3, "pp": 2, "block_token": 32, "order": "priority", "max_model_len": 4096}),
    ("sglang", {"model": "qwen3-8b", "tp": 2, "prefix_cache": False, "max_num_seq": 64}),
    ("sglang", {"model": "deepseek-v3", "attn_dp": 8, "ep": 8}),
    ("trtllm", {"model": "llama-3-8b", "tp": 2, "max_num_seq": 64, "token_budget": 4096}),
]


@pytest.mark.parametrize(("engine", "fields"), ROUND_TRIPS)
def test_a_command_line_says_the_scenario_again(engine: str, fields: dict) -> None:
    profile = {"vllm": "vllm_0.15", "sglang": "sglang", "trtllm": "trtllm"}[engine]
    scenario = Scenario(engine=profile, system="dgx_h100", **fields)
    line = command_of(engine, scenario)
    front = read_command(engine, line, {"system": "dgx_h100"})
    again = Scenario(**front.fields_with({"system": "dgx_h100"}))
    for name in FIELD_NAMES:
        if name in NOT_THE_SERVERS - {"engine"} or name in ("model", "policy"):
            continue
        assert getattr(again, name) == getattr(scenario, name), (name, line)


def test_a_chain_of_drafts_is_vllms_speculative_config() -> None:
    scenario = Scenario(model="llama-3-8b", speculate="chain:k=5,accept=0.7", draft_model="llama-3.2-1b")
    words = shlex.split(command_of("vllm", scenario))
    config = json.loads(words[words.index("--speculative-config") + 1])
    assert config == {"model": "meta-llama/Llama-3.2-1B", "num_speculative_tokens": 5}


@pytest.mark.parametrize(("engine", "fields", "named"), [
    ("vllm", {"kv_budget": 512, "prefix_cache": False}, "kv_budget"),
    ("vllm", {"tp": 2, "ep": 4, "attn_dp": 4, "model": "mixtral-8x7b"}, "ep"),
    ("vllm", {"speculate": "chain:k=5,accept=0.7"}, "speculate"),
    ("trtllm", {"dp": 2, "engine": "trtllm"}, "dp"),
    ("sglang", {}, "engine"),  # the default profile is vLLM's
])  # fmt: skip
def test_what_an_engine_cannot_say_is_an_error(engine: str, fields: dict, named: str) -> None:
    with pytest.raises(InputError, match=named):
        command_of(engine, Scenario(**fields))


def test_a_manifest_has_a_pod_a_replica(done: Simulation) -> None:
    yaml = pytest.importorskip("yaml", reason="the extra `docs` is not installed")
    scenario = Scenario(model="qwen3-8b", tp=2, dp=3, max_num_seq=64, requests="poisson:rate=10,n=4,prompt=30,output=3")
    deployment, service = yaml.safe_load_all(export(simulate(scenario), "kubernetes"))
    pod = deployment["spec"]["template"]["spec"]["containers"][0]
    assert deployment["spec"]["replicas"] == 3
    assert pod["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    assert pod["args"][:3] == ["Qwen/Qwen3-8B", "--tensor-parallel-size", "2"]
    assert "--data-parallel-size" not in pod["args"]
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]


@pytest.mark.parametrize("system", ["gaudi3", "tpu_v5e"])
def test_a_manifest_of_a_device_without_a_resource_is_refused(system: str) -> None:
    load = "batch:n=2,prompt=30,output=3"
    run = simulate(Scenario(model="llama-3.2-1b", system=system, requests=load, fidelity="sol"))
    with pytest.raises(InputError, match=f"system = '{system}': no resource"):
        export(run, "kubernetes")


def test_a_pod_of_amd_asks_for_amds() -> None:
    run = simulate(Scenario(model="qwen3-8b", system="mi300x", requests="batch:n=2,prompt=30,output=3", ends="token"))
    assert 'amd.com/gpu: "1"' in export(run, "kubernetes").decode()
    assert 'finished_reason="stop"' in export(run, "prometheus").decode()


def test_every_format_stands_in_the_help_and_is_written(done: Simulation, tmp_path: pathlib.Path) -> None:
    text = pathlib.Path(cli.__file__).parent.joinpath("commands", "simulate.py").read_text()
    assert all(name in text for name in formats())
    scenario = ["--model", "qwen3-8b", "--requests", "poisson:rate=10,n=4,prompt=30,output=3", "--quiet"]
    wanted = {name: tmp_path / f"{name}.out" for name in formats() if name not in ("sglang_serve", "trtllm_serve")}
    words = [part for name, file in wanted.items() for part in ("--export", f"{name}={file}")]
    assert cli.main(["simulate", *scenario, *words]) == 0
    first = {name: file.read_bytes() for name, file in wanted.items()}
    assert all(first.values())
    assert cli.main(["simulate", *scenario, *words]) == 0
    assert first == {name: file.read_bytes() for name, file in wanted.items()}  # no time of day


def test_bad_exports_are_said_before_the_work(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    for word, said in (("aiperv=x", "nearest: aiperf"), ("aiperf", "FORMAT=FILE"), (f"vllm={tmp_path}", "folder")):
        assert cli.main(["simulate", "--export", word]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(InputError, match="two formats"):
        parse(["vllm=a", "aiperf=a"])


def test_nothing_served_is_nothing_to_export() -> None:
    done = simulate(Scenario(model="llama-2-7b", requests="poisson:rate=1,n=2,prompt=9000,output=10"))
    for name in ("aiperf", "llm_d", "inferencex", "prometheus"):
        with pytest.raises(NothingServedError):
            export(done, name)


def test_the_engines_of_command_lines_have_a_format_each() -> None:
    assert {f"{engine}_serve" for engine in engines()} <= set(formats())
