"""OpenELM's shapes, and a small model's keys and values for a large one's."""

import pytest

from studies import kv_prediction as k
from workloads.models.tensors import num_param


@pytest.mark.parametrize("size", list(k.SIZES))
def test_shapes_have_their_published_size(size: str) -> None:
    assert num_param(k.openelm(size)) == pytest.approx(k.PARAMETER[size], rel=0.04)


def test_prediction_by_the_model_itself_is_its_prompt_and_what_is_added() -> None:
    """Nothing is saved where the auxiliary model is the base model: the map and the last token come on top."""
    base = k.openelm("270M")
    flop, second = k.prompt(base, 512, "a100_sxm_80gb", 0)
    own = k.predicted(base, base, 512, "a100_sxm_80gb")
    ops = k.predictor(base, base, 512)
    assert own[0] == pytest.approx(
        flop + float((ops["flop"] * ops["count"]).sum()) + k.prompt(base, 1, "a100_sxm_80gb")[0]
    )
    assert own[1] > second


def test_the_map_goes_from_every_base_layer_to_the_auxiliary_layer_of_its_depth() -> None:
    base, aux = k.openelm("3B"), k.openelm("270M")
    ops = k.predictor(base, aux, 7)
    assert len(ops) == base.num_layer
    assert ops["k"][0] == k.kv_width(aux, 0)
    assert ops["k"][-1] == k.kv_width(aux, aux.num_layer - 1)
    assert ops["n"].sum() == sum(k.kv_width(base, i) for i in range(base.num_layer))
