"""Parameters of an architecture at its class's own sizes, and of its routed experts, against the class itself.

`class_counts.json`: for each `model_type`, the values of `named_parameters()` of its class in transformers 5.24, built
without weights (`torch.device("meta")`) from the default configuration; encoders of images and sound, their projectors
and prediction heads not counted.
"""

import json
import pathlib

import pytest

from workloads import models
from workloads.models.catalogue import from_dict
from workloads.models.tensors import tensors

COUNTS = json.loads(pathlib.Path(__file__).with_name("class_counts.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", sorted(COUNTS))
def test_a_class_at_its_own_sizes(kind: str) -> None:
    param, expert = COUNTS[kind]
    model = from_dict({"text_config": {"model_type": kind}}, kind)
    assert models.num_param(model) == pytest.approx(param, rel=0.005)
    assert sum(t.value * t.count for t in tensors(model) if t.name == "experts") == pytest.approx(expert, rel=0.005)
