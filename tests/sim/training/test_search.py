"""Search over plans: what it may choose, that it finds the best, fronts and batch trade-offs."""

import numpy as np
import pytest

from hw_models import catalog
from kernels.errors import InputError
from kernels.train_closed import score_plans
from kernels.train_plan import PLAN_DTYPE
from sim.cli import main
from sim.training.critical_batch import Hyperbola
from sim.training.guided import guided_search
from sim.training.price import plan_record, site
from sim.training.search import PriceBook, batch_tradeoff, exhaustive, pareto, replay_best, search_sizes
from sim.training.space import Space, layouts, named_space, plan_rows
from sim.training.stack import load_stack
from workloads import models
from workloads.training import TrainPlan, check

GPT = models.load("gpt3-13b")
SPACE = Space(32, 64, max_tp=8, max_micro_batch=4, max_chunk=4)
STACK = load_stack("megatron-2022")


def distinct(rows: np.ndarray) -> int:
    """Distinct plans, whatever numbers their prices have."""
    table = rows.copy()
    table["piece"] = 0
    return len(np.unique(table.view(float).reshape(len(table), -1), axis=0))


def same(plan: TrainPlan, row: np.void) -> bool:
    """Whether a row is the record of the plan."""
    made = plan_record(GPT, plan)
    return all(made[name] == row[name] for name in PLAN_DTYPE.names or () if name != "piece")


