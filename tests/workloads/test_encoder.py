"""The image encoder: its work by hand arithmetic, apart for each image."""

import numpy as np
import pytest

from hw_models import catalog
from hw_models.device import machine
from kernels import optable as op
from kernels.errors import InputError
from kernels.price import price_table
from workloads.encoder import image_patch, lower_encoder
from workloads.formats import Formats
from workloads.models.vision import Vision, num_param

QWEN = Vision(27, 1152, 4304, 16, 16, 2, 2, 4096, num_merger=4)  # Qwen3-VL-8B's `vision_config`


def flop(ops, kind):
    return float((ops["flop"] * ops["count"])[ops["kind"] == kind].sum())


def test_two_flop_a_weight_and_patch():
    ops, _ = lower_encoder(QWEN, Formats(), [4096])
    layer, merger = 4 * 1152**2 + 2 * 1152 * 4304, 4608**2 + 4608 * 4096
    expected = 2 * 4096 * (27 * layer + 3 * 2 * 16**2 * 1152) + 2 * 1024 * 4 * merger
    assert flop(ops, op.GEMM) == pytest.approx(expected, rel=1e-12)
    read = float((ops["weight_byte"] * ops["count"]).sum())
    assert read == pytest.approx(2 * num_param(QWEN), rel=0.002)  # the biases of the mergers are not among the weights


def test_images_do_not_see_each_other():
    one, _ = lower_encoder(QWEN, Formats(), [4096])
    four, work = lower_encoder(QWEN, Formats(), [1024] * 4)
    assert flop(four, op.GEMM) == flop(one, op.GEMM)
    assert flop(four, op.ATTN_PREFILL) == flop(one, op.ATTN_PREFILL) / 4
    assert flop(one, op.ATTN_PREFILL) == 27 * 4 * 4096**2 * 1152
    assert (work["causal"] == 2).all()


def test_it_is_priced_like_any_prompt():
    ops, work = lower_encoder(QWEN, Formats(), [image_patch(QWEN, 1024, 768)])
    cost = price_table(ops, work, machine(catalog.system("h100_sxm"), "sol"))
    least = flop(ops, op.GEMM) / 989.4e12
    assert least < cost["time_ps"].sum() / 1e12 < 3 * least


@pytest.mark.parametrize("images", [[0], [[4]]])
def test_what_is_no_image(images):
    with pytest.raises(InputError, match="num_patch"):
        lower_encoder(QWEN, Formats(), np.array(images))
