"""A head runs in the width that its attention kernel is built for."""

import numpy as np
import pytest

from hw_models import catalog
from sim.training.price import layer_seconds, site
from sim.training.stack import load_stack
from studies._gpt import gpt
from workloads.training import TrainPlan


def attention_s(name: str, head_dim: int) -> float:
    """Seconds of attention, forward and backward, of 16 heads of this width."""
    model = gpt("wide", 16 * head_dim, 1, 16)
    plan = TrainPlan(micro_batch=1, batch=1, seq=8192, attention=name)
    low, seconds = layer_seconds(
        model, model.block[0], plan, site(catalog.system("dgx_a100", 8), load_stack("megatron-2021"), name)
    )
    return float(seconds[np.array(low.module) == "core_attn"].sum())


def test_a_head_between_two_widths_costs_the_wider_one() -> None:
    assert attention_s("flash1", 96) == pytest.approx(attention_s("flash1", 128))
    assert attention_s("flash1", 64) < attention_s("flash1", 96)
    # the next version is built for 96
    assert attention_s("flash2", 64) < attention_s("flash2", 96) < attention_s("flash2", 128)
