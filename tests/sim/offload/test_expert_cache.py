"""Experts on the host: what must hold of caches and replays, whatever is published."""

import numpy as np
import pytest

from kernels.errors import InputError
from sim.offload.expert_cache import RULES, hits, next_use
from sim.offload.expert_replay import Offloaded, replay, ring
from workloads.expert_routing import draw, expert_rows, predicted, regrouped

MODEL = Offloaded(1e-3, lambda rows: 1e-4 * rows, 10e6, 20e9)  # a move takes 0.5 ms
SHAPE = {"num_step": 10, "num_layer": 3, "num_expert": 12, "topk": 2, "num_seq": 4}


def rows_of(skew: float = 1.0, seed: int = 0) -> np.ndarray:
    return expert_rows(draw(**SHAPE, skew=skew, stay=0.3, seed=seed), SHAPE["num_expert"])


def naive_belady(access: list[int], room: int) -> int:
    """Loads, with the furthest next use looked up each time."""
    held: set[int] = set()
    loads = 0
    for i, unit in enumerate(access):
        if unit in held:
            continue
        loads += 1
        if len(held) == room:
            rest = access[i + 1 :]
            held.remove(max(held, key=lambda u: rest.index(u) if u in rest else len(rest) + u / 1e3))
        held.add(unit)
    return loads


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("room", [1, 3, 7])
def test_no_rule_beats_belady(seed: int, room: int) -> None:
    access = np.random.default_rng(seed).integers(0, 10, 200).tolist()
    missed = {rule: int((~hits(access, room, rule)).sum()) for rule in RULES}
    assert missed["belady"] == naive_belady(access, room)
    assert min(missed.values()) == missed["belady"] >= len(set(access))


def test_a_cache_of_everything_loads_each_once() -> None:
    access = np.random.default_rng(0).integers(0, 10, 100).tolist()
    for rule in RULES:
        assert int((~hits(access, 10, rule)).sum()) == len(set(access))


def test_lru_on_a_loop_one_longer_than_its_room_never_hits() -> None:
    loop = [0, 1, 2, 3] * 5
    assert not hits(loop, 3, "lru").any()
    assert hits(loop, 3, "belady").sum() == 20 - naive_belady(loop, 3)
    assert next_use([7, 7]) == [1, 2]


@pytest.mark.parametrize("rule", ["demand", "in_turn", "predict"])
@pytest.mark.parametrize("per_layer", [True, False])
def test_what_moves_is_never_less_than_belady_moves(rule: str, per_layer: bool) -> None:
    rows = rows_of()
    said = predicted(rows, 0.8) if rule == "predict" else None
    done = replay(rows, MODEL, 4, rule, said=said, per_layer=per_layer)
    assert len(done.access) == int((rows > 0).sum())
    parts = [[e for at, e in done.access if at == j] for j in range(3)] if per_layer else [
        [12 * j + e for j, e in done.access]
    ]  # fmt: skip
    assert done.num_load >= sum(naive_belady(part, 4) for part in parts)
    assert done.busy_s == pytest.approx(done.num_load * 0.5e-3)
    assert done.second >= done.busy_s - 1e-9 or rule == "predict"


def test_bytes_moved_are_bytes_needed_where_all_experts_fit() -> None:
    rows = rows_of()
    distinct = int((rows.sum(axis=0) > 0).sum())
    for rule, said in (("demand", None), ("in_turn", None), ("predict", rows > 0)):
        assert replay(rows, MODEL, 12, rule, said=said).num_load == distinct
    computed = 30 * 1e-3 + 1e-4 * float(rows.sum())
    first = replay(rows, MODEL, 12, "in_turn")
    assert first.second == pytest.approx(computed + distinct * 0.5e-3)  # nothing hides a blocking copy


def test_a_link_without_end_leaves_the_computation() -> None:
    rows = rows_of()
    fast = MODEL._replace(link_byte_per_s=1e30)
    computed = 30 * 1e-3 + 1e-4 * float(rows.sum())
    for rule, said in (("demand", None), ("in_turn", None), ("predict", predicted(rows, 0.5))):
        assert replay(rows, fast, 3, rule, said=said).second == pytest.approx(computed)
    assert ring(rows, fast, 3).second == pytest.approx(computed)


def test_a_predictor_that_names_nothing_is_a_cache_that_waits() -> None:
    rows = rows_of()
    assert replay(rows, MODEL, 4, "predict", said=np.zeros_like(rows, bool)) == replay(rows, MODEL, 4, "demand")


def test_knowing_all_is_no_slower_than_waiting_and_waiting_no_slower_than_copies_in_turn() -> None:
    for seed in range(4):
        rows = rows_of(seed=seed)
        known = replay(rows, MODEL, 8, "predict", said=rows > 0).second
        waits, blocks = (replay(rows, MODEL, 8, rule).second for rule in ("demand", "in_turn"))
        assert known <= waits <= blocks


def test_a_ring_moves_every_expert_every_step() -> None:
    rows = rows_of()
    done = ring(rows, MODEL, 4)
    assert done.num_load == rows.size
    assert done.second >= rows.size * 0.5e-3


def test_routing_counts_every_choice_and_keeps_what_stays() -> None:
    choices = draw(**SHAPE, skew=1.2, stay=1.0)
    assert (choices == choices[0]).all()
    assert all(len(set(one.tolist())) == 2 for one in choices.reshape(-1, 2))
    assert (expert_rows(choices, 12).sum(axis=2) == 8).all()
    assert (predicted(rows_of(), 1.0) == (rows_of() > 0)).all()
    said = predicted(rows_of(), 0.5)
    assert (said.sum(axis=2) == np.minimum((rows_of() > 0).sum(axis=2), 12)).mean() > 0.8


def test_regrouping_finds_two_kinds_of_sequences() -> None:
    choices = np.zeros((3, 2, 8, 2), np.int16)
    choices[:, :, :, 1] = 1
    choices[:, :, 1::2] += 5  # every other sequence asks for others
    halves = regrouped(choices, 12)
    assert {int(one) % 2 for one in halves[:4]} in ({0}, {1})


def test_what_is_wrong_is_named() -> None:
    rows = rows_of()
    for call in (
        lambda: replay(rows, MODEL, 0, "demand"), lambda: replay(rows, MODEL, 2, "never"),
        lambda: replay(rows, MODEL, 2, "predict"), lambda: hits([1], 1, "random"),
        lambda: draw(1, 1, 2, 3, 1, skew=0, stay=0), lambda: draw(1, 1, 2, 1, 1, skew=0, stay=2),
    ):  # fmt: skip
        with pytest.raises(InputError):
            call()
