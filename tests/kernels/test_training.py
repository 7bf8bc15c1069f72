"""Memory of a training plan against hand arithmetic and published formulas."""

import numpy as np
import pytest

from kernels import training as t
from workloads import models
from workloads.training import TrainPlan, model_vector, parameter_count, plan_vector

GPT = models.load("gpt3-175b")
IDEAL = np.array(t.IDEAL_FIT)


def memory(plan: TrainPlan, rank: float = 0.0, fit: t.Floats = IDEAL) -> dict[str, float]:
    out = np.zeros(len(t.MEMORY))
    t.plan_memory(model_vector(GPT, plan.seq, plan.dropout), plan_vector(plan), fit, rank, out)
    return dict(zip(t.MEMORY, out.tolist(), strict=True))


@pytest.mark.parametrize(("attention", "per_score"), [("fused_softmax", 5), ("flash2", 0)])
@pytest.mark.parametrize("tp", [1, 8])
def test_activations_of_a_gpt_layer_are_those_of_the_published_formula(attention: str, per_score: int, tp: int) -> None:
    # Korthikanti et al. 2022: s b h (10 + 24 / t + 5 a s / (h t)) with tensor parallelism alone,
    # s b h (34 + 5 a s / h) / t with sequence parallelism too; flash keeps a 4-byte row sum a score row instead
    s, b, h, a = 2048, 2, 12288, 96
    for split, first in ((False, 10 + 24 / tp), (True, 34 / tp)):
        plan = TrainPlan(tp=tp, micro_batch=b, seq=s, sequence_parallel=split, attention=attention, dropout=True)
        kept = t.activation_byte(model_vector(GPT, s, True), plan_vector(plan), IDEAL, False)
        scores = per_score * a * s * s * b / tp if per_score else 4 * s * b * a / tp
        assert kept == pytest.approx(s * b * h * first + scores)


def test_full_recomputation_keeps_a_layers_input() -> None:
    plan = TrainPlan(tp=8, micro_batch=1, seq=2048, sequence_parallel=True, recompute="full")
    kept = t.activation_byte(model_vector(GPT, 2048), plan_vector(plan), IDEAL, True)
    assert kept == 2048 * 12288 * 2 / 8


@pytest.mark.parametrize(("zero", "byte"), [(0, 16.0), (1, 4 + 12 / 64), (2, 2 + 14 / 64), (3, 16 / 64)])
def test_zero_stages_by_hand(zero: int, byte: float) -> None:
    # Rajbhandari et al. 2020, table 1: 2 + 2 + 12 bytes a parameter over 64 ranks: 120, 31.4, 16.6, 1.9 GB for 7.5 B
    plan = TrainPlan(dp=64, batch=64, zero=zero, grad_byte=2.0)
    m = memory(plan)
    assert m["weight"] + m["grad"] + m["optimizer"] == pytest.approx(byte * parameter_count(GPT), rel=1e-3)


def test_parameters_are_those_of_the_model() -> None:
    assert parameter_count(GPT) == pytest.approx(175e9, rel=0.005)
    assert parameter_count(models.load("llama-2-70b")) == pytest.approx(69.0e9, rel=0.005)
    assert parameter_count(models.load("mixtral-8x7b")) == pytest.approx(46.7e9, rel=0.005)


@pytest.mark.parametrize(("field", "value"), [("tp", 2), ("pp", 2), ("dp", 2)])
def test_more_devices_never_need_more_memory_each(field: str, value: int) -> None:
    base = TrainPlan(tp=1, pp=1, dp=1, batch=8, zero=1)
    more = TrainPlan(**{**{"batch": 8, "zero": 1}, field: value})
    assert memory(more)["total"] <= memory(base)["total"]


def test_experts_are_split_over_expert_ranks() -> None:
    mixtral = model_vector(models.load("mixtral-8x7b"), 4096)
    dense, all_experts = t.layer_value(mixtral, plan_vector(TrainPlan()))
    same, few = t.layer_value(mixtral, plan_vector(TrainPlan(ep=8, dp=8, batch=8)))
    assert (same, few) == (dense, all_experts / 8)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("gpipe", 32), ("1f1b", 8), ("zb-h1", 8), ("zb-h2", 15), ("zb-v", 8), ("breadth-first", 32)],
)
def test_microbatches_in_flight_on_the_first_rank(schedule: str, expected: int) -> None:
    plan = plan_vector(TrainPlan(pp=8, batch=32, schedule=schedule))
    assert t.in_flight(plan, 0.0) == expected


def test_reserve_and_gathered_logits_come_from_the_constants() -> None:
    fit = IDEAL.copy()
    fit[t.RESERVE_BYTE], fit[t.LOGIT_GATHER_BYTE] = 3e9, 2
    plan = TrainPlan(tp=8)
    more = memory(plan, fit=fit)["total"] - memory(plan)["total"]
    assert more == pytest.approx(3e9 + 2048 * 50304 * 2)
