"""A step's price equals the sum over its operators, for every family and placement."""

import numpy as np
import pytest

from hw_models import catalog
from hw_models.device import best_fidelity, machine
from kernels.errors import InputError
from kernels.optable import P2P
from kernels.price import price_table
from sim.serving.step_price import HostTime, build, step_cost
from tests.workloads.published_configs import PUBLISHED
from workloads import formats, lowering, models, placement
from workloads.models.catalogue import from_dict

CASES = [  # model, system, tp, pp, weights, kv
    ("llama-2-7b", "a100_sxm_80gb", 1, 1, "bf16", "bf16"),
    ("llama-3-70b", "h100_sxm", 8, 2, "bf16", "fp8"),
    ("gemma-3-27b", "h100_sxm", 2, 3, "bf16", "bf16"),  # windows on five layers of six
    ("mixtral-8x7b", "h100_sxm", 2, 1, "fp8", "fp8"),  # experts
    ("deepseek-v2-lite", "h100_sxm", 2, 2, "bf16", "bf16"),  # latent attention
    ("DeepSeek-V3.2", "h200", 8, 1, "auto", "bf16"),  # latent attention on picked keys, block-scaled fp8
    ("MiniMax-M3", "h200", 8, 2, "bf16", "fp8"),  # blocks of keys picked
    ("gemma-4-26B-A4B", "h100_sxm", 2, 1, "bf16", "bf16"),  # two widths of heads, one projection for both
    ("Qwen3-Next-80B-A3B", "h100_sxm", 4, 2, "bf16", "bf16"),  # gated delta rule beside attention, experts
    ("Kimi-Linear-48B-A3B", "h100_sxm", 2, 1, "bf16", "bf16"),  # a decay a channel, beside latent attention
    ("Nemotron-3-Nano-30B-A3B", "h100_sxm", 1, 2, "bf16", "fp8"),  # Mamba-2, layers of one part
    ("Falcon-H1-7B", "a100_sxm_80gb", 1, 1, "bf16", "bf16"),  # Mamba-2 and attention in one layer
    ("jamba-mini", "h100_sxm", 2, 1, "bf16", "bf16"),  # Mamba-1
]


@pytest.mark.parametrize(("name", "system", "tp", "pp", "weight", "kv"), CASES)
def test_step_cost_is_the_sum_of_its_operators(name, system, tp, pp, weight, kv):
    model = from_dict(PUBLISHED[name].config, name) if name in PUBLISHED else models.load(name)
    form = formats.of(model, weight, kv)
    placed = placement.make(model, tp, pp)
    found = catalog.system(system, placed.num_device)
    arrays = machine(found, best_fidelity(found.device))
    price, _ = build(model, form, placed, arrays, max_token=600, max_seq=16)
    random = np.random.default_rng(0)
    for num_prefill, num_decode in ((0, 1), (0, 16), (1, 0), (2, 7), (3, 12)):
        decode = np.arange(num_prefill + num_decode) >= num_prefill
        query = np.where(decode, 1, random.integers(1, 180, len(decode)))
        plan = lowering.Plan(
            query, query + random.integers(0, 3000, len(decode)), decode, random.random(len(decode)) < 0.8
        )
        time_ps, energy_nj, send_ps = step_cost(price, price, plan)
        for stage in range(pp):
            ops, work = lowering.lower_step(model, form, placed, stage, plan)
            cost = price_table(ops, work, arrays)
            sends = ops["kind"] == P2P
            assert cost["time_ps"][~sends].sum() == time_ps[stage]
            assert cost["time_ps"][sends].sum() == send_ps[stage]
            assert cost["energy_nj"][~sends].sum() * tp == energy_nj[stage]  # of all devices of the stage


def test_layers_whose_state_reads_the_context_are_refused():
    model = from_dict(PUBLISHED["DeepSeek-V4-Flash"].config, "v4")
    arrays = machine(catalog.system("h200"))
    with pytest.raises(InputError, match="more than tokens and sequences"):
        build(model, formats.of(model), placement.make(model), arrays, max_token=40, max_seq=8)


def test_graph_sizes_pad_the_dense_part_alone():
    model = models.load("llama-2-7b")
    arrays = machine(catalog.system("a100_sxm_80gb"))
    args = (model, formats.Formats(), placement.make(model), arrays)
    plain, _ = build(*args, max_token=40, max_seq=8)
    padded, _ = build(*args, max_token=40, max_seq=8, host=HostTime(graph_token=(1, 2, 4, 8, 16, 32), step_s=1e-3))
    # 5 to 8 tokens cost what 8 do, beyond the largest graph nothing is padded
    assert padded.dense_ps[0, 5:9].tolist() == [plain.dense_ps[0, 8]] * 4
    assert (padded.dense_ps[0, 33:] == plain.dense_ps[0, 33:]).all()
    assert (padded.head_ps == plain.head_ps).all()
    assert padded.host_ps[0] == 10**9
