"""Images of requests: encoded once, in the step that first schedules their prompt, on the first stage."""

import json

import numpy as np
import pandas as pd
import pytest

from kernels.errors import InputError
from sim.run.scenario import Scenario
from sim.run.simulate import Simulation, simulate
from workloads.encoder import lower_encoder
from workloads.load import load_requests
from workloads.requests import build, check_no_image, digest

# Qwen3-VL-8B's published fields
TEXT = {"model_type": "qwen3_vl_text", "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
        "hidden_act": "silu", "max_position_embeddings": 262144, "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False}  # fmt: skip
VISION = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "patch_size": 16,
          "temporal_patch_size": 2, "spatial_merge_size": 2, "out_hidden_size": 4096, "hidden_act": "gelu_pytorch_tanh",
          "deepstack_visual_indexes": [8, 16, 24]}  # fmt: skip
TOKEN = 256  # of the language model for an image of 512 x 512: four patches of 16 x 16 each
LOAD = "batch:n=3,prompt=100,output=4"


def run(load: str, model: str, **change: object) -> Simulation:
    values = {"model": model, "system": "h100_sxm", "policy": "vllm_v1:max_token=8192", "seed": 0, "requests": load}
    return simulate(Scenario(**{**values, **change}), record_steps=True)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "config.json"
    path.write_text(json.dumps({"model_type": "qwen3_vl", "text_config": TEXT, "vision_config": VISION}))
    return str(path)


@pytest.fixture(scope="module")
def plain(model: str) -> Simulation:
    return run("batch:n=3,prompt=612,output=4", model)


@pytest.fixture(scope="module")
def shown(model: str) -> Simulation:
    return run(f"{LOAD},num_image=2,image_token={TOKEN}", model)


def test_tokens_of_images_are_of_the_prompt_and_the_step_is_longer_by_the_encoder(
    plain: Simulation, shown: Simulation
) -> None:
    assert shown.run.requests["prompt_token"].tolist() == [100 + 2 * TOKEN] * 3
    vision = shown.lowered.model.vision
    assert vision is not None
    ops, work = lower_encoder(vision, shown.lowered.formats, [TOKEN * vision.merge**2] * 2)
    cost = shown.lowered.price(ops, work)
    one_s = int(cost["time_ps"].sum()) * 1e-12
    steps = [done.run.steps for done in (plain, shown)]
    assert len(steps[0]) == len(steps[1])  # the plans are the same
    took = [(frame["end_s"] - frame["start_s"]).to_numpy() for frame in steps]
    # all three prompts are in the first step, which encodes the images of each; the others are as they were
    assert took[1][0] - took[0][0] == pytest.approx(3 * one_s, rel=1e-9)
    assert took[1][1:] == pytest.approx(took[0][1:])
    energy = [frame["energy_j"].iloc[0] for frame in steps]
    assert energy[1] - energy[0] == pytest.approx(3 * int(cost["energy_nj"].sum()) * 1e-9, rel=1e-6)


def test_the_encoder_is_named_among_the_operators(plain: Simulation, shown: Simulation) -> None:
    spent = shown.accounts
    encoder = np.array([name.startswith("image ") for name in spent.name])
    assert {"image attention", "image mlp_up", "image merge_down"} <= set(spent.name)
    total_ps = int(shown.result.stage_busy_ps.sum())
    assert int(spent.time_ps.sum()) == total_ps  # every picosecond has a name
    assert int(spent.time_ps[encoder].sum()) == total_ps - int(plain.result.stage_busy_ps.sum())
    flop = float(spent.amount[encoder, 1].sum())
    vision = shown.lowered.model.vision
    assert vision is not None
    ops, _ = lower_encoder(vision, shown.lowered.formats, [TOKEN * vision.merge**2] * 6)
    assert flop == pytest.approx(float((ops["flop"] * ops["count"]).sum()))


def test_devices_share_the_images_of_a_request(shown: Simulation, model: str) -> None:
    two = run(f"{LOAD},num_image=2,image_token={TOKEN}", model, tp=2)
    encoder = [name.startswith("image ") for name in two.accounts.name]
    vision = two.lowered.model.vision
    assert vision is not None
    ops, work = lower_encoder(vision, two.lowered.formats, [TOKEN * vision.merge**2])
    one_ps = int(two.lowered.price(ops, work)["time_ps"].sum())
    assert int(two.accounts.time_ps[encoder].sum()) == 3 * one_ps  # an image of each request on each device
    both = [name.startswith("image ") for name in shown.accounts.name]
    assert 3 * one_ps < int(shown.accounts.time_ps[both].sum())


def test_what_has_no_encoder_or_no_price_is_refused_by_name(model: str) -> None:
    for name, change, text in (
        ("llama-3-8b", {}, "num_image = 2: llama-3-8b has no encoder"),
        (model, {"fidelity": "replay"}, "num_image = 2: images are encoded in a plain serving run"),
    ):
        with pytest.raises(InputError, match=text):
            run(f"{LOAD},num_image=2,image_token={TOKEN}", name, **change)
    with pytest.raises(InputError, match="num_image = 1: images are encoded in a plain serving run, not in pools"):
        check_no_image(build([0], [50], [2], num_image=[1], image_token=[10]), "in pools")
    with pytest.raises(InputError, match="image_token = 30: request 0: its images have more tokens than its prompt"):
        build([0], [50], [2], num_image=[2], image_token=[30])
    with pytest.raises(InputError, match="num_image"):
        load_requests(f"{LOAD},num_image=2")


def test_a_trace_may_name_images(tmp_path: object) -> None:
    path = f"{tmp_path}/t.csv"
    rows = {"arrival_s": [0.0, 1.0], "prompt_token": [600, 20], "output_token": [3, 3]}
    pd.DataFrame(rows).to_csv(path, index=False)
    without = load_requests(path)
    pd.DataFrame(rows | {"num_image": [2, 0], "image_token": [TOKEN, 0]}).to_csv(path, index=False)
    found = load_requests(path)
    assert (found.num_image.tolist(), found.image_token.tolist()) == ([2, 0], [TOKEN, 0])
    assert found.prompt_token.tolist() == [600, 20]  # a trace's prompts count their images
    assert digest(found) != digest(without)
