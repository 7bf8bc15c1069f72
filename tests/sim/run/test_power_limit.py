"""A power limit in a serving run: what it takes in time and gives in watts."""

import dataclasses
import pathlib

import pytest

from hw_models import catalog
from hw_models.clock import capped_clock, limited
from kernels.errors import InputError
from kernels.units import PS_PER_S
from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from workloads.requests import build

BASE = Scenario(model="llama-3-8b", system="h100_sxm", requests="poisson:rate=8,n=60,prompt=2000,output=20",
                goodput="ttft:1.0 tpot:0.05")  # fmt: skip
PREFILL = dataclasses.replace(BASE, requests="batch:n=8,prompt=4000,output=1")
DECODE = dataclasses.replace(BASE, requests="batch:n=4,prompt=16,output=200")
H100 = catalog.device("h100_sxm")


def test_a_limit_of_the_tdp_is_none() -> None:
    plain, full = (simulate(dataclasses.replace(BASE, power_limit_W=watt)).metrics for watt in (0.0, H100.tdp_w))
    assert plain == full


def test_products_slow_down_by_the_clock_and_reads_do_not() -> None:
    clock = capped_clock(limited(H100, 350.0))
    slower = [
        simulate(dataclasses.replace(one, power_limit_W=350.0)).metrics["duration"] / simulate(one).metrics["duration"]
        for one in (PREFILL, DECODE)
    ]
    assert 1.0 <= slower[1] < 1.02  # weights are read at the same rate
    assert 1.0 + 0.6 * (1 / clock - 1) < slower[0] <= 1 / clock


def test_the_lower_the_limit_the_slower_and_the_fewer_watts() -> None:
    runs = [simulate(dataclasses.replace(PREFILL, power_limit_W=watt)).metrics for watt in (700.0, 500.0, 350.0, 250.0)]
    assert [run["duration"] for run in runs] == sorted(run["duration"] for run in runs)
    assert [run["mean_power_w"] for run in runs] == sorted((run["mean_power_w"] for run in runs), reverse=True)
    assert all(run["peak_power_w"] <= watt * 1.001 for run, watt in zip(runs, (700, 500, 350, 250), strict=True))


def test_goodput_a_kilowatt_is_one_over_the_other() -> None:
    found = simulate(BASE).metrics
    assert found["request_goodput"] > 0
    assert found["request_goodput_per_kw"] == pytest.approx(
        found["request_goodput"] / found["mean_wall_power_w"] * 1000
    )


def test_idle_time_before_the_first_request_is_no_power() -> None:
    """Joules and seconds are of the same time: however late a load begins, a device draws no more than its peak."""
    late = build([100 * PS_PER_S, 101 * PS_PER_S], [500, 500], [5, 5])
    done = simulate(BASE, requests=late)
    assert H100.idle_w < done.metrics["mean_power_w"] < done.metrics["peak_power_w"]


def test_a_machine_keeps_the_limit_of_its_file(tmp_path: pathlib.Path) -> None:
    own = tmp_path / "own.toml"
    limit = 'power_limit_W = { value = 350, source = "nvidia-smi -pl 350" }'
    own.write_text(pathlib.Path(H100.file).read_text().replace("tdp_W =", f"{limit}\ntdp_W =", 1))
    sol = dataclasses.replace(PREFILL, fidelity="sol")
    found = simulate(dataclasses.replace(sol, system=str(own))).metrics["duration"]
    assert found == simulate(dataclasses.replace(sol, power_limit_W=350.0)).metrics["duration"]
    assert found > simulate(sol).metrics["duration"]


def test_a_limit_lies_between_idle_and_tdp() -> None:
    for watt in (H100.idle_w, H100.tdp_w + 1):
        with pytest.raises(InputError, match="power_limit_W"):
            simulate(dataclasses.replace(BASE, power_limit_W=watt))
