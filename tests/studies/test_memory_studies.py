"""Memory of training: each way with nothing left out is the plain one, and sums are those of their parts."""

import pytest

from kernels.train_plan import MEMORY
from studies import inf_cl, mesa
from workloads.kept_activations import kept_tensors


def test_one_gpu_has_no_neighbour_and_all_the_similarities() -> None:
    assert inf_cl.loss_byte(inf_cl.CLIP, 4096, 1) == inf_cl.loss_byte(inf_cl.OPEN, 4096, 1)
    assert inf_cl.loss_byte(inf_cl.OPEN, 4096, 1) - inf_cl.loss_byte(inf_cl.INF, 4096, 1) == 4 * 4096**2
    one, four = (inf_cl.loss_byte(inf_cl.INF, batch, 8) for batch in (2**20, 2**22))
    assert four == 4 * one  # linear, where all similarities are 16 times as many
    towers = [inf_cl.total_byte(inf_cl.INF, b, 8) - inf_cl.loss_byte(inf_cl.INF, b, 8) for b in (2**16, 2**22)]
    assert towers[0] == pytest.approx(towers[1])  # in parts of one size


def test_tiles_are_multiplied_once_more_than_what_is_kept() -> None:
    tiles = inf_cl.loss_s(inf_cl.INF, 2**20, 8)
    kept = inf_cl.loss_s(inf_cl.OPEN, 2**20, 8)
    assert 0 < tiles < 4 / 3 * kept


def test_mesa_keeps_a_byte_of_every_value_and_the_same_states() -> None:
    plain, narrow = (mesa.step("DeiT-S", way) for way in (mesa.PLAIN, mesa.MESA))
    assert (plain.memory[:3] == narrow.memory[:3]).all()  # weights, gradients, moments
    assert plain.step_s == narrow.step_s  # the passes are counted apart
    values = {one.name: one.byte for one in kept_tensors(384, mesa.MODELS["DeiT-S"].block[0],
                                                         mesa.plan("DeiT-S", mesa.PLAIN), "fp16")}  # fmt: skip
    wide = sum(share * values[name] / 4 for name, share in mesa.USUAL.items())
    rest = sum(byte / 2 for name, byte in values.items() if name not in mesa.USUAL)
    half = sum(byte * mesa.USUAL.get(name, 1.0) for name, byte in values.items())
    activation = MEMORY.index("activation")
    assert plain.memory[activation] - narrow.memory[activation] == pytest.approx(12 * (half - wide - rest), rel=1e-6)
