"""What sequences hold in the store: hand arithmetic for every rule, and published models at long contexts."""

import pathlib
from typing import Any

import numpy as np
import pytest

from kernels.engine import records as at
from kernels.engine.store import block_for
from kernels.engine.types import engine_of
from kernels.errors import InputError
from ridgeline import Scenario, simulate
from sim.serving import state
from sim.serving.limits import Limits, Options
from sim.serving.plugin import find
from sim.serving.rules import Group, Rules
from sim.serving.stores import store_of
from tests.sim.serving.serving_case import flat_price, load, run
from workloads import formats, kv, memory, models, placement

POLICY = "vllm_v1:max_token=512,max_seq=8"


def engine(groups, block_token=4):
    limits = Limits(num_block=1000, block_token=block_token, groups=groups)
    price = flat_price(max_token=512, max_seq=16)
    return engine_of(state.build(load([0], [5], [5]), price, find("policy", POLICY), limits, Options()), 0)


@pytest.mark.parametrize(
    ("groups", "computed", "total", "blocks"),
    [
        ((Group(),), 0, 9, 3),  # tokens 0..8 in blocks of four
        ((Group("linear", 0, 3),), 8, 9, 9),
        ((Group("window", 8),), 0, 20, 5),  # a chunk of twenty with nothing before it
        ((Group("window", 8),), 19, 20, 2),  # token 19 sees 12..19: blocks 3 and 4
        ((Group("window", 8),), 20, 21, 3),  # token 20 sees 13..20: blocks 3, 4, 5
        ((Group("window", 8, 2), Group()), 19, 20, 4 + 5),
        ((Group("budget", 8),), 19, 20, 2),
        ((Group("budget", 8),), 0, 20, 5),  # a prompt is computed whole before anything is dropped
        ((Group("ratio", 4),), 39, 40, 3),  # ten entries
        ((Group("ratio", 128), Group("state", 0, 7)), 39, 40, 7),
    ],
)
def test_blocks_by_hand(groups, computed, total, blocks):
    assert block_for(engine(groups), computed, total) == blocks


def held_byte(name, prompt, output):
    """Bytes of the store that one sequence holds at its last step, and those that its configuration says."""
    model = models.load(name)
    placed = placement.make(model)
    budget = memory.budget(model, formats.Formats(), placed, 80e9)
    store = store_of(budget, 1, 16)
    limits = Limits(store.num_block, 16, max_context_token=model.max_context, groups=store.groups)
    price = flat_price(max_token=4096, max_seq=8)
    done = run(load([0], [prompt], [output]), price, "vllm_v1:max_token=2048,max_seq=8", limits, record_steps=True)
    used = done.step[-1, at.LOG_COLUMNS.index("used_block")]
    kept = kv.groups(model, formats.Formats(), placed)
    return used * store.block_byte, kv.sequence_byte(kept, prompt + output - 1), kv.token_byte(kept)


@pytest.mark.parametrize(("name", "over"), [("mistral-7b", 4.0), ("gpt-oss-20b", 2.0), ("llama-2-7b", 1.0)])
def test_windowed_layers_hold_a_window(name, over):
    # at 16 K tokens a store that kept every token of every layer would hold `over` times too much
    length = 16_000 if name != "llama-2-7b" else 4_000
    held, said, token_byte = held_byte(name, length - 100, 100)
    assert said <= held <= said + 3 * 16 * token_byte  # whole blocks: one at each end of a window, one in full layers
    assert token_byte * length / held == pytest.approx(over, rel=0.03)


def test_a_window_lets_more_sequences_run_at_once():
    # forty blocks: two sequences of eighty tokens in full, or all eight at a window of sixteen
    requests = load([0] * 8, [8] * 8, [72] * 8)
    price = flat_price(max_token=512, max_seq=16)
    spans = [
        run(requests, price, POLICY, Limits(num_block=40, block_token=4, groups=(group,))).span_ps
        for group in (Group(), Group("window", 16))
    ]
    assert spans[1] < 0.6 * spans[0]
    assert np.isclose(spans[1], 72 * 18e6, rtol=0.1)  # all eight decode together: 10 us and one for each


