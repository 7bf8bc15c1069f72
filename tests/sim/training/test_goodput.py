"""Long runs: every second accounted for, Daly's expectation, recovery, order statistics."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.errors import InputError
from sim.cli import main
from sim.training.goodput import LongRun, best_interval_s, expected_wall_s, simulate_run
from sim.training.stragglers import best_backup, draw, step_s
from studies._backup import exponential_order_s


def test_without_failures_only_checkpoints_cost() -> None:
    result = simulate_run(LongRun(1000, 2.0, 8, 1e12, checkpoint_s=5, interval_step=100))
    assert result.wall_s == 2000 + 9 * 5  # none after the last step
    assert (result.useful_s, result.checkpoint_s, result.num_failure) == (2000, 45, 0)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000), recovery=st.sampled_from(["restart", "elastic"]),
    mtbf_h=st.sampled_from([20.0, 200.0]),
    spare=st.integers(0, 2), checkpoint=st.sampled_from([0.0, 20.0]),
)  # fmt: skip
def test_every_second_is_accounted_for_once(
    seed: int, recovery: str, mtbf_h: float, spare: int, checkpoint: float
) -> None:
    run = LongRun(2000, 3.0, 64, mtbf_h, checkpoint, 50, num_spare=spare, recovery=recovery, num_replica=8)
    r = simulate_run(run, seed)
    parts = (r.useful_s, r.checkpoint_s, r.lost_s, r.down_s, r.degraded_s)
    assert sum(parts) == pytest.approx(r.wall_s, abs=1e-9)
    assert min(parts) >= 0
    assert r.useful_s == 2000 * 3.0  # every step counts once, however often it was computed
    assert simulate_run(run, seed) == r  # the seed decides


def test_restarts_cost_what_daly_expects() -> None:
    # one job failing every 2 h, segments of 600 s, checkpoints of 30 s, back after 120 s, spares always there
    run = LongRun(6000, 10.0, 1, 2.0, 30.0, 60, detect_s=0, restart_s=120.0, repair_s=0.0, num_spare=10_000)
    walls = [simulate_run(run, seed).wall_s for seed in range(60)]
    expected = expected_wall_s(60_000, 600.0, 30.0, 120.0, 7200.0)
    # 60 runs of 8 or so failures each: the mean's standard error is below 1 %
    assert np.mean(walls) == pytest.approx(expected, rel=0.02)


def test_the_best_interval_is_best() -> None:
    mtbf_s, cost = 7200.0, 30.0
    best = best_interval_s(cost, mtbf_s)
    wall = [expected_wall_s(1e5, factor * best, cost, 120.0, mtbf_s) for factor in (0.5, 1.0, 2.0)]
    assert wall[1] == min(wall)


def test_elastic_recovery_beats_restarts_where_repairs_are_slow() -> None:
    common = {"num_step": 3000, "step_s": 5.0, "num_device": 512, "mtbf_h": 2000.0, "checkpoint_s": 20.0}
    restart, elastic = (
        np.mean([simulate_run(LongRun(**common, recovery=name, num_replica=64), seed).goodput for seed in range(5)])  # type: ignore[arg-type]
        for name in ("restart", "elastic")
    )
    assert elastic > restart


def test_order_statistics() -> None:
    sample = np.random.default_rng(0).exponential(1.0, (20_000, 16))
    for backup in (0, 1, 4):
        # the standard error of 20,000 draws of a value of spread 1 is 0.7 %
        assert step_s(sample, backup) == pytest.approx(exponential_order_s(16, 1.0)[15 - backup], rel=0.02)
    assert exponential_order_s(16, 1.0)[-1] == pytest.approx(sum(1 / k for k in range(1, 17)))


def test_backups_pay_where_stragglers_are_heavy_and_batches_are_small_of_use() -> None:
    heavy = draw(64, 1.0, 0.05, slow_share=0.02, slow_factor=5.0)
    even = draw(64, 1.0, 0.0)
    assert best_backup(even, 1000.0, 1.0) == (0, 1.0)  # nobody is late
    backup, gain = best_backup(heavy, 16.0, 1.0)
    assert backup >= 1
    assert gain < 0.5  # up to three times and more is published for such tails


def test_draws_have_the_mean_that_was_asked() -> None:
    assert draw(100, 2.0, 0.3).mean() == pytest.approx(2.0, rel=0.01)


def test_goodput_command(capsys: pytest.CaptureFixture[str]) -> None:
    given_ = "goodput --steps 1000 --step-s 10 --gpus 1024 --mtbf-h 5000 --checkpoint-s 20 --runs 2"
    assert main(given_.split()) == 0
    assert "goodput" in capsys.readouterr().out
    assert main([*given_.split(), "--recovery", "elastic"]) == 2
    assert "another replica" in capsys.readouterr().err


def test_bad_runs_are_refused() -> None:
    with pytest.raises(InputError, match="recovery"):
        simulate_run(LongRun(1, 1.0, 1, 1.0, recovery="hope"))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("--mtbf-h 0.0001", "would hardly get on"),  # 8 devices fail every 0.045 s, a step takes 10: never one step
        ("--mtbf-h nan", "--mtbf-h: not a finite number: 'nan'"),
        ("--mtbf-h 10 --dp 4", "dp = 4: has no effect: recovery is restart"),
        ("--mtbf-h 10 --recovery elastic --dp 4 --spares 2", "spares = 2: has no effect"),
        ("--mtbf-h 10 --recovery elastic --dp 16", "more replicas than devices"),
    ],
)
def test_runs_that_cannot_be(given: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(f"goodput --steps 1000 --step-s 10 --gpus 8 {given}".split()) == 2
    assert text in capsys.readouterr().err
