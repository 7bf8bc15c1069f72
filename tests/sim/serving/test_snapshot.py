"""States of recurrent layers that others go on from: chunks, hits, blocks by hand; nothing is lost, ahead or not."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.engine import records as at
from kernels.engine.lanes import settle_all
from kernels.engine.price import pack
from kernels.engine.snapshot import PLACE
from kernels.engine.types import engine_of, fleet_of
from kernels.errors import InputError
from sim.run.scenario import Scenario
from sim.run.setup import prepare
from sim.run.simulate import simulate
from sim.serving import state, stepping
from sim.serving.limits import ENDS, Limits, Options
from sim.serving.plan import plan_rows
from sim.serving.plugin import find
from sim.serving.rules import Group, Rules
from tests.sim.serving.serving_case import attention_price, flat_price, load, run, same, with_scans
from tests.sim.serving.test_run_ahead import POLICIES, loads, served

RULES = Rules(
    own_cache=True, share_early=True, keep_duplicate=True, by_admission=True, admit_whole=True, find_state=True
)
PRICES = {stage: with_scans(attention_price(512, 8, stage, window=40)) for stage in (1, 3)}
POLICY = "vllm_v1:max_token=256,max_seq=8"


def planned(requests, exports, num_block=400, **more):
    """Rows of each step, and the run: blocks of 16 tokens, a state of one group beside one of attention."""
    plans = []

    def note(engine, lane):
        plans.append({int(row["sequence"]): int(row["token"]) for row in plan_rows(engine, lane)})
        return -1

    groups = (Group(), Group("align", int(exports), 1))
    limits = Limits(num_block, 16, max_context_token=1024, groups=groups, rules=RULES, **more)
    done = run(requests, flat_price(10, 0, 256, 8), POLICY, limits, engine="stepping", execute=note)
    return plans, done


def shared(arrivals, prefixes, tails, output=3):
    """Requests whose prompts begin with so many blocks of one prefix."""
    stop = np.cumsum(prefixes)
    ids = np.concatenate([np.arange(num) for num in prefixes])
    prompt = 16 * np.array(prefixes) + np.array(tails)
    return load(arrivals, prompt, [output] * len(prompt), unit_start=stop - prefixes, unit_stop=stop, unit_id=ids)


@pytest.mark.parametrize(("exports", "chunks"), [(False, [96, 4]), (True, [100])])
def test_a_prompt_stops_at_its_last_whole_block_unless_a_kernel_leaves_the_state_there(exports, chunks):
    plans, done = planned(load([0], [100], [3]), exports)
    assert [plan[0] for plan in plans] == [*chunks, 1, 1]
    assert done.counter["num_hit_token"].sum() == 0


def test_a_prompt_of_whole_blocks_leaves_the_state_before_its_last():
    plans, _ = planned(load([0], [96], [1]), False)
    assert [plan[0] for plan in plans] == [80, 16]


def test_the_same_prompt_again_goes_on_from_its_state():
    plans, done = planned(shared([0, 100], [6, 6], [4, 4]), True)
    assert [plan[1] for plan in plans if 1 in plan] == [4, 1, 1]
    assert done.request["cached_token"].tolist() == [0, 96]


def test_where_prompts_part_there_is_a_state_from_the_second_on():
    # three blocks in common: the first leaves a state at its own end alone; the second finds keys of three blocks, and
    # stops there for the third
    plans, done = planned(shared([0, 100, 200], [3, 3, 3], [40, 70, 60]), True)
    assert [plan[1] for plan in plans if 1 in plan] == [48, 70, 1, 1]
    assert [plan[2] for plan in plans if 2 in plan] == [60, 1, 1]
    assert done.request["cached_token"].tolist() == [0, 0, 48]


def test_a_state_of_this_very_step_is_waited_for():
    plans, _ = planned(shared([0, 0], [6, 6], [4, 4]), True)
    assert plans[0] == {0: 100}
    assert plans[1] == {0: 1, 1: 4}


def test_what_a_step_leaves_of_its_budget_below_a_block_is_left():
    plans, _ = planned(load([0, 0], [150, 200], [1, 1]), True)
    assert plans == [{0: 150, 1: 96}, {1: 104}]  # of 106 tokens, six blocks


def test_decodes_hold_the_state_behind_them_for_a_step():
    # 14 tokens and their next: at the 17th token a block of keys and a state more; the old state leaves a step later
    _, done = planned(load([0], [14], [6]), True)
    limits = Limits(400, 16, max_context_token=1024, groups=(Group(), Group("align", 1, 1)), rules=RULES)
    done = run(load([0], [14], [6]), flat_price(10, 0, 256, 8), POLICY, limits, record_steps=True)
    used = done.step[:, at.LOG_COLUMNS.index("used_block")]
    assert used.tolist() == [2, 2, 2, 4, 3, 3]


def test_states_need_a_cache_that_finds_them():
    for rules in (Rules(), dataclasses.replace(RULES, radix=True, keep_duplicate=False)):
        with pytest.raises(InputError, match="states are found"):
            Limits(400, groups=(Group(), Group("align", 0, 1)), rules=rules)


def conserved(w):
    """Free, cached and held blocks are all there are; every named state that is held has a holder."""
    me = w.engine[0]
    settle_all(engine_of(w, 0))
    entries = []
    for bucket in w.unit["bucket"]:
        while bucket:
            entries.append(int(bucket))
            bucket = w.unit["chain"][bucket]
    ref, block = w.unit["ref"][entries], w.unit["block"][entries]
    private = int(w.seq["block"].sum() + int(me["state_block"]) * w.seq["state"].sum())
    assert int(me["free_block"]) + int(block.sum()) + private == me["num_block"]
    assert int(block[ref == 0].sum()) == me["evictable_block"]
    assert ref.sum() == w.seq["shared"].sum() + (w.unit_id[PLACE] > 0).sum()
    assert (w.unit_id[PLACE] == -1).sum() == w.seq["state"].sum()


@settings(max_examples=25, deadline=None)
@given(
    requests=loads(), num_block=st.sampled_from([50, 70, 200]), weight=st.integers(1, 3), exports=st.booleans(),
    num_stage=st.sampled_from([1, 3]), plan_ahead=st.sampled_from([0, 1]), whole=st.booleans(), pooled=st.booleans(),
    ends=st.sampled_from(ENDS),
)  # fmt: skip
def test_no_block_is_lost(requests, num_block, weight, exports, num_stage, plan_ahead, whole, pooled, ends):
    rules = dataclasses.replace(RULES, admit_whole=whole, pooled=pooled, end_late=ends == "token")
    limits = Limits(num_block, 4, max_context_token=160, groups=(Group(), Group("align", int(exports), weight)),
                    rules=rules, plan_ahead=plan_ahead, ends=ends)  # fmt: skip
    policy, router = find("policy", "vllm_v1:max_token=32,max_seq=5"), find("router", "round_robin")
    w = state.build(requests, PRICES[num_stage], policy, limits, Options())
    fleet, price = fleet_of(w, router.vector(), 0), pack(PRICES[num_stage])
    while stepping.run(w, fleet, price, policy.function, router.function, 1) == stepping.BUDGET:
        conserved(w)
    conserved(w)
    assert (w.seq["status"] >= at.FINISHED).all()


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=8, deadline=None)
@given(
    requests=loads(), num_block=st.sampled_from([50, 70, 200]), weight=st.integers(1, 3), exports=st.booleans(),
    num_stage=st.sampled_from([1, 3]), plan_ahead=st.sampled_from([0, 1]), whole=st.booleans(), pooled=st.booleans(),
    swap=st.booleans(), num_replica=st.sampled_from([1, 2]), ends=st.sampled_from(ENDS),
)  # fmt: skip
def test_run_ahead_equals_stepping_with_states(
    policy, requests, num_block, weight, exports, num_stage, plan_ahead, whole, pooled, swap, num_replica, ends
):
    rules = dataclasses.replace(RULES, admit_whole=whole, pooled=pooled, end_late=ends == "token")
    more = {"preemption": "swap", "host_block": 40} if swap else {}
    if "reserve" in policy:
        num_block += 100
    limits = Limits(num_block, 4, max_context_token=160, groups=(Group(), Group("align", int(exports), weight)),
                    rules=rules, plan_ahead=plan_ahead, num_replica=num_replica, ends=ends, **more)  # fmt: skip
    ahead, step = (
        run(requests, PRICES[num_stage], policy, limits, engine=engine, record_steps=True)
        for engine in ("run-ahead", "stepping")
    )
    same(ahead, step)
    served(ahead)


def test_blocks_of_published_hybrids():
    # Nemotron-H: 128 heads of 64 x 128 in fp32, where the file names no format (vLLM 0.33, `models/config.py`,
    # NemotronHForCausalLMConfig), and three inputs of 10,240 channels in bf16: 4,194,304 + 61,440 B, against 4,096 B a
    # token and layer of attention: 1,039 tokens, 1,040 in blocks of 16; 24 states to 4 layers of attention
    one = prepare(Scenario(model="nemotron-h-8b", system="h200_sxm", engine="vllm_0.33"))
    state_byte = 128 * 64 * 128 * 4 + 3 * 10_240 * 2
    assert -(-state_byte // 4096) == 1039
    assert one.store.block_token == 1040
    assert one.store.block_byte == 4 * 1040 * 4096
    assert one.store.groups == (Group("linear", 0, 1), Group("align", 1, 6))
    # who does not look for states, leaves none where one looks, or has no cache, keeps them a sequence
    new = {"engine": "vllm_0.33"}
    for other in ({"engine": "vllm_0.15"}, new | {"prefix_cache": False}, new | {"policy": "sarathi"},
                  new | {"policy": "orca"}):  # fmt: skip
        found = prepare(Scenario(model="nemotron-h-8b", system="h200_sxm", **other)).store
        assert (found.block_token, found.groups[-1].rule) == (16, "state")


def test_a_system_prompt_is_found_where_the_engine_finds_states():
    asked = "constant:rate=1,n=6,prompt=600,output=4,num_system_prompt=1,system_prompt_len=1600"
    new, old = (
        simulate(Scenario(model="nemotron-h-8b", system="h200_sxm", engine=engine, requests=asked))
        for engine in ("vllm_0.33", "vllm_0.15")
    )
    # a prompt of 2,200 leaves a state at 2,080 tokens, behind the shared 1,600; the second stops where its keys were
    # found to, one block of 1,040, and those behind it go on from there
    assert new.result.request["cached_token"].tolist() == [0, 0] + 4 * [1040]
    assert old.result.request["cached_token"].tolist() == 6 * [0]
    assert any("blocks of 1040 tokens" in note for note in new.run.about["note"])
    assert any("not shared" in note for note in old.run.about["note"])


@pytest.mark.parametrize("policy", ["orca", "sarathi"])
def test_a_policy_that_finds_no_state_says_so(policy):
    asked = "constant:rate=1,n=3,prompt=600,output=4,num_system_prompt=1,system_prompt_len=1600"
    done = simulate(
        Scenario(model="nemotron-h-8b", system="h200_sxm", engine="vllm_0.33", policy=policy, requests=asked)
    )
    assert done.result.request["cached_token"].tolist() == 3 * [0]
    [note] = [note for note in done.run.about["note"] if note.startswith("prefixes are")]
    assert note.startswith("prefixes are not shared")
    assert f"policy {policy}" in note