def test_a_preempted_sequence_finds_its_own_blocks():
    # two sequences that outgrow thirty blocks: the second is preempted; where its blocks stay behind it computes
    # again only what was evicted
    requests = load([0, 0], [40, 40], [40, 40])
    price = flat_price(max_token=512, max_seq=16)
    limits = {"num_block": 30, "block_token": 4, "max_context_token": 128}
    lost, kept = (run(requests, price, POLICY, Limits(**limits, rules=Rules(own_cache=own))) for own in (False, True))
    assert lost.counter["num_recompute"].sum() >= 1
    assert kept.counter["num_hit_token"].sum() > 0
    assert kept.counter["num_token"].sum() < lost.counter["num_token"].sum()
    hit = int(kept.counter["num_hit_token"].sum())
    assert hit % 4 == 0  # whole blocks
    assert 2 * 79 <= kept.counter["num_token"].sum() < 2 * 79 + 80  # at worst what one sequence held is computed again


def test_prompts_of_one_step_share_what_they_have_in_common():
    # eight prompts of 64 tokens with 48 in common arrive at once: found within the step, those are computed once
    units = [[0, 1, 2] for _ in range(8)]
    requests = load(
        [0] * 8, [64] * 8, [4] * 8, unit_start=np.arange(8) * 3, unit_stop=np.arange(8) * 3 + 3,
        unit_id=np.concatenate(units), unit_token=16,
    )  # fmt: skip
    price = flat_price(max_token=512, max_seq=16)
    for early, computed in ((True, 64 + 7 * 16), (False, 8 * 64)):
        done = run(requests, price, POLICY, Limits(num_block=200, rules=Rules(share_early=early)))
        assert done.counter["num_token"].sum() == computed + 8 * 3


def test_who_ends_holds_its_seat_until_the_next_step_is_planned():
    # one seat: the second begins a step later, for the engine hears of the first one's end after it has planned
    requests = load([0, 0], [4, 4], [3, 3])
    price = flat_price(max_token=512, max_seq=16)
    first = "vllm_v1:max_token=512,max_seq=1"
    soon, late = (
        run(requests, price, first, Limits(num_block=50, plan_ahead=1, rules=Rules(end_late=held)))
        for held in (False, True)
    )
    assert soon.request["end_ps"][0] == late.request["end_ps"][0]
    assert late.counter["num_plan"].sum() == soon.counter["num_plan"].sum() + 2  # an empty plan after each end


def test_a_policy_of_ones_own_computes_along_who_has_ended_unseen(tmp_path):
    # its rows are checked, and it asks for KV of who has produced a last token that nobody has seen yet
    own = tmp_path / "mine.py"
    own.write_text(pathlib.Path(str(find("policy", POLICY).module.__file__)).read_text())
    usual, mine = (
        simulate(Scenario(model="llama-3-8b", system="h100_sxm", engine="vllm_0.33", ends="token", policy=policy,
                          requests="poisson:rate=20,n=50,prompt=200,output=30")).result
        for policy in ("vllm_v1", str(own))
    )  # fmt: skip
    np.testing.assert_array_equal(usual.request["end_ps"], mine.request["end_ps"])


def test_who_cannot_be_computed_again_is_served_alone_and_given_up_where_it_is_preempted():
    # the second outgrows the blocks beside the first and is preempted: alone it is served, beside the first it ends
    # where it can be computed again, and is given up else: nobody waits for ever
    groups, most = (Group("window", 20), Group()), 35 + 22  # 139 tokens in full, 64 of a chunk and 19 before it
    pair, alone = load([0, 0], [1, 60], [59, 80]), load([0], [60], [80])
    price = flat_price(max_token=512, max_seq=16)
    aborted = []
    for num_block in range(42, most + 2):
        limits = Limits(num_block=num_block, block_token=4, max_context_token=160, groups=groups)
        policy = "vllm_v1:max_token=64,max_seq=5"
        assert run(alone, price, policy, limits).counter["num_finished"].sum() == 1
        done = run(pair, price, policy, limits)
        aborted.append(int(done.counter["num_aborted"].sum()))
        assert done.counter["num_refused"].sum() == 0
        assert done.counter["num_finished"].sum() == 2 - aborted[-1]
        if aborted[-1]:
            assert num_block < most
            assert done.request["reason"].tolist() == [at.NO_REASON, at.REASON_KV]
            assert done.request["num_preempted"][1] > 0
    assert 0 < sum(aborted) < len(aborted)


