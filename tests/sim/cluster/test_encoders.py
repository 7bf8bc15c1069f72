"""A pool of encoders: a queue with a closed form, bytes by hand, and the same work as inside an engine."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from kernels.errors import InputError
from kernels.units import PS_PER_S
from sim.cli import main
from sim.cluster.encoders import encode, encoder_scenario
from sim.cluster.simulate import simulate_pools
from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from workloads.load import load_requests

# field values of the published config.json of Qwen3-VL-8B-Instruct, with six layers
CONFIG = {
    "model_type": "qwen3_vl",
    "text_config": {
        "model_type": "qwen3_vl_text", "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 6,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
        "max_position_embeddings": 262144, "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
    },
    "vision_config": {
        "depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "patch_size": 16,
        "temporal_patch_size": 2, "spatial_merge_size": 2, "out_hidden_size": 4096,
        "deepstack_visual_indexes": [8, 16, 24],
    },
}  # fmt: skip
SHOWN, PLAIN = ",num_image=2,image_token=1024", ""
LINK = 25e9


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    path = tmp_path_factory.mktemp("model") / "config.json"
    path.write_text(json.dumps(CONFIG))
    return Scenario(model=str(path), system="h100_sxm", requests=f"poisson:rate=20,n=200,prompt=3000,output=8{SHOWN}")


def encoded(base: Scenario, change: Mapping[str, Any], load: str = "") -> Any:
    scenario = dataclasses.replace(base, requests=load) if load else base
    return encode(load_requests(scenario.requests, 0), encoder_scenario(scenario, change), LINK)


def test_one_encoder_is_a_queue_of_pollaczek_and_khinchine(base: Scenario) -> None:
    """M/D/1: a mean wait of use / (2 (1 - use)) services."""
    lone = encoded(base, {"dp": 1}, f"poisson:rate=1,n=1,prompt=3000,output=1{SHOWN}")
    service_s = float(lone.busy_ps[0]) / PS_PER_S
    use = 0.6
    found = encoded(base, {"dp": 1}, f"poisson:rate={use / service_s},n=40000,prompt=3000,output=1{SHOWN}")
    load = load_requests(f"poisson:rate={use / service_s},n=40000,prompt=3000,output=1{SHOWN}", 0)
    wait = float((found.begin_ps - load.arrival_ps).mean()) / PS_PER_S
    assert wait == pytest.approx(use / (2 * (1 - use)) * service_s, rel=0.05)
    assert (found.done_ps - found.begin_ps).sum() == found.busy_ps.sum()


def test_nobody_waits_while_an_encoder_is_free(base: Scenario) -> None:
    found = encoded(base, {"dp": 3}, f"poisson:rate=150,n=500,prompt=3000,output=1{SHOWN}")
    arrival = load_requests(f"poisson:rate=150,n=500,prompt=3000,output=1{SHOWN}", 0).arrival_ps
    for i in np.flatnonzero(found.begin_ps > arrival):
        at = arrival[i]
        assert ((found.begin_ps <= at) & (found.done_ps > at)).sum() == 3


def test_what_is_sent_is_the_tokens_at_two_bytes_a_channel(base: Scenario) -> None:
    found = encoded(base, {"dp": 2})
    assert found.moved_byte == 200 * 2 * 1024 * 4096 * 2
    assert found.num_token == 200 * 2 * 1024
    assert (found.ready_ps - found.done_ps).min() == round(2 * 1024 * 4096 * 2 / LINK * PS_PER_S)
    assert not found.load.num_image.any()
    assert (np.diff(found.load.arrival_ps) >= 0).all()


def test_a_lone_request_is_encoded_sent_and_served(base: Scenario) -> None:
    one = dataclasses.replace(base, requests=f"batch:n=1,prompt=3000,output=8{SHOWN}")
    plain = simulate(
        dataclasses.replace(one, requests="batch:n=1,prompt=5048,output=8")
    )  # the images are in the prompt
    done = simulate_pools(one, {}, None, encode={"dp": 1}, link_byte_per_s=LINK)
    assert done.encoded is not None
    ready_s = float(done.encoded.ready_ps[0]) / PS_PER_S
    assert done.requests["ttft_s"][0] == pytest.approx(ready_s + float(plain.run.request["ttft_s"][0]), rel=1e-3)
    within = simulate(one)  # the same encoder, inside the engine
    more_s = float(within.run.request["ttft_s"][0] - plain.run.request["ttft_s"][0])
    assert float(done.encoded.busy_ps[0]) / PS_PER_S == pytest.approx(more_s, rel=0.02)


def test_decodes_no_longer_wait_for_images(base: Scenario) -> None:
    busy = dataclasses.replace(base, requests=f"poisson:rate=12,n=200,prompt=3000,output=100{SHOWN}")
    within, apart = simulate(busy).metrics, simulate_pools(busy, {}, None, encode={"dp": 1}, link_byte_per_s=LINK)
    assert 1e3 * apart.summary.set_index("metric")["mean"]["tpot_s"] < within["mean_tpot_ms"]
    assert apart.requests["served"].all()


def test_requests_keep_their_place_and_their_arrival(base: Scenario) -> None:
    done = simulate_pools(base, {"dp": 2}, {}, encode={"dp": 1}, link_byte_per_s=LINK, record_steps=True)
    load = load_requests(base.requests, 0)
    np.testing.assert_allclose(done.requests["arrival_s"], load.arrival_ps / PS_PER_S)
    np.testing.assert_array_equal(done.requests["prompt_token"], load.prompt_token)
    assert done.encoded is not None
    assert (done.requests["ttft_s"] + done.requests["arrival_s"] > done.encoded.ready_ps / PS_PER_S).all()
    assert "encoded in a pool of their own" in done.page()
    assert json.loads(done.trace())["traceEvents"]


def test_a_power_limit_slows_encoders_too(base: Scenario) -> None:
    plain, limited = (encoded(dataclasses.replace(base, power_limit_W=watt), {"dp": 1}) for watt in (0.0, 250.0))
    assert limited.busy_ps.sum() > 1.1 * plain.busy_ps.sum()


def test_one_pool_hands_nothing_over(base: Scenario) -> None:
    plain = dataclasses.replace(base, requests="batch:n=1,prompt=10,output=2")
    for field, value in (("transfer", "layered"), ("latency_s", 0.1), ("link_byte_per_s", LINK)):
        with pytest.raises(InputError, match=f"{field} = .*hands nothing over"):
            simulate_pools(plain, {}, None, **{field: value})  # type: ignore[arg-type]


def test_what_encoders_cannot_do_is_said(base: Scenario) -> None:
    for change, load, said in (
        ({"pp": 2}, "", "no field of encoders"),
        ({"dp": 1}, "poisson:rate=1,n=4,prompt=3000,output=1", "no request shows an image"),
        ({"dp": 1}, f"poisson:rate=1,n=4,prompt=3000,output=1,turns=2{SHOWN}", "wait for nobody's answer"),
    ):
        with pytest.raises(InputError, match=said):
            encoded(base, change, load)
    with pytest.raises(InputError, match="num_image"):
        simulate_pools(base, {}, {})


def test_the_verb_takes_a_pool_of_encoders(base: Scenario, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "o.json"
    words = ["pools", "--model", base.model, "--system", base.system, "--requests", base.requests, "--json", str(out)]
    assert main([*words, "--encode", "dp=2,system=l40s", "--decode", "none", "--link-gbps", "25"]) == 0
    assert [row["pool"] for row in json.loads(out.read_text())["pools"]] == ["encode", "mixed"]
