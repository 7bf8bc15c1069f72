"""Recurrent state in a serving run: bytes and slots by hand arithmetic, steps that do not see the context, preemption
that loses the state, and what is not shared."""

import dataclasses

import numpy as np
import pytest

from hw_models import catalog
from hw_models.calibration import scan_fit
from hw_models.device import machine
from kernels import optable as op
from kernels.engine import records as at
from kernels.price import price_table
from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from sim.serving.limits import Limits, Options
from sim.serving.plugin import find
from sim.serving.replay import Replay
from sim.serving.result import REQUEST_COLUMNS
from sim.serving.rules import Group, Rules
from sim.serving.step_price import build, step_cost
from sim.serving.stores import store_of
from tests.sim.serving.serving_case import flat_price, load, run
from workloads import formats, kv, lowering, memory, models, placement
from workloads.models.layers.delta import Delta
from workloads.models.spec import NO_ATTENTION, Block
from workloads.rows import Rows

LLAMBA_STATE = 32 * (32 * 128 * 64 * 4 + 8192 * 3 * 2)  # layers x (fp32 state of 32 heads, inputs of the convolution)


def priced(model, pp=1, tp=1):
    placed = placement.make(model, tp, pp)
    arrays = machine(catalog.system("h100_sxm"), "calibrated")
    return build(model, formats.of(model), placed, arrays, max_token=512, max_seq=16)


def budget_of(name):
    model = models.load(name)
    return memory.budget(model, formats.of(model), placement.make(model), 80e9)


def decode(num, length):
    yes = np.ones(num, bool)
    return lowering.Plan(np.ones(num, np.int64), np.full(num, length), yes, yes)


def prompts(num, length):
    yes = np.ones(num, bool)
    return lowering.Plan(np.full(num, length), np.full(num, length), ~yes, yes)


def test_llamba_is_its_published_configuration():
    model = models.load("llamba-8b")
    layer = 4096 * (4096 + 8192 + 32) + 8192 * 5 + 4096 + 32 + 4096 * 4096 + 3 * 4096 * 14336 + 2 * 4096
    assert models.num_param(model) == 2 * 128_256 * 4096 + 32 * layer + 4096
    assert kv.state_byte(kv.groups(model, formats.of(model), placement.make(model))) == LLAMBA_STATE


