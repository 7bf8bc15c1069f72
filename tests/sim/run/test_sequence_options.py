"""Options of what sequences keep and read: rules from files, and combinations that would do nothing."""

import pathlib
from typing import Any

import numpy as np
import pytest

from hw_models import catalog
from hw_models.device import machine
from kernels.errors import InputError
from kernels.machine import LINK_BYTE_PER_S, LINK_HOST, LINK_LATENCY_S, LINK_NUM_DEVICE
from sim.run.effect import check_load, check_placement
from sim.run.scenario import Scenario
from sim.serving import attention_rule
from sim.serving.adapters import parse_ranks, projections, ranks_of
from sim.serving.rules import Spans
from workloads import formats, memory, models, placement
from workloads.load import load_requests
from workloads.requests import build, digest


def test_an_attention_is_one_file_anywhere(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "long.toml"
    file.write_text('title = "long prefixes"\nsource = "a paper"\nleast_row = 4\nleast_token = 256\ncommon = true\n')
    assert attention_rule.load(str(file)) == Spans(4, 256, True)
    for line in ("least_row = 1", "least_token = 0", "most_row = 3", 'common = "yes"'):
        file.write_text(f'title = "t"\nsource = "s"\n{line}\n')
        with pytest.raises(InputError, match=line.split()[0]):
            attention_rule.load(str(file))
    with pytest.raises(InputError, match="relay"):
        attention_rule.load("relais")
    for name in attention_rule.names():
        attention_rule.load(name)


@pytest.mark.parametrize(
    "fields",
    [
        {"attention": "relay", "prefix_cache": False},
        {"attention": "hydragen", "attn_dp": 2},
        {"attention": "relay", "kv_budget": 100},
        {"attention": ""},
        {"kv_budget": -1},
    ],
)
def test_what_would_do_nothing_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Scenario(**fields)


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        ("deepseek-v2-lite", {"attention": "relay"}),
        ("deepseek-v2-lite", {"kv_budget": 128}),
        ("mistral-7b", {"attention": "relay"}),
        ("mistral-7b", {"kv_budget": 128}),
    ],
)
def test_models_without_plain_keys_are_refused(model: str, fields: dict[str, Any]) -> None:
    spec = models.load(model)
    with pytest.raises(InputError, match=next(iter(fields))):
        check_placement(Scenario(model=model, **fields), spec, placement.make(spec))


def test_adapters_of_loads() -> None:
    text = "batch:n=2000,prompt=8,output=2,num_adapter=10,adapter_alpha={}"
    even, skewed = (np.bincount(load_requests(text.format(alpha)).adapter, minlength=10) for alpha in (1, 0.1))
    assert even.min() > 150
    assert skewed[0] / 2000 == pytest.approx(0.1**0.1, abs=0.03)  # P(u < 1/10) of density alpha u^(alpha - 1)
    with pytest.raises(InputError, match="adapter_alpha"):
        load_requests("batch:n=2,prompt=8,output=2,adapter_alpha=0.5")
    plain = build([0], [5], [5])
    assert digest(plain) == digest(build([0], [5], [5], adapter=[-1])) != digest(build([0], [5], [5], adapter=[0]))


def test_loads_and_ranks_go_together() -> None:
    plain, asks = (load_requests(f"batch:n=4,prompt=8,output=2{more}") for more in ("", ",num_adapter=2"))
    check_load(Scenario(lora_rank="8"), asks)
    for scenario, load in ((Scenario(), asks), (Scenario(lora_rank="8"), plain)):
        with pytest.raises(InputError, match="lora_rank"):
            check_load(scenario, load)
    shared = load_requests("batch:n=40,prompt=80,output=2,num_adapter=2,num_system_prompt=1,system_prompt_len=64")
    check_load(Scenario(lora_rank="8", prefix_cache=False), shared)
    with pytest.raises(InputError, match="differs by adapter"):
        check_load(Scenario(lora_rank="8"), shared)
    for text in ("0", "8+", "a", "8+4096"):
        with pytest.raises(InputError, match="lora_rank"):
            parse_ranks(text)
    with pytest.raises(InputError, match="attention"):
        projections(models.load("deepseek-v2-lite"))


def test_what_an_adapter_takes() -> None:
    """Rank 64 of Llama-2-7B: 2 x 4 x 4096 x 64 values in each of 32 layers, as much as 256 tokens of KV."""
    spec, system = models.load("llama-2-7b"), catalog.system("a100_sxm_80gb")
    arrays = machine(system)
    token_byte = memory.kv_byte_per_token(spec, formats.Formats(), placement.make(spec))
    one, two = (
        ranks_of("64", spec, formats.Formats(), placement.make(spec, tp), system, arrays, 16 * token_byte / tp)[0]
        for tp in (1, 2)
    )
    byte = 2 * 4 * 4096 * 64 * 32 * 2
    link_byte_per_s, latency_s = arrays.link[LINK_HOST, LINK_BYTE_PER_S], arrays.link[LINK_HOST, LINK_LATENCY_S]
    assert (one.num_block, two.num_block) == (256 // 16, 256 // 16)
    assert one.fetch_ps == pytest.approx((byte / link_byte_per_s + latency_s) * 1e12)
    shared = min(2, arrays.link[LINK_HOST, LINK_NUM_DEVICE])
    assert two.fetch_ps == pytest.approx((byte / 2 * shared / link_byte_per_s + latency_s) * 1e12)
