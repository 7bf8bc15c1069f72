"""Splitwise's machines and its queue: which prompts go together, who stands still, which machine is next. By hand."""

from kernels.engine.records import LOG_COLUMNS
from sim.serving.limits import Limits
from tests.sim.serving.serving_case import US, flat_price, load, run

POLICY = "splitwise:max_token=128,max_seq=8,prompt_token=40"
PRICE = flat_price(max_token=128, max_seq=8)  # 10 us a step, 1 us a token


def limits(num_replica=1):
    return Limits(num_block=200, block_token=4, max_context_token=160, num_replica=num_replica, prefix_cache=False)


def steps(requests):
    done = run(requests, PRICE, POLICY, limits(), record_steps=True)
    wanted = [LOG_COLUMNS.index(name) for name in ("num_prefill", "prefill_token", "num_decode")]
    return done, [tuple(row) for row in done.step[:, wanted].tolist()]


def test_whole_prompts_go_together_and_decodes_beside_them_up_to_so_many_tokens():
    """Of 30, 20 and 19 tokens at once the first goes alone, since 50 are more than 40; the two others make 39, which
    leaves one decode its place."""
    _, seen = steps(load([0, 0, 0], [30, 20, 19], [3, 2, 2]))
    assert seen == [(1, 30, 0), (2, 39, 1), (0, 0, 3)]


def test_a_prompt_that_is_longer_goes_alone_and_whole_and_decodes_stand_still():
    """The first decodes from 40 us on; the second, of 100 tokens, is there at 45 and begins at 51."""
    done, seen = steps(load([0, 45], [30, 100], [4, 1]))
    assert seen == [(1, 30, 0), (0, 0, 1), (1, 100, 0), (0, 0, 1), (0, 0, 1)]
    assert done.request["first_token_ps"].tolist() == [40 * US, 161 * US]
    assert done.request["last_token_ps"][0] == (161 + 2 * 11) * US


def test_a_prompt_goes_to_the_machine_with_the_least_to_compute_whatever_it_holds():
    """At 200 us machine 0 decodes one of 100 tokens, and machine 1 computes a prompt of 30 since 190."""
    requests = load([0, 190, 200], [100, 30, 5], [30, 30, 2])
    pending = run(requests, PRICE, POLICY, limits(2), router="least_pending").request["replica"]
    held = run(requests, PRICE, POLICY, limits(2), router="least_token").request["replica"]
    assert pending.tolist() == [0, 1, 0]
    assert held.tolist() == [0, 1, 1]
