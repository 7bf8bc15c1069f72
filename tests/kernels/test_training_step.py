"""Times of a training step: collectives in closed form, speed of light, the closed form against the replay."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_models import catalog
from kernels import training as t
from kernels.training_step import RESULT, collective_s, exchange_s, plan_step, ring_s, score_plans, stage_times
from sim.training.fitted.stack import hardware_vector, load
from sim.training.fitted.step import train
from workloads import models
from workloads.models.spec import ModelSpec
from workloads.training import TrainPlan, model_flop, model_vector, plan_vector

IDEAL = np.array(t.IDEAL_FIT)
A100 = hardware_vector(catalog.system("dgx_a100", 16))
GPT = models.load("gpt3-175b")


def closed_form(model: ModelSpec, plan: TrainPlan, fit: t.Floats) -> dict[str, float]:
    out = np.zeros(len(RESULT))
    vector = model_vector(model, plan.seq, plan.dropout)
    plan_step(vector, plan_vector(plan), A100, fit, np.zeros((4, len(t.STAGE))), out)
    return dict(zip(RESULT, out.tolist(), strict=True))


def test_ring_inside_a_node_and_across_nodes() -> None:
    # (n-1)/n of the bytes over one device's link and n-1 latencies; across nodes the 8 members of a node share its
    # 8 ports, so that a ring over 2 nodes carries 15/16 of the bytes over 8 x 25 GB/s, and one of 15 steps goes across
    inside = collective_s(8e9, 8, 1, A100, IDEAL)
    assert inside == pytest.approx(7 / 8 * 8e9 / 300e9 + 7 * A100[t.UP_LATENCY_S])
    across = collective_s(8e9, 16, 1, A100, IDEAL)
    bandwidth = 15 / 16 * 8e9 / min(8 * 25e9, 300e9)
    assert across == pytest.approx(bandwidth + A100[t.OUT_LATENCY_S] + 14 * A100[t.UP_LATENCY_S])  # 15 hops
    # one device of each of 128 nodes: 127 hops, which a ring of log2 steps took for 7
    alone = collective_s(8e9, 128, 8, A100, IDEAL)
    assert alone == pytest.approx(127 / 128 * 8e9 / 25e9 + 127 * A100[t.OUT_LATENCY_S])
    # one member a node: one port
    assert collective_s(8e9, 2, 8, A100, IDEAL) == pytest.approx(0.5 * 8e9 / 25e9 + A100[t.OUT_LATENCY_S])
    assert collective_s(8e9, 1, 1, A100, IDEAL) == 0


def test_an_exchange_leaves_a_node_through_every_port() -> None:
    # inside a node 7/8 of a device's bytes over its link, as a gather of the same bytes; over 4 nodes 24/32 of them
    # over its own port of 25 GB/s, where a ring would share the ports of a node
    inside = exchange_s(8e9, 8, 1, A100, IDEAL)
    assert inside == collective_s(8e9, 8, 1, A100, IDEAL)
    assert exchange_s(8e9, 32, 1, A100, IDEAL) == pytest.approx(24 / 32 * 8e9 / 25e9 + A100[t.OUT_LATENCY_S])
    assert exchange_s(8e9, 1, 1, A100, IDEAL) == 0


def test_a_ring_leaves_a_node_through_one_port() -> None:
    # inside a node 7 hops over a device's links: what a gather of all 8 parts takes; over two nodes 15 hops at the pace
    # of the port between them, where a gather would use all eight
    assert ring_s(1e9, 8, 1, A100, IDEAL) == pytest.approx(collective_s(8e9, 8, 1, A100, IDEAL))
    assert ring_s(1e9, 16, 1, A100, IDEAL) == pytest.approx(15 * (1e9 / 25e9 + A100[t.OUT_LATENCY_S]))
    assert ring_s(1e9, 1, 1, A100, IDEAL) == 0


@settings(max_examples=25, deadline=None)
@given(
    tp=st.sampled_from([1, 2, 8]), pp=st.sampled_from([1, 2, 4]), dp=st.sampled_from([1, 2]), b=st.sampled_from([1, 2]),
    recompute=st.sampled_from(t.RECOMPUTES), stack=st.sampled_from(["sol", "megatron-a100", "llama-a100"]),
)  # fmt: skip
def test_no_step_is_faster_than_light(tp: int, pp: int, dp: int, b: int, recompute: str, stack: str) -> None:
    plan = TrainPlan(tp, pp, dp, micro_batch=b, batch=64, recompute=recompute)
    # causal attention needs half of the score products that the model's FLOP count has
    causal = 6 * plan.token * plan.seq * GPT.hidden * GPT.num_layer
    least = (model_flop(GPT, plan) - causal) / (plan.num_device * A100[t.FLOP_PER_S])
    assert closed_form(GPT, plan, load(stack).fit)["step_s"] >= least * (1 - 1e-12)


def test_time_grows_with_work() -> None:
    fit = load("megatron-a100").fit
    steps = [closed_form(GPT, TrainPlan(8, 8, 1, batch=batch), fit)["step_s"] for batch in (64, 128, 256)]
    assert steps == sorted(steps)
    for slower in ("selective", "full"):
        plans = [TrainPlan(8, 8, 1, batch=64, attention="unfused", recompute=r) for r in ("none", slower)]
        assert closed_form(GPT, plans[1], fit)["step_s"] > closed_form(GPT, plans[0], fit)["step_s"]


@pytest.mark.parametrize(
    ("schedule", "interleave", "tolerance"),
    [("gpipe", 1, 0.02), ("1f1b", 1, 0.02), ("interleaved-1f1b", 3, 0.02), ("breadth-first", 2, 0.02),
     ("zb-h1", 1, 0.03), ("zb-h2", 1, 0.05), ("zb-v", 2, 0.05)],
)  # fmt: skip
def test_closed_form_agrees_with_the_replay(schedule: str, interleave: int, tolerance: float) -> None:
    # the same operations; the closed form neglects where hops hide and, for V shapes, uneven F, I and W
    plan = TrainPlan(8, 8, 1, batch=64, schedule=schedule, interleave=interleave, attention="fused_softmax")
    replayed = train(GPT, "dgx_a100", _for_replay(plan), stack="megatron-a100").summary["step_s"]
    assert closed_form(GPT, plan, load("megatron-a100").fit)["step_s"] == pytest.approx(replayed, rel=tolerance)


def _for_replay(plan: TrainPlan) -> TrainPlan:
    from dataclasses import replace

    return replace(plan, interleave=1) if plan.schedule == "zb-v" else plan


def test_what_does_not_fit_is_not_timed() -> None:
    plans = np.array([plan_vector(TrainPlan(8, 8, 1, batch=64)), plan_vector(TrainPlan(1, 1, 1, batch=64))])
    seconds, peak = np.zeros((2, 2))
    assert score_plans(model_vector(GPT, 2048), plans, A100, IDEAL, seconds, peak) == 1
    assert np.isfinite(seconds[0])
    assert np.isinf(seconds[1])
    assert peak[1] > A100[t.MEM_BYTE] > peak[0]


# Korthikanti et al. 2022, table 5: step time with full recomputation, and with selective recomputation and sequence
# parallelism; hidden, layers, heads, tp, pp, interleave, batch, micro batch
PUBLISHED = [
    (6144, 48, 64, 8, 1, 1, 4, 4, 1.42, 1.10),
    (12288, 96, 96, 8, 8, 3, 64, 1, 18.13, 13.75),
    (20480, 105, 128, 8, 35, 3, 280, 1, 49.05, 37.83),
    (25600, 128, 160, 8, 64, 1, 512, 1, 94.42, 71.49),
]


@pytest.mark.parametrize("row", PUBLISHED)
def test_published_megatron_step_times_within_5_percent(row: tuple[float, ...]) -> None:
    h, layers, heads, tp, pp, v, batch, b, *published = row
    values = {"hidden": h, "num_layer": layers, "num_head": heads, "num_kv_head": heads, "head_dim": h / heads,
              "inter": 4 * h, "num_up": 1, "vocab": 51200, "seq": 2048, "tied": 1, "position_row": 2048,
              "dropout": 1}  # fmt: skip
    model = np.array([values.get(name, 0.0) for name in t.MODEL])
    for recompute, split, step_s in (("full", False, published[0]), ("selective", True, published[1])):
        plan = TrainPlan(
            int(tp), int(pp), micro_batch=int(b), batch=int(batch), interleave=int(v), recompute=recompute,
            schedule="interleaved-1f1b" if v > 1 else "1f1b", sequence_parallel=split, attention="fused_softmax",
        )  # fmt: skip
        out, memory = np.zeros(len(RESULT)), np.zeros(len(t.MEMORY))
        fit = load("megatron-a100").fit
        ours = plan_step(model, plan_vector(plan), A100, fit, np.zeros((4, len(t.STAGE))), out)
        assert ours == pytest.approx(step_s, rel=0.05)
        assert t.peak_byte(model, plan_vector(plan), fit, memory) < A100[t.MEM_BYTE]  # they ran


def test_activations_that_leave_cost_memory_nothing_and_time_only_where_the_link_is_slow() -> None:
    vector, fit = model_vector(GPT, 2048), load("megatron-a100").fit
    kept, gone = (TrainPlan(8, 8, 1, batch=64, act_offload=share) for share in (0.0, 1.0))
    memory = np.zeros((2, len(t.MEMORY)))
    t.plan_memory(vector, plan_vector(kept), fit, 0.0, memory[0])
    t.plan_memory(vector, plan_vector(gone), fit, 0.0, memory[1])
    assert memory[1, t.M_ACTIVATION] == 0
    # a layer leaves while another comes back
    layer = t.activation_byte(vector, plan_vector(kept), fit, False)
    assert memory[1, t.M_BUFFER] - memory[0, t.M_BUFFER] == pytest.approx(2 * layer)
    slow = A100.copy()
    slow[t.HOST_BYTE_PER_S] = 1e9
    rows, out = np.zeros((4, len(t.STAGE))), np.zeros(len(RESULT))
    quick, late = (plan_step(vector, plan_vector(gone), hw, fit, rows, out) for hw in (A100, slow))
    assert quick >= closed_form(GPT, kept, fit)["step_s"]
    # 12 layers, 64 microbatches, out and back over 1 GB/s: the link alone bounds the step from below
    assert late >= 2 * 64 * 12 * layer / 1e9


def test_logits_in_parts_are_divided_by_them() -> None:
    vector, memory = model_vector(GPT, 8192), np.zeros((2, len(t.MEMORY)))
    for row, parts in zip(memory, (1, 8), strict=True):
        plan = TrainPlan(8, seq=8192, recompute="full", logit_chunk=parts)
        t.plan_memory(vector, plan_vector(plan), IDEAL, 0.0, row)
    assert memory[0, t.M_LOGIT] == 8192 * GPT.vocab * 10 / 8  # 10 B a logit at speed of light, 8 ranks
    assert memory[0, t.M_LOGIT] == 8 * memory[1, t.M_LOGIT]
    # the recomputed layer takes the room of the logits once they are gone: the larger of the two counts
    vector, plan = model_vector(GPT, 8192), plan_vector(TrainPlan(8, seq=8192))
    layer, stored = t.activation_byte(vector, plan, IDEAL, False), 8192 * GPT.hidden * 2.0 * GPT.num_layer
    for row in memory:
        assert row[t.M_LOGIT] + row[t.M_ACTIVATION] == pytest.approx(stored + max(layer, row[t.M_LOGIT]))


def test_a_chunked_backward_pass_never_holds_less_than_the_forward_pass() -> None:
    vector, fit = model_vector(GPT, 8192), IDEAL
    held = [
        t.passing_byte(vector, plan_vector(TrainPlan(8, seq=8192, recompute="full", backward_chunk=n)), fit)
        for n in (1, 2, 4, 8192)
    ]
    assert held == sorted(held, reverse=True)
    assert held[0] == t.activation_byte(vector, plan_vector(TrainPlan(8, seq=8192)), fit, False)
    assert held[1] == held[0]  # two parts at once: halves save nothing
    # with one token at a time the forward pass is what is left: residual stream, normed input and both sides of the
    # activation function (a plain one: one up-projection)
    assert held[-1] == pytest.approx(8192 * 2 * (2 * GPT.hidden + 2 * GPT.block[0].ffn.inter / 8))


def test_adapters_are_counted_by_hand_and_alone_have_gradients_and_states() -> None:
    vector, memory = model_vector(GPT, 2048), np.zeros((2, len(t.MEMORY)))
    for row, rank in zip(memory, (0, 16), strict=True):
        t.plan_memory(vector, plan_vector(TrainPlan(lora_rank=rank)), IDEAL, 0.0, row)
    h, layers = GPT.hidden, GPT.num_layer
    # query, key, value and output: h + h each; up and down: h + 4h each; rank 16
    adapter = layers * 16 * (4 * 2 * h + 2 * 5 * h)
    assert memory[1, t.M_GRAD] == 4 * adapter
    assert memory[1, t.M_OPTIMIZER] == 12 * adapter
    assert memory[1, t.M_WEIGHT] - memory[0, t.M_WEIGHT] == pytest.approx(2 * adapter)
    assert memory[1, t.M_ACTIVATION] == memory[0, t.M_ACTIVATION]  # inputs are kept for the adapters' gradients


def test_a_frozen_model_saves_a_third_of_the_matrix_products() -> None:
    full, lora = (closed_form(GPT, TrainPlan(8, batch=64, lora_rank=rank), IDEAL)["step_s"] for rank in (0, 16))
    assert lora < full
    # forward, input gradients and weight gradients are three equal products, of which one goes; attention and passes
    # over memory stay
    assert lora > full * 2 / 3


def test_ulysses_sends_less_than_tensor_parallelism_gathers() -> None:
    # 4 exchanges of 1/P of the sequence a device against 2 gathers and 2 scatters of all of it: P times fewer bytes
    ulysses = closed_form(GPT, TrainPlan(cp=8, seq=65536, ulysses=True), IDEAL)["cp_s"]
    gathered = 4 * collective_s(65536.0 * GPT.hidden * 2, 8, 1, A100, IDEAL) * GPT.num_layer * 2
    latency = 7 * A100[t.UP_LATENCY_S] * GPT.num_layer * 2
    assert (gathered - 4 * latency) / (ulysses - latency) == pytest.approx(8)


def test_half_a_batch_hides_the_others_communication() -> None:
    fit = load("megatron-a100").fit
    exposed, half, hidden = (
        closed_form(GPT, TrainPlan(8, 8, 1, batch=64, tp_overlap=share), fit) for share in (0.0, 0.5, 1.0)
    )
    assert half["tp_s"] == pytest.approx(exposed["tp_s"] / 2)
    assert hidden["tp_s"] == 0  # compute is longer here
    assert hidden["step_s"] < half["step_s"] < exposed["step_s"]


# Megatron-LM's published H100 table, sequence 4096, vocabulary 131072: hidden, layers, heads (shapes that give the
# stated sizes, 1.7 B to 462 B), tp, pp, GPUs, batch, micro batch, chunks a rank, MFU in percent
H100_TABLE = [
    (2048, 24, 16, 1, 1, 48, 192, 4, 1, 41), (5120, 48, 40, 4, 1, 192, 192, 4, 1, 49),
    (7168, 48, 56, 8, 1, 384, 192, 2, 1, 46), (8192, 84, 64, 8, 2, 768, 384, 1, 7, 42),
    (10752, 84, 84, 8, 4, 1536, 768, 1, 7, 43), (12288, 96, 96, 8, 6, 2304, 1152, 1, 8, 44),
    (16384, 96, 128, 8, 8, 3072, 1536, 1, 6, 48), (18432, 112, 144, 8, 16, 6144, 3072, 1, 7, 47),
]  # fmt: skip


@pytest.mark.parametrize("row", H100_TABLE)
def test_published_h100_mfu_within_3_points(row: tuple[int, ...]) -> None:
    h, layers, heads, tp, pp, num_device, batch, b, v, mfu = row
    s, vocab = 4096, 131072
    values = {"hidden": h, "num_layer": layers, "num_head": heads, "num_kv_head": heads, "head_dim": h / heads,
              "inter": 4 * h, "num_up": 1, "vocab": vocab, "seq": s, "position_row": s}  # fmt: skip
    model = np.array([float(values.get(name, 0.0)) for name in t.MODEL])
    plan = TrainPlan(
        tp, pp, num_device // tp // pp, micro_batch=b, batch=batch, seq=s, interleave=v, sequence_parallel=tp > 1,
        zero=1, schedule="interleaved-1f1b" if v > 1 else "1f1b", fused_norm=True,
    )  # fmt: skip
    hw, out = hardware_vector(catalog.system("dgx_h100")), np.zeros(len(RESULT))
    fit = load("megatron-h100").fit
    step_s = plan_step(model, plan_vector(plan), hw, fit, np.zeros((4, len(t.STAGE))), out)
    flop = 72 * batch * s * layers * h**2 * (1 + s / (6 * h) + vocab / (12 * layers * h))  # Narayanan et al. 2021
    assert 100 * flop / (step_s * num_device * hw[t.FLOP_PER_S]) == pytest.approx(mfu, abs=3)


def test_narrow_products_leave_attention_and_the_head_in_16_bits() -> None:
    system, fit = catalog.system("dgx_h100"), load("megatron-h100").fit
    vector, laid = model_vector(GPT, 8192), plan_vector(TrainPlan(8, 8, batch=64, seq=8192))
    rows = {}
    for number_format in ("bf16", "fp8"):
        hw = hardware_vector(system, number_format)
        for where in (t.MIDDLE, t.LAST):
            rows[number_format, where] = np.zeros(len(t.STAGE))
            stage_times(vector, laid, hw, fit, where, rows[number_format, where])
    wide, narrow = rows["bf16", t.MIDDLE], rows["fp8", t.MIDDLE]
    # a weight gradient is as long as the products of a forward pass, and little besides: half of it goes from either
    saved = wide - narrow
    assert saved[t.FORWARD_S] == pytest.approx(saved[t.WEIGHT_GRAD_S])
    assert saved[t.WEIGHT_GRAD_S] == pytest.approx(wide[t.WEIGHT_GRAD_S] / 2, rel=1e-3)
    assert saved[t.INPUT_GRAD_S] == pytest.approx(saved[t.FORWARD_S])  # the products of the input gradient
    head = [rows[kind, t.LAST][t.FORWARD_S] - rows[kind, t.MIDDLE][t.FORWARD_S] for kind in ("bf16", "fp8")]
    assert head[0] == pytest.approx(head[1])
