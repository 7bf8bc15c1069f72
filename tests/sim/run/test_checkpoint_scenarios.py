"""A scenario takes a checkpoint as it is: its formats, its context, and what the user says over them."""

import json

import pytest

from kernels.errors import InputError
from sim.run.scenario import Scenario
from sim.run.setup import prepare
from sim.run.simulate import simulate
from tests.workloads.published_configs import DEEPSEEK_V3, QWEN3_14B

GIB = 2**30
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}


@pytest.fixture
def written(tmp_path):
    def write(config):
        path = tmp_path / "config.json"
        path.write_text(json.dumps(config))
        return str(path)

    return write


def test_deepseek_r1_fits_on_eight_h200(written):
    """The named wrong case: read as bf16 it "does not fit"; in its own fp8 it takes about 79 GiB a device."""
    setup = prepare(Scenario(model=written(DEEPSEEK_V3), system="h200", tp=8))
    assert (setup.formats.expert, setup.formats.kv) == ("fp8_block", "bf16")
    assert sum(setup.budget.weight.values()) / GIB == pytest.approx(79, abs=1)
    with pytest.raises(InputError, match="does not fit"):
        prepare(Scenario(model=written(DEEPSEEK_V3), system="h200", tp=8, weight_format="bf16"))


def test_a_format_of_ones_own_is_said_in_the_result(written):
    path = written(QWEN3_14B | {"quantization_config": AWQ})
    scenario = Scenario(model=path, system="a100_sxm_80gb", requests="batch:n=2,prompt=64,output=4", max_model_len=512)
    assert simulate(scenario).run.about["formats"] == "w4a16"
    other = Scenario(**{**vars(scenario), "weight_format": "bf16", "kv_format": "int8"})
    run = simulate(other)
    assert run.run.about["formats"] == "bf16:kv=int8 overrides the checkpoint's own awq"
    assert run.setup.budget.kv_per_token == 163_840 / 2


def test_contexts_reach_beyond_the_stated_one_when_asked(written):
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    path = written(QWEN3_14B | {"rope_scaling": yarn})
    assert prepare(Scenario(model=path, system="h200")).max_model_len == 131_072
    assert prepare(Scenario(model=path, system="h200", max_model_len=200_000)).max_model_len == 200_000
    with pytest.raises(InputError, match="learned positions for 1024 tokens"):
        prepare(Scenario(model="gpt2", system="h200", max_model_len=2048))


def test_a_machine_without_the_checkpoints_format_is_named(written):
    path = written(QWEN3_14B | {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}})
    with pytest.raises(InputError, match="weight_format = 'fp8_block'"):
        prepare(Scenario(model=path, system="a100_sxm_80gb"))