def test_slots_are_the_budget_over_the_state():
    budget = budget_of("llamba-8b")
    store = store_of(budget, 1, 16)
    assert (store.block_byte, store.groups) == (LLAMBA_STATE, (Group("state", 0, 1),))
    assert store.num_block == budget.kv // LLAMBA_STATE
    # of a hybrid, 4 layers of 8 heads of keys and values; the state takes whole pages beside them, once
    hybrid = budget_of("granite-4.0-h-small")
    found = store_of(hybrid, 1, 16)
    state = 36 * (128 * 64 * 128 * 2 + (8192 + 2 * 128) * 3 * 2)
    assert found.block_byte == 16 * 16_384
    assert found.groups == (Group("linear", 0, 1), Group("state", 0, -(-state // (16 * 16_384))))


def test_no_more_sequences_run_than_states_fit():
    store = store_of(budget_of("llamba-8b"), 1, 16)
    slots = 5
    limits = Limits(slots, 16, max_context_token=4096, groups=store.groups)
    policy = "vllm_v1:max_token=512,max_seq=16"
    done = run(load([0] * 12, [40] * 12, [30] * 12), flat_price(max_token=512, max_seq=16), policy, limits,
               record_steps=True)  # fmt: skip
    num_running = done.step[:, at.LOG_COLUMNS.index("num_running")]
    assert num_running.max() == slots
    assert done.counter["num_recompute"].sum() == 0  # a state does not grow
    assert done.counter["num_finished"].sum() == 12


def test_a_decode_of_recurrent_layers_does_not_see_the_context():
    price, _ = priced(models.load("llamba-8b"))
    near, far = (step_cost(price, price, decode(8, length)) for length in (100, 100_000))
    assert (near[0] == far[0]).all()
    model = models.load("granite-4.0-h-small")
    mixed, _ = priced(model, tp=2)
    near, far = (step_cost(mixed, mixed, decode(8, length))[0][0] for length in (100, 100_000))
    assert near < far


def test_steps_grow_with_tokens_and_with_sequences():
    price, _ = priced(models.load("nemotron-h-8b"))
    decodes = [int(step_cost(price, price, decode(num, 200))[0][0]) for num in range(1, 17)]
    one = [int(step_cost(price, price, prompts(1, length))[0][0]) for length in range(1, 513, 37)]
    assert decodes == sorted(decodes)
    assert one == sorted(one)


def test_tensor_parallelism_divides_the_state_and_pipelines_the_layers():
    model = models.load("granite-4.0-h-small")
    whole, halves = (kv.state_byte(kv.groups(model, formats.of(model), placement.make(model, tp))) for tp in (1, 2))
    assert halves == pytest.approx(whole / 2, rel=1e-3)
    price, _ = priced(model, pp=2, tp=2)
    assert price.scan_layer.sum(axis=0).tolist() == [36, 36]  # convolution and recurrence
    alone, _ = priced(model, tp=2)
    assert alone.scan_layer.tolist() == [[36, 36]]


def test_attention_alone_has_no_scan():
    price, lowered = priced(models.load("llama-3-8b"))
    assert price.scan.size == 0
    assert lowered.scans() == []


def test_a_preempted_sequence_begins_from_nothing():
    # states of ten blocks: two sequences of forty blocks of KV in eighty, so that one is preempted; nothing of it stays
    groups = (Group(), Group("state", 0, 10))
    requests = load(
        [0, 0], [40, 40], [60, 60], unit_start=[0, 2], unit_stop=[2, 4], unit_id=[0, 1, 0, 1], unit_token=16
    )
    limits = {"num_block": 60, "block_token": 4, "max_context_token": 128, "groups": groups}
    price = flat_price(max_token=512, max_seq=16)
    policy = "vllm_v1:max_token=512,max_seq=8"
    done = run(
        requests, price, policy, Limits(**limits, rules=Rules(own_cache=True, share_early=True)), record_steps=True
    )
    assert done.counter["num_recompute"].sum() == 1
    assert done.counter["num_hit_token"].sum() == 0
    late = int(done.request["produced_token"].sum())
    assert late == 120
    # each token once, and the preempted sequence's prompt and produced tokens again
    again = done.counter["num_token"].sum() - 2 * 99
    assert 40 < again < 100
    used = done.step[:, at.LOG_COLUMNS.index("used_block")]
    assert used[0] == 2 * (10 + 10)
    assert used.max() <= 60


def test_a_swapped_state_comes_back():
    groups = (Group(), Group("state", 0, 10))
    requests = load([0, 0], [40, 40], [60, 60])
    limits = Limits(60, 4, max_context_token=128, groups=groups, preemption="swap", host_block=100)
    done = run(requests, flat_price(max_token=512, max_seq=16), "vllm_v1:max_token=512,max_seq=8", limits)
    assert done.counter["num_swap"].sum() == 1
    moved = int(done.counter["num_moved_block"].sum())
    assert moved % 2 == 0
    assert moved // 2 >= 10 + 40 // 4  # its state and its prompt's KV, out and in
    assert done.counter["num_token"].sum() == 2 * 99


def hybrid():
    """Two layers of attention with a window, three recurrent, one with both."""
    llama, falcon = models.load("mistral-7b"), models.load("falcon-h1-7b")
    full = llama.block[0]
    own = dataclasses.replace(falcon.block[0].mixer, num_head=32, head_dim=64)
    kinds = (full, Block(NO_ATTENTION, full.ffn, mixer=own), dataclasses.replace(full, mixer=own))
    return dataclasses.replace(llama, block=kinds, layer=(0, 1, 2, 1, 1, 0))


@pytest.mark.parametrize(("pp", "preemption"), [(1, "recompute"), (1, "swap"), (2, "recompute")])
def test_a_hybrid_equals_its_replay_on_simpy(pp, preemption):
    random = np.random.default_rng(3)
    num = 10
    requests = load(np.sort(random.integers(0, 20_000, num)), random.integers(1, 120, num), random.integers(1, 40, num))
    groups = (Group("window", 64), Group("state", 0, 5))
    limits = Limits(64, 8, max_context_token=200, preemption=preemption, host_block=90 * (preemption == "swap"),
                    groups=groups)  # fmt: skip
    price, lowered = priced(hybrid(), pp)
    policy, router = "vllm_v1:max_token=64,max_seq=4", "round_robin"
    ahead = run(requests, price, policy, limits, router)
    replay = Replay(requests, price, lowered, find("policy", policy), find("router", router), limits, Options())
    seq = replay.run()
    for name, column in REQUEST_COLUMNS.items():
        np.testing.assert_array_equal(ahead.request[name], seq[column], err_msg=name)


def test_a_run_accounts_for_its_recurrences():
    done = simulate(
        Scenario(model="falcon-h1-7b", system="h100_sxm", requests="constant:rate=20,n=20,prompt=300,output=20")
    )
    spent = done.accounts
    assert {"conv", "scan", "attention"} <= set(spent.name)
    on_stage = spent.time_ps[spent.kind != op.P2P].sum()
    assert on_stage == done.result.stage_busy_ps.sum()
    # every decode reads and writes its state once: half of the bytes of decode scans, but for inputs and results
    mixer = models.load("falcon-h1-7b").block[0].mixer
    state = (
        44 * mixer.inner * mixer.state * mixer.state_byte if mixer.state_byte else 44 * mixer.inner * mixer.state * 2
    )
    decode_byte = spent.amount[(spent.kind == op.RECUR), 0].sum()
    assert decode_byte >= 2 * state * 20 * 19
    assert decode_byte == pytest.approx(2 * state * 20 * 19, rel=0.05)
    assert any("inherited" not in note and "scan by" in note for note in done.run.about["note"])


def test_measured_rows_are_the_operators_of_the_layer_kind():
    import pandas as pd

    row = {"batch": 3, "query_len": 200, "num_k_head": 16, "head_k_dim": 128, "num_v_head": 32, "head_v_dim": 128,
           "conv_channel": 8192, "d_conv": 4}  # fmt: skip
    frame = pd.DataFrame([row])
    for channel_decay, chunked in ((False, "scan"), (True, "scan_channel")):
        mixer = Delta(32 if channel_decay else 16, 32, 128, 128, 4, 4.0, channel_decay)
        for kind, decode in (("conv", False), (chunked, False), ("recur", True)):
            own = frame.assign(num_k_head=mixer.num_key_head, conv_channel=mixer.channel)
            if kind == "recur" and channel_decay:
                continue  # fitted on a decay a head
            work = lowering.work_rows([1 if decode else 200] * 3, [200] * 3)
            rows = Rows(formats.Formats(), placement.make(models.load("llama-3-8b")), 1)
            mixer.scan(rows, work, decode)
            ops = rows.table()
            made = ops[ops["kind"] == op.KIND_CODE[kind]][0]
            found = scan_fit.rows_of(own.assign(query_len=1) if decode else own, kind)
            assert found.flop[0] == made["flop"]
            assert found.read[0] == made["weight_byte"] + made["act_byte"]
            assert found.write[0] == made["write_byte"]


def test_a_lone_long_prompt_waits_for_its_chunks():
    """Thirty-two chains on 132 cores: eight prompts take hardly longer than one, and one of twice the length twice."""
    arrays = machine(catalog.system("h100_sxm"), "calibrated")
    mixer = models.load("qwen3-next-80b-a3b").block[0].mixer or models.load("qwen3-next-80b-a3b").block[1].mixer

    def scan_s(num, length):
        rows = Rows(formats.Formats(), placement.make(models.load("llama-3-8b")), 1)
        work = lowering.work_rows([length] * num, [length] * num)
        mixer.scan(rows, work, False)
        ops = rows.table()
        return price_table(ops[ops["kind"] == op.SCAN], work, arrays)["time_ps"][0] * 1e-12

    assert scan_s(4, 8192) < 1.3 * scan_s(1, 8192)
    assert scan_s(1, 16_384) == pytest.approx(2 * scan_s(1, 8192), rel=0.05)
    assert scan_s(64, 8192) > 8 * scan_s(1, 8192)