def test_a_whole_prompt_that_grew_beyond_a_step_is_given_up():
    # twelve blocks of four: both are admitted, the second is preempted after some of its thirty tokens; as one prompt
    # these and its own twelve are more than a step of sixteen
    price = flat_price(max_token=16, max_seq=16)
    limits = Limits(num_block=12, block_token=4, max_context_token=64)
    policy = "vllm_v0:max_token=16,max_seq=4"
    assert run(load([0], [12], [30]), price, policy, limits).counter["num_finished"].sum() == 1
    done = run(load([0, 0], [4, 12], [36, 30]), price, policy, limits)
    assert done.counter["num_refused"].sum() == 0
    assert done.request["reason"].tolist() == [at.NO_REASON, at.REASON_STEP]


def test_who_is_preempted_while_its_steps_are_in_flight_lets_others_pass_where_they_drain():
    # three stages, a prompt in each, and blocks for one of them to the end: where the preempted ones drain, a short
    # request that came last is admitted while steps of theirs are in flight; else it waits behind them
    requests = load([0, 0, 0, 100], [16, 16, 16, 4], [30, 30, 30, 2])
    price = flat_price(max_token=512, max_seq=16, num_stage=3)
    ends = []
    for drains in (False, True):
        rules = Rules(pooled=True, by_admission=True, goes_on=True, drains=drains)
        limits = Limits(num_block=16, block_token=4, max_context_token=64, rules=rules)
        done = run(requests, price, "vllm_v1:max_token=16,max_seq=8", limits)
        assert done.request["produced_token"].tolist() == [30, 30, 30, 2]
        assert done.request["num_preempted"][0] == 0
        ends.append(done.request["end_ps"].tolist())
    assert ends[0][3] > ends[0][1]
    assert ends[1][3] < ends[1][0]


@pytest.mark.parametrize(
    ("radix", "between", "hit"), [(False, False, 16), (False, True, 24), (True, False, 0), (True, True, 16)]
)
def test_a_branch_of_the_tree_is_evicted_as_a_whole_until_somebody_parts_it(radix, between, hit):
    # thirteen blocks: A leaves four named ones and one of its own, and C lacks one of the nine that its batch wants
    # free. Where they are a branch all five go, and D finds none of its four; where B asked for the first two
    # meanwhile, those stay
    names = [[0, 1, 2, 3], [0, 1] if between else [], [], [0, 1, 2, 3]]
    stop = np.cumsum([len(each) for each in names])
    requests = load(
        [0, 1000, 2000, 3000], [20, 9 if between else 2, 32, 17], [1, 1, 1, 1],
        unit_start=[0, *stop[:-1]], unit_stop=stop, unit_id=np.concatenate(names).astype(int), unit_token=4,
    )  # fmt: skip
    limits = Limits(num_block=13, block_token=4, max_context_token=64, rules=Rules(own_cache=True, radix=radix))
    done = run(requests, flat_price(max_token=512, max_seq=16), "sglang:max_token=512,max_seq=8", limits)
    assert done.counter["num_hit_token"].sum() == hit
    assert done.counter["num_finished"].sum() == 4


@pytest.mark.parametrize(
    ("rules", "change", "said"),
    [
        (Rules(radix=True), {"preemption": "swap", "host_block": 4}, "computes again what it preempts"),
        (Rules(radix=True, keep_duplicate=True), {}, "a tree holds a block once"),
        (Rules(radix=True), {"evict": "lfu"}, "evicts its branches in order of use"),
    ],
)
def test_what_does_not_go_with_a_tree_of_prefixes(rules: Rules, change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Limits(num_block=8, rules=rules, **change)


@pytest.mark.parametrize("rules", [Rules(), Rules(own_cache=True, radix=True)])
def test_each_replica_finds_what_it_holds_itself_where_requests_name_one_place(rules: Rules) -> None:
    """Twelve requests of one prompt of eight units, in turn: on each replica one computes it, and five find it."""
    shared = load(np.arange(12) * 5, [8 * 16 + 5] * 12, [6] * 12, unit_start=[0] * 12, unit_stop=[8] * 12,
                  unit_id=list(range(8)), unit_token=16)  # fmt: skip
    limits = Limits(num_block=60, block_token=16, max_context_token=400, num_replica=2, rules=rules)
    done = run(shared, flat_price(), "vllm_v1:max_token=512,max_seq=8", limits)
    assert done.counter["num_hit_token"].tolist() == [5 * 8 * 16] * 2