def test_every_plan_of_the_space_uses_every_device_and_is_legal() -> None:
    from sim.training.space import to_plan

    for layout in layouts(GPT, SPACE):
        rows = plan_rows(GPT, SPACE, layout, STACK)
        assert distinct(rows) == len(rows)
        for row in rows[:: max(len(rows) // 5, 1)]:
            plan = to_plan(row, SPACE, STACK)
            assert plan.num_device == 32
            check(GPT, plan)
            if plan.schedule != "zb-v":
                assert same(plan, row)


def test_the_fastest_is_the_fastest_of_all() -> None:
    best, front, count = exhaustive(GPT, "dgx_a100", SPACE, stack=STACK, top=3)
    where, book = site(catalog.system("dgx_a100", 32), STACK), PriceBook(GPT, SPACE, STACK)
    least, fit = np.inf, 0
    for layout in layouts(GPT, SPACE):
        rows = plan_rows(GPT, SPACE, layout, STACK)
        seconds, peak = np.empty((2, len(rows)))
        fit += score_plans(rows, book.price(rows, where), where.stack, where.machine, seconds, peak)
        least = min(least, seconds.min())
    assert (best["step_s"].iloc[0], count["fit"]) == (least, fit)
    assert (front["peak_byte"] <= where.stack["mem_byte"]).all()
    assert front["step_s"].is_monotonic_increasing
    assert front["peak_byte"].is_monotonic_decreasing


def test_replayed_times_are_near_the_closed_form_and_sorted() -> None:
    best, _, _ = exhaustive(GPT, "dgx_a100", SPACE, stack=STACK, top=3)
    exact = replay_best(best, GPT, "dgx_a100", SPACE, STACK, "bf16")
    fits = exact[exact["fits"]]
    assert fits["replayed_s"].is_monotonic_increasing
    assert exact["replayed_s"].to_numpy() == pytest.approx(exact["step_s"].to_numpy(), rel=0.1)


def test_tensor_parallelism_over_two_nodes_does_not_rank_first() -> None:
    # what hides under products hides inside a node: a stack's overlap says nothing of the network
    space = Space(64, 64, seq=8192, max_tp=16, max_micro_batch=1, max_chunk=1, schedules=("1f1b",))
    best, _, _ = exhaustive(models.load("llama-3.1-70b"), "dgx_h100", space, top=5)
    assert best["tp"].max() <= 8


def test_guided_search_finds_what_is_there() -> None:
    best, _, _ = exhaustive(GPT, "dgx_a100", SPACE, stack=STACK, top=1)
    guided = guided_search(GPT, "dgx_a100", SPACE, STACK, num_trial=60, top=2)
    assert best["step_s"].iloc[0] <= guided["step_s"].iloc[0] <= 2 * best["step_s"].iloc[0]


def test_nothing_fits_is_an_error_with_the_budget() -> None:
    with pytest.raises(InputError, match="fits in 79"):
        exhaustive("gpt3-175b", "dgx_a100", Space(8, 8, max_tp=8, zeros=(0,)), stack=STACK)


def test_pareto_drops_what_does_not_fit() -> None:
    assert pareto(np.array([np.inf, 2.0, 1.0]), np.array([1.0, 2.0, 3.0])).tolist() == [2, 1]


def test_a_batch_is_judged_by_time_and_cost_to_the_target() -> None:
    spaces = [Space(32, batch, max_tp=8, max_micro_batch=2, max_chunk=1) for batch in (64, 512)]
    table = batch_tradeoff(GPT, "dgx_a100", spaces, steps=Hyperbola(1000, 512), stack="megatron-2022")
    # steps: 1000 (1 + 512/64) and 1000 (1 + 512/512); tokens fall with smaller batches
    assert table["num_step"].tolist() == [9000, 2000]
    assert table["token"].tolist() == [9000 * 64 * 2048, 2000 * 512 * 2048]
    assert table["pareto"].any()


def test_the_command_prints_plans_and_front(capsys: pytest.CaptureFixture[str]) -> None:
    given = "plan --model gpt2-xl --system dgx_a100 --batch 16"
    assert main([*given.split(), "--gpus", "8", "--top", "2"]) == 0
    assert "Pareto front" in capsys.readouterr().out
    assert main([*given.split(), "--gpus", "8,16", "--critical-batch", "100"]) == 0
    assert "target_usd" in capsys.readouterr().out
    assert main(["plan", "--model", "gpt2-xl", "--system", "dgx_a100", "--batch", "16,32", "--gpus", "8"]) == 2
    assert "--critical-batch" in capsys.readouterr().err
    assert main([*given.split(), "--gpus", "8,16", "--space", "execution", "--max-tp", "2", "--top", "2"]) == 0
    assert "memory and cost" in capsys.readouterr().out


def test_the_execution_space_is_legal_distinct_and_large() -> None:
    from sim.training.space import axes_table, to_plan

    space = named_space("execution", 32, 64, max_tp=8, max_micro_batch=2, max_chunk=2)
    count = 0
    for layout in layouts(GPT, space):
        rows = plan_rows(GPT, space, layout, STACK)
        count += len(rows)
        assert distinct(rows) == len(rows)
        for row in rows[:: max(len(rows) // 3, 1)]:
            plan = to_plan(row, space, STACK)
            check(GPT, plan)
            assert same(plan, row)
    # tp = pp = dp > 1: 3 recomputations, 3 ways of hops and sequence parallelism, 2 ZeRO stages, 2 gradients,
    # 3 overlaps of tensor and 2 of data parallelism, fused or not, 8 ways of offloading, for every schedule and batch
    one = plan_rows(GPT, space, (8, 2, 2, 1), STACK)
    pairs = np.unique(np.stack([one["schedule"], one["num_chunk"], one["micro_batch"]], 1), axis=0)
    assert len(one) == 3 * 3 * 2 * 2 * 3 * 2 * 2 * 8 * len(pairs)
    assert count > 50_000
    assert "tp_overlaps" in axes_table(GPT, space)["axis"].tolist()
    with pytest.raises(InputError, match="execution"):
        named_space("exekution", 8, 8)


def test_a_front_over_sizes_has_cost_too() -> None:
    spaces = [Space(n, 64, max_tp=8, max_micro_batch=2, max_chunk=1, schedules=("1f1b",)) for n in (16, 32)]
    best, front, count = search_sizes(GPT, "dgx_a100", spaces, stack=STACK, top=4)
    assert set(front["num_device"]) == {16, 32}  # 32 are faster, 16 cost less a step
    assert best["num_device"].iloc[0] == 32
    cheapest = front.loc[front["step_usd"].idxmin()]
    assert cheapest["num_device"] == 16
    columns = front[["step_s", "peak_byte", "step_usd"]].to_numpy()
    for row in columns:
        assert not ((columns <= row).all(axis=1) & (columns < row).any(axis=1)).any()
    assert count["plan"] > count["fit"] > 0


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("--gpus 8 --batch 8 --min-steps 5", "needs --critical-batch"),
        ("--gpus 8 --batch 8 --critical-batch 5 --guided 3", "one of the two"),
        ("--gpus 8 --batch 8 --critical-batch -5", "critical_batch = -5.0: out of range"),
        ("--gpus 8 --batch 8 --seq 0", "seq = 0: out of range"),
        ("--gpus 53 --batch 8", "num_device = 53: no layout"),  # 25 heads, 48 layers, batch 8: none can take 53
    ],
)
def test_searches_that_cannot_be(given: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(f"plan --model gpt2-xl --system dgx_a100 {given}".split()) == 2
    assert text in capsys.readouterr().err
