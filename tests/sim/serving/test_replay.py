"""Run-ahead equals operator-by-operator replay on SimPy engines: the same integers, for every policy."""

import dataclasses
import functools

import numpy as np
import pytest

from hw_models import catalog
from hw_models.device import machine
from kernels.optable import P2P
from sim.serving.accounts import accounts
from sim.serving.engine import serve
from sim.serving.limits import Limits, Options
from sim.serving.plugin import find
from sim.serving.replay import Replay
from sim.serving.result import REQUEST_COLUMNS
from sim.serving.speculation import machine_of
from sim.serving.step_price import HostTime, build
from tests.sim.serving.serving_case import US, load, run
from workloads import formats, models, placement

POLICIES = [
    "vllm_v1:max_token=64,max_seq=4", "sarathi:max_token=48,max_seq=5", "vllm_v0:max_token=512,max_seq=4",
    "orca:max_token=512,max_seq=4,reserve=pow2", "static:max_token=512,max_seq=3,reserve=oracle",
]  # fmt: skip


@functools.cache
def priced(tp, pp):
    model = models.load("gemma-3-27b")  # two classes of attention, one with a window
    host = HostTime(step_s=5e-4, seq_s=1e-5, token_s=1e-7, request_s=1e-4, dispatch_layer_s=1.2e-4, graph_token=(1, 2))
    arrays = machine(catalog.system("h100_sxm"))
    return build(model, formats.Formats(), placement.make(model, tp, pp), arrays, max_token=512, max_seq=8, host=host)


SPECULATIVE = [
    ("vllm_v1:max_token=64,max_seq=4", "chain:k=3,accept=0.8", 1, "recompute"),
    ("vllm_v1:max_token=64,max_seq=4", "bass:accept=0.9,limit=8", 2, "recompute"),
    ("sarathi:max_token=48,max_seq=5", "staged:depth=3,width=2,side=0.3,inner=1", 1, "swap"),
    ("vllm_v0:max_token=512,max_seq=4", "bass:accept=0.7,limit=5,form=pad", 1, "swap"),
    ("orca:max_token=512,max_seq=4,reserve=pow2", "staged:depth=4,inner=2", 2, "recompute"),
    ("static:max_token=512,max_seq=3,reserve=oracle", "chain:k=5,p1=0.9,p2=0.5", 1, "recompute"),
]  # fmt: skip


@functools.cache
def priced_with_draft(tp, pp, model):
    """The same model on the machine as the progress model would have it, with a small one that drafts on one device."""
    policy = dataclasses.replace(find("policy", "vllm_v1"), progress=find("progress", model))
    arrays = machine(catalog.system("h100_sxm"))
    host = HostTime(step_s=5e-4, seq_s=1e-5, token_s=1e-7, request_s=1e-4, dispatch_layer_s=1.2e-4, graph_token=(1, 2))
    name, small = models.load("gemma-3-27b"), models.load("llama-3.2-1b")
    price, lowered = build(name, formats.Formats(), placement.make(name, tp, pp), machine_of(policy, arrays),
                           max_token=512, max_seq=8, max_sampled=64, host=host)  # fmt: skip
    own = HostTime(layer_s=1e-6, dispatch_layer_s=1e-5, graph_token=(4,))
    passes, drafted = build(small, formats.Formats(), placement.make(small), arrays, max_token=512, max_seq=512,
                            host=own)  # fmt: skip
    return price._replace(draft=passes), dataclasses.replace(lowered, draft=drafted)


@pytest.mark.parametrize(("policy", "model", "pp", "preemption"), SPECULATIVE)
def test_speculation_equals_replay_on_simpy(policy, model, pp, preemption):
    """Passes of a draft model and ragged verifications, priced by sums and features, against operators one by one."""
    random = np.random.default_rng(3)
    num = 12
    requests = load(
        np.sort(random.integers(0, 150_000, num)), random.integers(1, 110, num), random.integers(1, 40, num)
    )
    limits = Limits(
        num_block=24 if "reserve" not in policy else 64, block_token=8, max_context_token=160, num_replica=2,
        preemption=preemption, host_block=60 if preemption == "swap" else 0,
    )  # fmt: skip
    price, lowered = priced_with_draft(2, pp, model)
    with_model = dataclasses.replace(find("policy", policy), progress=find("progress", model))
    router = find("router", "least_token")
    ahead = serve(requests, price, with_model, router, limits, Options(seed=11))
    replay = Replay(requests, price, lowered, with_model, router, limits, Options(seed=11))
    seq = replay.run()
    for name, column in REQUEST_COLUMNS.items():
        np.testing.assert_array_equal(ahead.request[name], seq[column], err_msg=name)
    for name, values in ahead.counter.items():
        if name != "num_plan":
            np.testing.assert_array_equal(values, replay.world.engine[name], err_msg=name)
    assert ahead.request["accepted_token"].sum() > 0
    spent = accounts(ahead, lowered)
    assert replay.num_operator == spent.num_operator
    on_stage = sum(time_ps for time_ps, kind in zip(spent.time_ps, spent.kind, strict=True) if kind != P2P)
    assert on_stage == ahead.stage_busy_ps.sum()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("pp", "preemption", "chained"), [(1, "recompute", True), (1, "swap", False), (2, "recompute", False)]
)
def test_run_ahead_equals_replay_on_simpy(policy, pp, preemption, chained):
    random = np.random.default_rng(7)
    num = 14
    prompt, output = random.integers(1, 120, num), random.integers(1, 40, num)
    group = random.integers(0, 3, num)
    unit_token, ids, edges = 16, [], [0]
    for i in range(num):
        count = int((prompt[i] + output[i]) // unit_token)
        ids += [int(group[i]) * 20 + unit if unit < 3 else 100 + 20 * i + unit for unit in range(count)]
        edges.append(len(ids))
    _, dense = np.unique(ids, return_inverse=True)
    parent = np.where(chained & (np.arange(num) % 4 == 3), np.arange(num) - 2, -1)
    requests = load(
        np.sort(random.integers(0, 150_000, num)), prompt, output, parent=parent, think_ps=np.full(num, 3000 * US),
        unit_start=edges[:-1], unit_stop=edges[1:], unit_id=dense, unit_token=unit_token,
    )  # fmt: skip
    limits = Limits(
        num_block=32 if "reserve" not in policy else 64, block_token=8, max_context_token=200, num_replica=2,
        preemption=preemption, host_block=60 if preemption == "swap" else 0,
    )  # fmt: skip
    price, lowered = priced(2, pp)
    ahead = run(requests, price, policy, limits, "least_token")
    replay = Replay(
        requests, price, lowered, find("policy", policy), find("router", "least_token"), limits, Options()
    )  # fmt: skip
    seq = replay.run()
    for name, column in REQUEST_COLUMNS.items():
        np.testing.assert_array_equal(ahead.request[name], seq[column], err_msg=name)
    for name, values in ahead.counter.items():
        if name != "num_plan":
            np.testing.assert_array_equal(values, replay.world.engine[name], err_msg=name)
    assert replay.num_operator == accounts(ahead, lowered).num_operator
