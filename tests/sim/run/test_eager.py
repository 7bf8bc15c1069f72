"""Engines without CUDA graphs: the host launches every layer, steps are not padded, graphs take no memory."""

import dataclasses

import numpy as np
import pytest

from kernels.errors import InputError
from sim.run.profile import profile_of
from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from sim.serving import engine_profile

BASE = Scenario(model="llama-3-8b", system="h100_sxm", requests="batch:n=1,prompt=64,output=100")


def test_a_small_decode_lasts_as_long_as_its_launches() -> None:
    graphs, eager = (
        simulate(dataclasses.replace(BASE, eager=value)).metrics["mean_tpot_ms"] for value in (False, True)
    )
    profile = engine_profile.load(BASE.engine)
    launches_ms = 32 * profile.eager_layer_s * 1e3
    assert graphs < launches_ms <= eager < launches_ms + 1  # and the host's time of a step


def test_a_long_prompt_hides_its_launches() -> None:
    long = dataclasses.replace(BASE, requests="batch:n=8,prompt=4000,output=1")
    graphs, eager = (simulate(dataclasses.replace(long, eager=value)).metrics["duration"] for value in (False, True))
    assert eager == pytest.approx(graphs, rel=0.02)


def test_the_layers_launches_are_those_of_the_profile_that_was_fitted_without_graphs() -> None:
    fitted = engine_profile.load("vllm_2023_h100").dispatch_layer_s
    for name in ("vllm_0.15", "vllm_0.33"):
        assert engine_profile.load(name).eager_layer_s == pytest.approx(fitted, rel=0.01)


def test_graphs_that_are_not_there_take_no_memory() -> None:
    memory = [profile_of(dataclasses.replace(BASE, engine="vllm_0.33", eager=value)).memory for value in (False, True)]
    assert memory[0].graph_byte > memory[1].graph_byte == 0


@pytest.mark.parametrize(("engine", "said"), [("vllm_2023_h100", "has no CUDA graphs"), ("none", "has no CUDA graphs"),
                                              ("sglang", "nobody knows")])  # fmt: skip
def test_what_it_cannot_say_is_refused(engine: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        simulate(dataclasses.replace(BASE, engine=engine, eager=True))


def test_the_speed_of_light_has_no_host() -> None:
    with pytest.raises(InputError, match="eager"):
        simulate(dataclasses.replace(BASE, fidelity="sol", eager=True))


def test_pools_at_the_speed_of_light_have_no_host_either() -> None:
    from sim.cluster.simulate import simulate_pools

    light = dataclasses.replace(BASE, fidelity="sol", requests="poisson:rate=1,n=5,prompt=100,output=2")
    alone, pools = simulate(light), simulate_pools(light, {}, {}, link_byte_per_s=1e15)
    np.testing.assert_allclose(pools.requests["ttft_s"], alone.run.request["ttft_s"], rtol=1e-9)
