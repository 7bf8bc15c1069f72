"""Time and joules are conserved: operators add up to steps, steps and idling to the whole."""

import numpy as np
import pytest

from hw_models import catalog
from hw_models.device import machine
from hw_models.power import draw
from kernels.engine.records import LOG_COLUMNS
from kernels.machine import IDLE_W
from kernels.optable import P2P
from sim.serving.accounts import accounts
from sim.serving.limits import Limits
from sim.serving.step_price import HostTime, build
from tests.sim.serving.serving_case import load, run
from workloads import formats, models, placement


@pytest.mark.parametrize(("tp", "pp"), [(1, 1), (2, 2)])
def test_operators_add_up_to_steps(tp, pp):
    model = models.load("llama-2-7b")
    system = catalog.system("a100_sxm_80gb")
    host = HostTime(step_s=1e-3, seq_s=1e-5, token_s=1e-7, request_s=1e-4)
    price, lowered = build(
        model, formats.Formats(), placement.make(model, tp, pp), machine(system), max_token=128, max_seq=8, host=host
    )
    random = np.random.default_rng(0)
    requests = load(np.sort(random.integers(0, 10**5, 30)), random.integers(1, 300, 30), random.integers(50, 200, 30))
    limits = Limits(num_block=40, max_context_token=1000, num_replica=2, preemption="swap", host_block=500)
    result = run(requests, price, "sarathi:max_token=128,max_seq=8", limits, record_steps=True)
    found = accounts(result, lowered)
    assert result.counter["num_moved_block"].sum() > 0  # swapping is in play
    on_stage = found.kind != P2P
    assert found.time_ps[on_stage].sum() == result.stage_busy_ps.sum()
    step = dict(zip(LOG_COLUMNS, result.step.T, strict=True))
    assert found.energy_nj.sum() == step["energy_nj"].sum()
    # in all: idle power over the whole span, and the dynamic energy of what ran; so never less than idling
    devices = tp * pp * 2
    assert found.idle_nj > 0
    assert found.idle_nj + found.energy_nj.sum() > draw(system.device).awake_w * devices * result.span_ps * 1e-3
    assert lowered.machine.rate[IDLE_W] == draw(system.device).awake_w
    # every step runs the dense operators of each stage, the head where it samples, and attention of every layer
    dense = sum(int(lowered.dense(stage, [1])["count"].sum()) for stage in range(pp))
    head = int(lowered.head([1])["count"].sum())
    sampling = int((step["num_sampled"] > 0).sum())
    attention = int((step["num_prefill"] > 0).sum() + (step["num_decode"] > 0).sum())
    assert found.num_operator == len(result.step) * dense + sampling * head + attention * model.num_layer
