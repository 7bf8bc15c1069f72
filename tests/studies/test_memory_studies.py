"""Memory of training: each way with nothing left out is the plain one, and sums are those of their parts."""

import numpy as np
import pytest

from kernels.train_plan import MEMORY
from sim.training.estimate import known_site
from studies import dataset_decomposition, inf_cl, lo_rat, mesa, slim_fit
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


def test_nothing_frozen_and_32_bits_is_plain_fine_tuning() -> None:
    case = slim_fit.CASES["ViT-B, ImageNet"]
    plain = slim_fit.plan(case, 0.0, 32)
    assert {share for name, _, share in plain.policy if name not in slim_fit.NORMS} == {1.0}
    kept = {one.name: one.byte for one in kept_tensors(768, case.model.block[0], plain, "fp32")}
    frozen = slim_fit.need_byte(case) - slim_fit.need_byte(case, 1.0, 32)
    fragment = 1 + float(known_site(slim_fit.SYSTEM, 1, slim_fit.STACK, "fused_softmax", "fp32").stack["fragment"])
    assert frozen == pytest.approx(12 * sum(kept[name] for name in slim_fit.DYNAMIC) * fragment)
    assert slim_fit.need_byte(case, 0.5, 8) < slim_fit.need_byte(case, 0.5, 32) < slim_fit.need_byte(case)


def test_documents_of_one_length_cost_what_that_context_costs() -> None:
    share = dataset_decomposition.decompose(np.full(1000, 2048))
    assert share[2048] == 1
    assert dataset_decomposition.mixed_s(share) == dataset_decomposition.token_s(2048)
    drawn = dataset_decomposition.decompose(dataset_decomposition.documents(600, 1.2, 1000))
    assert sum(drawn.values()) == pytest.approx(1)
    # attention's share alone grows, evenly, with the length
    times = [dataset_decomposition.token_s(seq) for seq in (2048, 4096, 8192)]
    assert times[2] - times[1] == pytest.approx(2 * (times[1] - times[0]), rel=0.05)


def test_adapters_of_no_rank_train_everything() -> None:
    way = lo_rat.WAYS[0]
    whole, own, twice = (lo_rat.step("L", way, rank) for rank in (0, 64, 128))
    states = [sum(one.memory[1:3]) for one in (whole, own, twice)]
    assert states[2] == pytest.approx(2 * states[1], rel=1e-6)  # of the adapters alone
    assert states[1] < 0.1 * states[0]
    assert own.step_s < twice.step_s
    assert whole.memory[0] == pytest.approx(4 * 302e6, rel=0.02)  # ViT-L's layers in 32 bits
