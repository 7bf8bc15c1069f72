"""How much work training does, as counts; the rates are printed (`pytest -s`), never asserted."""

from sim.bench.bench_training import plan_search, schedule_operations, step_on_links


def test_training_work_is_counted() -> None:
    # 16 ranks x 4 chunks x 512 microbatches, forward and backward
    schedule = schedule_operations(repeat=2)
    assert schedule["operators"] == 2 * 16 * 4 * 512 * 2
    search = plan_search(num_device=32, batch=32)
    assert search["steps"] > 30_000
    # 32 stages, 128 microbatches: forward, recomputation, backward
    step = step_on_links(dp=2)
    assert step["operators"] == 32 * 128 * 3
    for name, row, column in (("operations", schedule, "operators"), ("plans", search, "steps")):
        print(f"\n{row[column] / max(row['cpu_s'], 1e-9):,.0f} {name} a processor second")
