"""Ten thousand requests of continuous batching on Duplex: work as counts; the time is printed (`pytest -s`)."""

import time

from sim.run.scenario import Scenario
from sim.run.simulate import simulate


def test_ten_thousand_requests_on_duplex():
    scenario = Scenario(
        model="mixtral-8x7b", system="duplex", tp=4, ep=4, requests="conversation:rate=20,n=10000", fidelity="sol"
    )
    begin = time.process_time()
    done = simulate(scenario)
    cpu_s = time.process_time() - begin
    count = done.run.totals
    assert done.metrics["completed"] == 10_000
    # continuous batching: many sequences a step, most steps without a prompt
    assert done.metrics["total_output_tokens"] > 5 * count["num_step"]
    assert done.accounts.num_operator > 100 * count["num_step"]
    print(
        f"\n10,000 requests, {count['num_step']:,.0f} steps, {done.accounts.num_operator:,} operators in {cpu_s:.1f} s"
    )
